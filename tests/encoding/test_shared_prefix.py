"""Shared prompts: each once, followed by its completions, and a batch that says who sees whom."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.corpora import Mixture
from lemma.encoding import Example, Examples, Geometry, TrainingSet, arrange, packed, padded, shared_prefix
from lemma.encoding.packing import pack_rows
from lemma.types import InputError


def examples(number: int = 6, seed: int = 0, most: int = 4) -> list[Example]:
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> list[int]:
        return rng.integers(3, 97, rng.integers(low, high)).tolist()

    return [
        Example(f"p{i}", "s", ids(1, 9), [ids(1, 15) for _ in range(rng.integers(1, most + 1))], 1.0 + i, kind="given")
        for i in range(number)
    ]


def shared(some: list[Example], room: int = 0, **options):
    longest = max(len(e.prompt_ids) + sum(map(len, e.completions)) for e in some)
    return shared_prefix(some, pad_id=0, window_weight=3.0, row_length=longest + room, **options)


def visible(batch, query: int) -> list[int]:
    """Return the flat positions that a flat position sees, by the definition of groups and branches."""
    length = batch.input_ids.shape[1]
    row, q = divmod(query, length)
    groups, branches = batch.groups[row].tolist(), batch.branches[row].tolist()
    seen = [k for k in range(q + 1) if groups[k] == groups[q] and branches[k] in (0, branches[q])]
    return [row * length + k for k in seen]


def test_a_pair_and_its_neighbour_by_hand():
    # rows of 9: the pair takes 2 + 3 + 2 = 7, its neighbour 1 + 1 + 2 = 4; together 11 do not fit
    some = [
        Example("a", "s", [5, 6], [[7, 8, 2], [9, 2]], 0.5, kind="right_over_wrong"),
        Example("b", "t", [4], [[2], [3, 2]], kind="given"),
    ]
    batch = shared_prefix(some, pad_id=0, window_weight=3.0, row_length=9)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 2, 9, 2], [4, 2, 3, 2, 0, 0, 0]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 2, 3], [0, 1, 1, 2, 0, 1, 2]]
    assert batch.groups.tolist() == [[0] * 7, [1, 1, 1, 1, -1, -1, -1]]
    assert batch.branches.tolist() == [[0, 0, 1, 1, 1, 2, 2], [0, 1, 2, 2, 0, 0, 0]]
    assert batch.completion_index.tolist() == [2, 3, 4, 5, 6, 8, 9, 10]
    assert batch.previous_index.tolist() == [1, 2, 3, 1, 5, 7, 7, 9], "both begin after the prompt's last token"
    assert batch.mask.int().tolist() == [[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 0]]
    assert batch.weights.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert batch.num_completions == [2, 2]
    assert batch.labels == [("s", "right_over_wrong"), ("t", "given")]
    assert batch.num_tokens == 11, "each prompt is computed, and counted, once"
    assert batch.attention_mask is None
    assert batch.num_positions == 14


@given(seed=st.integers(0, 1000), number=st.integers(1, 7), room=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_every_token_sees_its_own_sequence_and_nothing_else(seed, number, room):
    some = examples(number, seed)
    batch, one = shared(some, room), padded(some, pad_id=0, window_weight=3.0)
    assert torch.equal(batch.mask, one.mask)
    assert torch.equal(batch.weights, one.weights)
    assert (batch.num_completions, batch.labels) == (one.num_completions, one.labels)
    flat, positions = batch.input_ids.flatten(), batch.position_ids.flatten()
    assert torch.equal(flat[batch.completion_index], one.input_ids.flatten()[one.completion_index])
    if batch.groups is None:
        return
    first = 0
    for row, count in enumerate(one.mask.sum(1).tolist()):  # the rows of padded are the sequences, in the same order
        sequence = one.input_ids[row, one.attention_mask[row]].tolist()
        for index in range(first, first + count):
            at = int(batch.completion_index[index])
            before = int(batch.previous_index[index])
            place = len(sequence) - count + index - first
            assert flat[visible(batch, at)].tolist() == sequence[: place + 1]
            assert positions[visible(batch, at)].tolist() == list(range(place + 1))
            assert flat[visible(batch, before)].tolist() == sequence[:place], "the token before predicts it"
        first += count


@given(seed=st.integers(0, 1000), room=st.integers(0, 60), break_even=st.floats(1, 1000))
@settings(max_examples=60, deadline=None)
def test_blocks_share_rows_as_sequences_of_their_lengths_would(seed, room, break_even):
    some = examples(7, seed)
    lengths = [len(e.prompt_ids) + sum(map(len, e.completions)) for e in some]
    batch = shared(some, room, break_even=break_even)
    rows = pack_rows(lengths, max(lengths) + room, break_even)
    assert list(batch.input_ids.shape) == [len(rows), max(sum(lengths[i] for i in row) for row in rows)]
    if batch.groups is not None:
        found = [sorted(set(row.tolist()) - {-1}) for row in batch.groups]
        assert found == [sorted(row) for row in rows]
        assert int((batch.groups == -1).sum()) == batch.num_positions - sum(lengths)
        longest = max(len(e.prompt_ids) + max(map(len, e.completions)) for e in some)
        assert int(batch.position_ids.max()) < longest, "padding reaches no position that no token has"


def test_one_completion_each_is_packed_exactly():
    some = examples(9, most=1)
    one = shared(some, 20)
    other = packed(
        some, pad_id=0, window_weight=3.0, row_length=20 + max(len(e.prompt_ids) + len(e.completions[0]) for e in some)
    )
    for name, value in vars(other).items():
        mine = getattr(one, name)
        assert torch.equal(mine, value) if isinstance(value, torch.Tensor) else mine == value, name
    assert one.groups is one.branches is one.previous_index is None


def test_nothing_but_ids_depends_on_the_pad_token():
    some = examples(5, seed=3)
    longest = max(len(e.prompt_ids) + sum(map(len, e.completions)) for e in some)
    one, other = (shared_prefix(some, pad_id=i, window_weight=1.0, row_length=longest) for i in (0, 96))
    for name in ("position_ids", "groups", "branches", "completion_index", "previous_index", "mask"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_an_empty_completion_shifts_no_other():
    batch = shared([Example("a", "s", [1, 5], [[], [2, 3]])])
    assert (batch.completion_index.tolist(), batch.previous_index.tolist()) == ([2, 3], [1, 2])


def test_a_filler_counts_no_tokens():
    some = [Example("a", "s", [1], [[2], [3]], 0.0), Example("b", "s", [1, 1], [[2], [3]])]
    assert shared(some).num_tokens == 4


def test_an_example_without_a_prompt_or_longer_than_a_row_is_refused():
    with pytest.raises(ValueError, match="Expected a prompt of at least one token, but 'a' has none"):
        shared_prefix([Example("a", "s", [], [[2], [3]])], pad_id=0, window_weight=1.0, row_length=9)
    with pytest.raises(ValueError, match="Expected `row_length` to be at least 5, but got 4"):
        shared_prefix([Example("a", "s", [1], [[2, 2], [3, 3]])], pad_id=0, window_weight=1.0, row_length=4)


# The arrangement of a run


def training_set(number: int = 120) -> TrainingSet:
    rng = np.random.default_rng(5)
    some = [
        Example(f"p{i}", "s", [1] * 20, [[2] * int(rng.integers(1, 30)) for _ in range(2)], kind="given")
        for i in range(number)
    ]
    return TrainingSet(Examples.of(some[:-10]), Mixture([number - 10], seed=1), Examples.of(some[-10:]), "")


def arranged(layout: str, **options):
    geometry = options.pop("geometry", Geometry(4, 2))
    defaults = {"row_length": None, "break_even": 1000.0, "group_by_length": False, "seed": 0}
    return arrange(training_set(), geometry, layout=layout, **(defaults | options))


def test_a_row_must_hold_a_prompt_with_all_its_completions():
    lengths = [20 + sum(map(len, e.completions)) for group in training_set().groups for e in group]
    assert arranged("shared_prefix", row_length=max(lengths)).row_length == max(lengths)
    with pytest.raises(
        InputError,
        match=rf"data\.row_length: expected at least {max(lengths)}, the tokens of the longest prompt with all its "
        rf"completions \(s, pair p\d+\), but got {max(lengths) - 1}",
    ):
        arranged("shared_prefix", row_length=max(lengths) - 1)
    assert arranged("packed", row_length=max(lengths) - 1).row_length < max(lengths), "packed needs room for one side"


def test_the_saving_is_the_share_of_the_prompts_repetitions():
    training = training_set()
    found = arranged("shared_prefix")
    completions = int(training.examples.shared_lengths.sum()) - 20 * 110
    assert found.saved == pytest.approx(20 * 110 / (2 * 20 * 110 + completions))  # all are looked at: 28 micro-batches
    assert f"prompts once: {found.saved:.0%} fewer tokens than packed" in found.describe()
    assert found.describe().startswith(f"shared_prefix, rows of up to {found.row_length} tokens, about ")
    assert arranged("packed").saved == arranged("padded").saved == 0
    assert found.most_positions < arranged("packed").most_positions


def test_the_named_layout_makes_the_batches_and_padding_is_what_they_hold():
    training = training_set()
    for name in ("padded", "packed", "shared_prefix"):
        found = arranged(name, geometry=Geometry(4))
        layout = found.layout(0)
        order = training.mixture.epoch_order(0)
        batches = [layout([training.examples[i] for i in order[at : at + 4]], 1.0) for at in range(0, 110, 4)]
        assert all((batch.groups is not None) == (name == "shared_prefix") for batch in batches)
        tokens, positions = (sum(getattr(b, n) for b in batches) for n in ("num_tokens", "num_positions"))
        assert found.padding == pytest.approx(1 - tokens / positions), name
    assert arranged("shared_prefix").grouping(training.examples) is None


def test_padded_pairs_are_grouped_by_their_longest_sequence():
    examples = training_set().examples
    grouping = arranged("padded").grouping(examples)
    assert grouping.lengths.tolist() == [20 + max(map(len, e.completions)) for e in examples]


def test_an_obstacle_is_named_where_rows_cannot_be_shared():
    line = arranged("padded", obstacle="the recurrent state of x").describe()
    assert line.endswith(". Packed rows would mix sequences: the recurrent state of x")
