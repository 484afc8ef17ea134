"""A policy computes the same under every layout: log-probabilities, gradients, whatever stands in padding."""

import pytest
import torch
from layout_checks import FAMILIES, assert_same, gradient, make_policy, random_examples

from lemma.encoding import Example, packed, padded


def ragged_examples() -> list[Example]:
    """Return sequences of 2 to 27 tokens, prompts of one token, several completions, weights, one of them zero."""
    return random_examples(
        [(11, [5, 9], 1.0), (1, [1], 2.5), (3, [24], 1.0), (1, [12], 0.0), (7, [2, 3, 8], 0.5), (4, [1], 1.0)]
    )


def batches() -> list:
    """Return the padded batch and packed ones: tight rows, roomy rows, one row."""
    some = ragged_examples()
    rows = [packed(some, pad_id=0, window_weight=40.0, row_length=length) for length in (27, 50, 1000)]
    assert [len(batch.input_ids) for batch in rows][::2] == [5, 1]
    return [padded(some, pad_id=0, window_weight=40.0), *rows]


@pytest.mark.parametrize(
    ("attention", "method", "checkpointing"),
    [("sdpa", "full", False), ("eager", "lora", True), ("sdpa", "lora", True), ("eager", "full", False)],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_padded(base_folder, family, attention, method, checkpointing):
    if family == "gemma2" and attention == "sdpa":
        pytest.skip("transformers refuses SDPA for Gemma 2, whose attention is soft-capped")
    policy = make_policy(
        base_folder(family), attn_implementation=attention, method=method, gradient_checkpointing=checkpointing
    )
    reference, *others = batches()
    assert_same(policy, reference, others)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_stands_in_padding_changes_nothing(base_folder, family):
    policy = make_policy(base_folder(family))
    batch, other = (packed(ragged_examples(), pad_id=pad, window_weight=40.0, row_length=30) for pad in (0, 96))
    assert not torch.equal(batch.input_ids, other.input_ids)
    assert torch.equal(policy(batch), policy(other))
    assert torch.equal(gradient(policy, batch), gradient(policy, other))


def test_a_sequence_is_not_changed_by_its_neighbours_on_the_row(base_folder):
    policy = make_policy(base_folder("llama"))
    some = ragged_examples()
    batch = packed(some, pad_id=0, window_weight=1.0, row_length=1000)
    before = policy(batch)[0]
    first = int(batch.completion_index[0])
    start = first - len(some[0].prompt_ids)
    batch.input_ids[0, :start] = 50
    batch.input_ids[0, start + 40 :] = 51
    torch.testing.assert_close(policy(batch)[0], before, rtol=0, atol=1e-6)
