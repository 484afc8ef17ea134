r"""Estimates the memory of a training run on one device, part by part: numbers in, bytes out.

Weights, gradients and optimiser states are counted; activations follow Korthikanti et al. 2022 (arXiv:2205.05198),
who count what each layer keeps for the backward pass. Two things differ here. The base is frozen, and a frozen linear
layer keeps no input (only its adapter does); and attention is never materialised, so that nothing is quadratic in the
length.
"""

from dataclasses import dataclass

from lemma.policy.meta import PolicySizes

_NF4_BLOCK, _NESTED_BLOCK, _8BIT_BLOCK = 64, 256, 256
_SMALLEST_8BIT_STATE = 4096
"""Elements below which bitsandbytes keeps the states of a tensor in 32 bits."""
MAX_LOGITS = 2**26
"""Logits that exist at once on a GPU (``ops.completion_logps``)."""


def nf4_bytes(count: int, *, double: bool) -> int:
    """Return the bytes of a matrix in NF4: 4 bits a weight and a constant for each block of 64.

    A constant is a float32, 0.5 bits a weight; quantised themselves they are 8 bits and a float32 for 256 of them,
    0.127 bits a weight (Dettmers et al. 2023, arXiv:2305.14314, section 3).

    Args:
        count: Weights of the matrix.
        double: Whether the constants are quantised, too.
    """
    blocks = _ceil(count, _NF4_BLOCK)
    constants = blocks + 4 * _ceil(blocks, _NESTED_BLOCK) if double else 4 * blocks
    return _ceil(count, 2) + constants


def int8_bytes(rows: int, columns: int) -> int:
    """Return the bytes of a matrix in LLM.int8(): one a weight, and a float32 for each output (arXiv:2208.07339).

    Args:
        rows: Outputs.
        columns: Inputs.
    """
    return rows * columns + 4 * rows


def optimizer_bytes(count: int, itemsize: int, *, name: str) -> int:
    """Return the bytes of AdamW's two running averages of one tensor.

    Args:
        count: Elements of the tensor.
        itemsize: Bytes an element of the parameter; torch keeps its averages alike, bitsandbytes in float32.
        name: As in ``OptimizerArgs``. In 8 bits: a byte an element, a float32 for each block of 256 (arXiv:2110.02861).
    """
    if name == "adamw":
        return 2 * itemsize * count
    if "8bit" in name and count >= _SMALLEST_8BIT_STATE:
        return 2 * (count + 4 * _ceil(count, _8BIT_BLOCK))
    return 2 * 4 * count


@dataclass(frozen=True)
class Computation:
    """In which precision a step computes, and over how much.

    Attributes:
        positions: Tokens of a micro-batch, padding included, on one device.
        compute_size: Bytes an element of the base's activations.
        adapter_size: Bytes an element of what an adapter keeps of its input.
        copies_inputs: Whether each adapter keeps a copy of its own: in another data type, or after dropout. A fused
            layer keeps what came in.
        dropout: Whether adapters drop inputs, and keep a byte an element that says which.
        full: Whether all weights are trained.
        checkpointing: Whether a layer's activations are computed again in the backward pass.
    """

    positions: int
    compute_size: int
    adapter_size: int
    copies_inputs: bool
    dropout: bool
    full: bool
    checkpointing: bool


def activation_bytes(sizes: PolicySizes, run: Computation) -> int:
    r"""Return the bytes that the backward pass needs of one micro-batch's forward pass, the head left out.

    Each of L layers keeps for a token, with hidden width h, width q of all query heads, feed-forward width f, and c
    bytes an element:

    - normalisations: their input in float32, 4h each;
    - attention: queries, keys (repeated for each query head), values, its result and that again in order: 5cq;
    - feed-forward: the gate before and after its activation and what it multiplies, 3cf; a fused SwiGLU keeps the gate
      once, 2cf; ungated, before and after the activation, 2cf;
    - adapters: each its input (a bytes an element; with dropout one more) and its r intermediate values. Where adapters
      need no copy, the inputs are shared, and attention's result is counted already: h + h + f;
    - full fine-tuning: the inputs of the linear layers, h + q + h + f, and of each normalisation's weight, h.

    With checkpointing, a layer keeps its input, ch, and one layer at a time has all of the above again.

    Args:
        sizes: Of the policy.
        run: Precision and positions.
    """
    h, q, f, c = sizes.hidden, sizes.queries, sizes.mlp, run.compute_size
    norms = sizes.norms / sizes.layers
    layer = 4 * h * norms + 5 * c * q + (3 if sizes.gated else 2) * c * f
    inputs = 2 * h + q + f
    if run.full:
        layer += c * (inputs + norms * h)
    elif run.copies_inputs:
        copied = sum(width for width, _ in sizes.adapted) / sizes.layers
        layer += (run.adapter_size + run.dropout) * copied
    else:
        layer += c * (inputs - q)
    layer += run.adapter_size * sum(rank for _, rank in sizes.adapted) / sizes.layers
    kept = sizes.layers * c * h + layer if run.checkpointing else sizes.layers * layer
    return round(run.positions * kept)


def head_bytes(sizes: PolicySizes, run: Computation) -> int:
    """Return the bytes of a chunk of logits with its temporaries, and of what goes into the head.

    Of float32 logits there are two, one of them as two copies in 16 bits, where the head is frozen, and four where it
    is trained, for its chunks are computed again in the backward pass (``ops.logps``).

    Args:
        sizes: Of the policy.
        run: Precision and positions.
    """
    logits = min(MAX_LOGITS, run.positions * sizes.vocab)
    return 4 * (4 if run.full else 2) * logits + 2 * run.compute_size * run.positions * sizes.hidden


def _ceil(count: int, size: int) -> int:
    return -(-count // size)
