"""Log-probabilities of completion tokens against the plain path through the whole vocabulary."""

import copy

import pytest
import torch

from lemma.encoding import Example, padded
from lemma.ops import Head, completion_logps, masked_sum
from lemma.policy import Policy, PolicyArgs

FAMILIES = ("llama", "qwen2", "gemma2", "gemma3", "gpt2")


def ragged_batch(seed: int = 0):
    """Return a batch of three rows of different lengths, one of two completions of one prompt."""
    generator = torch.Generator().manual_seed(seed)

    def ids(number: int) -> list[int]:
        return torch.randint(3, 97, (number,), generator=generator).tolist()

    examples = [
        Example("a", "s", ids(11), [ids(5), ids(9)]),
        Example("b", "s", ids(1), [ids(1)]),
        Example("c", "s", ids(3), [ids(14)]),
    ]
    return padded(examples, pad_id=0, window_weight=29.0)


def laid_out(batch) -> tuple:
    """Return what ``completion_logps`` wants to know of a batch."""
    return batch.input_ids, batch.completion_index, batch.mask


def plain_logps(causal_lm, batch):
    """Return (N, T) log-probabilities and mask the obvious way: all logits, log_softmax, gather, row by row."""
    logits = causal_lm(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), use_cache=False).logits
    table = logits.float().log_softmax(-1)  # (B, L, V)
    rows = []
    for row, (ids, completion) in enumerate(zip(batch.input_ids, batch.completion_mask, strict=True)):
        positions = [j for j in range(len(ids)) if completion[j]]
        rows.append(torch.stack([table[row, j - 1, ids[j]] for j in positions]))
    width = max(map(len, rows))
    stacked = torch.stack([torch.nn.functional.pad(one, (0, width - len(one))) for one in rows])
    return stacked, torch.tensor([[t < len(one) for t in range(width)] for one in rows])


def gradient(module: torch.nn.Module) -> torch.Tensor:
    """Return all gradients as one vector, and clear them."""
    vector = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return vector


def relative(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).norm() / right.norm())


@pytest.fixture(scope="module")
def policies(base_folder):
    made = {}

    def policy(family: str) -> Policy:
        if family not in made:
            made[family] = Policy(PolicyArgs(str(base_folder(family)), attn_implementation="eager", method="full"))
        return made[family]

    return policy


@pytest.mark.parametrize("family", FAMILIES)
def test_logps_and_gradient_equal_the_plain_path(policies, family):
    policy, batch = policies(family), ragged_batch()
    coefficients = torch.randn(4, 14, generator=torch.Generator().manual_seed(1))  # every token weighs differently

    expected, expected_mask = plain_logps(policy.causal_lm, batch)
    (expected * coefficients).sum().backward()
    expected_gradient = gradient(policy)

    logps, mask = policy(batch), batch.mask
    (logps * coefficients).sum().backward()

    assert mask.tolist() == expected_mask.tolist()
    assert logps.dtype == torch.float32
    assert expected.std() > 0.1  # a model whose logits are all alike would prove nothing
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)
    assert relative(gradient(policy), expected_gradient) < 1e-6


def test_gemma2s_soft_cap_is_felt(policies):
    policy, batch = policies("gemma2"), ragged_batch()
    capped = policy(batch)
    cap = policy.causal_lm.config.final_logit_softcapping
    policy.causal_lm.config.final_logit_softcapping = None
    try:
        free = policy(batch)
    finally:
        policy.causal_lm.config.final_logit_softcapping = cap
    assert (capped - free).abs().max() > 0.1


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 2, 7, 28, 29, 30, 2048])
def test_the_chunk_size_changes_nothing(policies, chunk_size, frozen):
    policy, batch = policies("llama"), ragged_batch()
    hidden = policy.causal_lm.model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state.detach()
    lm_head = copy.deepcopy(policy.causal_lm.lm_head).requires_grad_(not frozen)
    results = []
    for size in (chunk_size, 10_000):
        states = hidden.clone().requires_grad_()
        logps = completion_logps(states, *laid_out(batch), head=Head(lm_head, 97), max_logits=97 * size)
        (logps * torch.arange(1, 15)).sum().backward()
        results.append((logps.detach(), states.grad, None if frozen else gradient(lm_head)))
    (logps, states_grad, head_grad), whole = results
    assert batch.mask.sum() == batch.completion_mask.sum() == 29
    torch.testing.assert_close(logps, whole[0], atol=1e-6, rtol=0)
    assert relative(states_grad, whole[1]) < 1e-6
    if not frozen:
        assert relative(head_grad, whole[2]) < 1e-6


def test_logits_exist_for_a_chunk_of_completion_positions_only(policies):
    policy, batch, seen = policies("llama"), ragged_batch(), []

    def module(states):
        seen.append(tuple(states.shape))
        return policy.causal_lm.lm_head(states)

    hidden = torch.randn(*batch.input_ids.shape, 32, requires_grad=True)
    logps = completion_logps(hidden, *laid_out(batch), head=Head(module, 97), max_logits=10 * 97 + 50)
    assert seen == [(10, 32), (10, 32), (9, 32)]  # 29 completion tokens of 4 x 20 positions
    logps.sum().backward()
    assert sorted(seen[3:]) == [(9, 32), (10, 32), (10, 32)]  # each again in the backward pass: not kept in between


def test_two_tokens_by_hand():
    # One row: prompt 0, completion 2 1. The head is the identity on 3 dimensions, so hidden states are logits.
    # Position 0 predicts token 2: logits (0, 0, ln 2), log p = ln(2 / 4). Position 1 predicts token 1: logits
    # (ln 3, 0, 0), log p = ln(1 / 5). Position 2 predicts what nobody asks for.
    hidden = torch.tensor([[[0, 0, 2.0], [3.0, 0, 0], [9, 9, 9]]]).clamp(min=1).log()
    mask = torch.tensor([[True, True]])
    head = Head(lambda states: states, 3)
    logps = completion_logps(hidden, torch.tensor([[0, 2, 1]]), torch.tensor([1, 2]), mask, head=head)
    assert logps.tolist()[0] == pytest.approx([torch.log(torch.tensor(x)).item() for x in (1 / 2, 1 / 5)], abs=1e-6)


def test_a_completion_without_a_token_before_it_is_refused():
    with pytest.raises(ValueError, match="a prompt of at least one token, but 'b' has none"):
        padded([Example("a", "s", [5], [[6]]), Example("b", "s", [], [[6]])], pad_id=0, window_weight=2.0)


def test_what_stands_under_padding_changes_nothing(policies):
    policy, batch = policies("llama"), ragged_batch()
    before = policy(batch)
    batch.input_ids[~batch.attention_mask] = 55
    after = policy(batch)
    assert torch.equal(before, after)


def test_a_masked_value_may_be_anything_and_has_no_gradient():
    nan, inf = float("nan"), float("inf")
    values = torch.tensor([[1.0, 2.0, nan], [inf, 4.0, -inf], [nan, nan, nan]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    total = masked_sum(values, mask)
    assert total.tolist() == [3.0, 4.0, 0.0]
    total.sum().backward()
    assert values.grad.tolist() == mask.float().tolist()
