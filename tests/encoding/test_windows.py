"""Windows: every example once, the same turns on every rank, exact normalisers, exact resume."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lemma.corpora import Mixture
from lemma.encoding import (
    Example,
    Examples,
    Geometry,
    LengthGrouping,
    PlannedExamples,
    PlannedLoader,
    PlannedSampler,
    padded,
    plan,
    shared_prefix,
)
from lemma.types import InputError

GEOMETRIES = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))


def layout(examples, window_weight):
    return padded(examples, pad_id=0, window_weight=window_weight)


def make_examples(number: int) -> list[Example]:
    """Return examples that differ in length, weight and first token, which is 10 + their index."""
    rng = random.Random(number)
    return [
        Example(f"p{i}", "s", [10 + i], [[3] * rng.randint(1, 9)], weight=rng.choice([0.25, 1.0, 3.0]))
        for i in range(number)
    ]


def all_ranks(order, batch_size, accumulate, num_ranks):
    return [list(plan(order, Geometry(batch_size, accumulate, num_ranks, rank))) for rank in range(num_ranks)]


@given(number=st.integers(1, 60), geometry=GEOMETRIES)
@settings(max_examples=200, deadline=None)
def test_an_epoch_is_partitioned_over_ranks_and_micro_batches(number, geometry):
    order = np.random.default_rng(number).permutation(number)
    ranks = all_ranks(order, *geometry)
    seen = Counter(int(i) for one in ranks for micro_batch in one for i in micro_batch.indices)
    assert seen == Counter(range(number))


@given(number=st.integers(1, 60), geometry=GEOMETRIES)
@settings(max_examples=200, deadline=None)
def test_every_rank_takes_the_same_number_of_micro_batches_from_the_same_windows(number, geometry):
    batch_size, _, num_ranks = geometry
    order = np.random.default_rng(number).permutation(number)
    ranks = all_ranks(order, *geometry)
    predicted = {Geometry(*geometry, rank).num_micro_batches(number) for rank in range(num_ranks)}
    assert {len(one) for one in ranks} == predicted
    for turns in zip(*ranks, strict=True):
        assert all((turn.window == turns[0].window).all() for turn in turns)
        assert all(len(turn.indices) <= batch_size for turn in turns)
        assert sum(len(turn.indices) for turn in turns) > 0  # no turn in which every rank is idle


@given(number=st.integers(1, 60), geometry=GEOMETRIES)
@settings(max_examples=100, deadline=None)
def test_a_window_is_what_lies_between_two_optimiser_steps(number, geometry):
    batch_size, accumulate, num_ranks = geometry
    size = batch_size * accumulate * num_ranks
    order = np.random.default_rng(number).permutation(number)
    ranks = all_ranks(order, *geometry)
    for first in range(0, len(ranks[0]), accumulate):  # Lightning steps every `accumulate` batches, and at the end
        inside = [int(i) for one in ranks for turn in one[first : first + accumulate] for i in turn.indices]
        start = first // accumulate * size
        assert sorted(inside) == sorted(order[start : start + size])
        for turn in ranks[0][first : first + accumulate]:
            assert sorted(turn.window) == sorted(inside)


def test_a_short_last_window_by_hand():
    # 7 examples, batch 2, accumulate 2, 2 ranks: window 8, short by one. Turn 0: rank 0 gets 0 1, rank 1 gets 2 3;
    # turn 1: 4 5 and 6.
    ranks = all_ranks(np.arange(7), 2, 2, 2)
    assert [[turn.indices.tolist() for turn in one] for one in ranks] == [[[0, 1], [4, 5]], [[2, 3], [6]]]
    # 9 examples: a second window of one example; rank 1 has nothing and still takes its turn
    ranks = all_ranks(np.arange(9), 2, 2, 2)
    assert [[turn.indices.tolist() for turn in one] for one in ranks] == [[[0, 1], [4, 5], [8]], [[2, 3], [6, 7], []]]


@given(number=st.integers(1, 40), geometry=GEOMETRIES)
@settings(max_examples=60, deadline=None)
def test_the_window_weight_is_the_brute_force_sum_over_all_ranks_micro_batches(number, geometry):
    accumulate = geometry[1]
    examples = make_examples(number)
    dataset, order = PlannedExamples(Examples.of(examples), layout), np.random.default_rng(number).permutation(number)
    batches = [[dataset[turn] for turn in one] for one in all_ranks(order, *geometry)]
    for first in range(0, len(batches[0]), accumulate):
        window = [batch for one in batches for batch in one[first : first + accumulate]]
        brute = sum(float((batch.weights * batch.completion_mask.sum(1)).sum()) for batch in window)
        for batch in window:
            assert float(batch.window_weight) == pytest.approx(brute, rel=1e-6)


def test_a_filler_repeats_an_example_with_weight_zero_and_counts_no_tokens():
    examples = make_examples(9)
    dataset = PlannedExamples(Examples.of(examples), layout)
    [*_, last] = plan(np.arange(9), Geometry(2, 2, 2, rank=1))
    batch = dataset[last]
    assert last.indices.tolist() == []
    assert batch.weights.tolist() == [0.0]
    assert batch.num_tokens == 0
    assert batch.input_ids[0, 0] == 10 + 8  # the window's first
    assert float(batch.window_weight) == examples[8].completion_weight
    assert examples[8].weight > 0  # the example itself keeps its weight


def make_loader(number=23, geometry=Geometry(2, 3, 1, 0), **options) -> PlannedLoader:  # noqa: B008
    mixture = Mixture([number], seed=7)
    return PlannedLoader(
        PlannedExamples(Examples.of(make_examples(number)), layout),
        PlannedSampler(mixture.epoch_order, geometry),
        **options,
    )


def contents(batch) -> tuple:
    return batch.input_ids.tolist(), batch.weights.tolist(), float(batch.window_weight)


def run_epochs(loader, number: int) -> list[list[tuple]]:
    return [[contents(batch) for batch in loader] for _ in range(number)]


def test_epochs_differ_in_order_and_hold_the_same_examples():
    first, second = run_epochs(make_loader(), 2)
    assert len(first) == len(second) == len(make_loader()) == 12
    assert first != second
    firsts = [sorted(row[0] for ids, *_ in epoch for row in ids) for epoch in (first, second)]
    assert firsts[0] == firsts[1] == list(range(10, 33))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_resumed_loader_goes_on_with_the_next_batch(num_workers):
    reference = [batch for epoch in run_epochs(make_loader(), 3) for batch in epoch]
    size = len(make_loader())
    cuts = [0, 1, 4, size - 1, size, size + 5, 2 * size] if num_workers else range(2 * size + 1)
    for cut in cuts:
        loader, seen = make_loader(num_workers=num_workers), 0
        state = loader.state_dict()
        while seen < cut:
            for _ in loader:
                seen += 1
                state = loader.state_dict()  # Lightning saves while the loader is in the middle of its epoch
                if seen == cut:
                    break
        resumed = make_loader(num_workers=num_workers)
        resumed.load_state_dict(state)
        rest = [contents(batch) for _ in range(3 - resumed.sampler.epoch) for batch in resumed]
        assert rest == reference[cut:], f"cut after {cut} batches"


def test_a_state_is_primitives_and_does_not_move_with_the_loader():
    loader = make_loader()
    iterator = iter(loader)
    for _ in range(5):
        next(iterator)
    state = loader.state_dict()
    assert all(type(value) is int for value in state.values())
    next(iterator)
    assert (state["epoch"], state["position"]) == (0, 5)
    assert loader.state_dict()["position"] == 6


def test_prefetched_batches_do_not_count_as_handed_out():
    loader = make_loader(num_workers=2, prefetch_factor=4)
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    assert loader.state_dict()["position"] == 3


def test_a_resumed_loader_resumes_again():
    reference = [batch for epoch in run_epochs(make_loader(), 2) for batch in epoch]
    first = make_loader()
    iterator = iter(first)
    seen = [contents(next(iterator)) for _ in range(3)]
    second = make_loader()
    second.load_state_dict(first.state_dict())
    iterator = iter(second)
    seen += [contents(next(iterator)) for _ in range(4)]
    third = make_loader()
    third.load_state_dict(second.state_dict())
    assert third.state_dict()["position"] == 7
    assert seen + [contents(batch) for _ in range(2) for batch in third] == reference


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_draws_nothing_from_the_global_generators(num_workers):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    run_epochs(make_loader(num_workers=num_workers), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"number": 40}, "num_micro_batches"),
        ({"geometry": Geometry(4, 3)}, "num_micro_batches"),
        ({"geometry": Geometry(1, 6)}, "num_micro_batches"),
        ({"number": 24, "geometry": Geometry(2, 4)}, "accumulate"),
        ({"number": 46, "geometry": Geometry(4, 3)}, "window_size"),
        ({"number": 46, "geometry": Geometry(2, 3, 2)}, "window_size"),
    ],
)
def test_a_position_of_another_geometry_is_refused(changes, key):
    state = make_loader().state_dict()
    with pytest.raises(InputError, match=rf"ckpt_path: the checkpoint was written with {key} = {state[key]}, this run"):
        make_loader(**changes).load_state_dict(state)


def test_a_rank_finds_its_own_share_after_a_resume():
    state = None
    for rank in (0, 1):
        geometry = Geometry(2, 2, 2, rank)
        reference = run_epochs(make_loader(geometry=geometry), 1)[0]
        if state is None:
            loader = make_loader(geometry=geometry)
            next(iter(loader))
            state = loader.state_dict()  # Lightning writes rank 0's alone
        resumed = make_loader(geometry=geometry)
        resumed.load_state_dict(state)
        assert [contents(batch) for batch in resumed] == reference[1:]


# Grouping by length

LONG = np.random.default_rng(0).integers(1, 500, 1000)


@given(number=st.integers(1, 200), geometry=GEOMETRIES, span=st.integers(1, 8), epoch=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_grouping_keeps_every_example_once_and_the_last_partial_window(number, geometry, span, epoch):
    size = math.prod(geometry)
    order = np.random.default_rng(number).permutation(number)
    regrouped = LengthGrouping(LONG, span).regroup(order, epoch, size)
    assert sorted(regrouped) == list(range(number))
    whole = number // size * size
    assert regrouped[whole:].tolist() == order[whole:].tolist()
    for start in range(0, whole, span * size):  # examples are exchanged within a span only
        end = min(start + span * size, whole)
        assert sorted(regrouped[start:end]) == sorted(order[start:end])


@given(number=st.integers(1, 100), geometry=GEOMETRIES)
@settings(max_examples=100, deadline=None)
def test_sorting_a_window_changes_neither_its_examples_nor_its_turns(number, geometry):
    order = np.random.default_rng(number).permutation(number)
    plain, grouped = (
        [list(plan(order, Geometry(*geometry, rank), how)) for rank in range(geometry[2])]
        for how in (None, LengthGrouping(LONG))
    )
    for before, after in zip(zip(*plain, strict=True), zip(*grouped, strict=True), strict=True):
        assert [len(turn.indices) for turn in before] == [len(turn.indices) for turn in after]
        assert all((a.window == b.window).all() for a, b in zip(before, after, strict=True))
    seen = Counter(int(i) for one in grouped for turn in one for i in turn.indices)
    assert seen == Counter(range(number))


def test_ranks_compute_neighbours_in_length_at_the_same_time():
    lengths = np.array([5, 80, 7, 60, 50, 6, 8, 70])
    ranks = [list(plan(np.arange(8), Geometry(2, 2, 2, rank), LengthGrouping(lengths))) for rank in (0, 1)]
    assert [[lengths[turn.indices].tolist() for turn in one] for one in ranks] == [
        [[80, 70], [8, 7]],
        [[60, 50], [6, 5]],
    ]


def test_windows_of_a_span_are_in_random_order_that_depends_on_seed_and_epoch_alone():
    order = np.arange(1000)

    def means(seed: int, epoch: int) -> list[float]:
        regrouped = LengthGrouping(LONG, 50, seed).regroup(order, epoch, 20)
        return LONG[regrouped].reshape(-1, 20).mean(1).tolist()

    assert means(0, 0) == means(0, 0)
    assert sorted(means(0, 0)) == sorted(means(0, 1)) == sorted(means(1, 0))
    assert means(0, 0) != means(0, 1)
    assert means(0, 0) != means(1, 0)
    assert abs(np.corrcoef(np.arange(50), means(0, 0))[0, 1]) < 0.4  # no trend; sorted it would be -1


def test_a_filler_is_the_shortest_of_its_window():
    examples = [Example(str(i), "s", [1], [[2] * length]) for i, length in enumerate([9, 3, 7])]
    *_, idle = plan(np.arange(3), Geometry(3, 1, 2, rank=1))
    assert PlannedExamples(Examples.of(examples), layout)[idle].input_ids.shape == (1, 4)


@pytest.mark.parametrize("span", [1, 3])
def test_a_grouped_loader_resumes_with_the_next_batch_and_refuses_another_grouping(span):
    def make(grouping):
        sampler = PlannedSampler(Mixture([23], seed=7).epoch_order, Geometry(2, 3), grouping)
        return PlannedLoader(PlannedExamples(Examples.of(make_examples(23)), layout), sampler)

    reference = [batch for epoch in run_epochs(make(LengthGrouping(LONG, span)), 2) for batch in epoch]
    for cut in range(12):
        loader = make(LengthGrouping(LONG, span))
        for _ in zip(range(cut), loader, strict=False):
            pass
        resumed = make(LengthGrouping(LONG, span))
        resumed.load_state_dict(loader.state_dict())
        assert [contents(batch) for _ in range(2) for batch in resumed] == reference[cut:]
    with pytest.raises(InputError, match=rf"grouped_windows = {span}, this run has 0"):
        make(None).load_state_dict(loader.state_dict())


# Pairs


def make_pairs(number: int) -> list[Example]:
    """Return pairs that differ in length and weight; the prompt's token is 10 + their index."""
    rng = random.Random(number)
    return [
        Example(
            f"q{i}", "s", [10 + i], [[3] * rng.randint(1, 9), [4] * rng.randint(1, 9)], rng.choice([0.25, 1.0]), False,
            "given",
        )
        for i in range(number)
    ]  # fmt: skip


def shared(examples, window_weight):
    return shared_prefix(examples, pad_id=0, window_weight=window_weight, row_length=60)


def pair_loader(number=23, geometry=Geometry(2, 3, 1, 0), lay_out=shared, **options) -> PlannedLoader:  # noqa: B008
    dataset = PlannedExamples(Examples.of(make_pairs(number)), lay_out)
    sampler = PlannedSampler(Mixture([number], seed=7).epoch_order, geometry)
    return PlannedLoader(dataset, sampler, **options)


@given(number=st.integers(1, 40), geometry=GEOMETRIES)
@settings(max_examples=60, deadline=None)
def test_a_window_of_pairs_counts_their_weights_once_each(number, geometry):
    batch_size, accumulate, _ = geometry
    dataset = PlannedExamples(Examples.of(make_pairs(number)), layout)
    order = np.random.default_rng(number).permutation(number)
    batches = [[dataset[turn] for turn in one] for one in all_ranks(order, *geometry)]
    for first in range(0, len(batches[0]), accumulate):
        window = [batch for one in batches for batch in one[first : first + accumulate]]
        brute = sum(float(batch.weights[::2].sum()) for batch in window)
        for batch in window:
            assert len(batch.num_completions) <= batch_size, "batch_size is pairs"
            assert len(batch.weights) == 2 * len(batch.num_completions)
            assert float(batch.window_examples) == pytest.approx(brute, rel=1e-6)
            assert float(batch.window_weight) == pytest.approx(
                sum(float((b.weights * b.mask.sum(1)).sum()) for b in window), rel=1e-6
            )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("lay_out", [layout, shared])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_reference_values_land_on_their_own_rows_after_shuffling(num_workers, lay_out):
    loader = pair_loader(lay_out=lay_out, num_workers=num_workers)
    assert all(batch.ref_logps is None for batch in loader)
    # set after the loader was made: 1000 x (10 + index) for the chosen side, one more for the rejected one
    loader.dataset.examples.ref_logps = 1000.0 * np.arange(10, 33)[:, None] + np.arange(2)
    orders = []
    for _ in range(2):
        seen = []
        for batch in loader:
            firsts = batch.input_ids.flatten()[batch.input_ids.flatten() >= 10].unique().tolist()
            assert batch.ref_logps.dtype == torch.float64
            assert batch.ref_logps.shape == batch.weights.shape
            chosen, rejected = batch.ref_logps.view(-1, 2).unbind(1)
            assert (rejected - chosen).tolist() == [1.0] * len(chosen)
            assert sorted(chosen.tolist()) == [1000.0 * first for first in sorted(firsts)]
            if lay_out is layout:
                assert chosen.tolist() == [1000.0 * first for first in batch.input_ids[::2, 0].tolist()]
            else:
                begin = batch.previous_index[torch.cumsum(batch.mask.sum(1), 0)[::2] - batch.mask.sum(1)[::2]]
                assert chosen.tolist() == [1000.0 * first for first in batch.input_ids.flatten()[begin].tolist()]
            seen += chosen.tolist()
        orders.append(seen)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == [1000.0 * first for first in range(10, 33)]


def test_a_filler_pair_weighs_nothing_and_has_its_own_reference_values():
    examples = Examples.of(make_pairs(9))
    examples.ref_logps = np.arange(18.0).reshape(9, 2)
    dataset = PlannedExamples(examples, shared)
    [*_, last] = plan(np.arange(9), Geometry(2, 2, 2, rank=1))
    batch = dataset[last]
    assert batch.weights.tolist() == [0.0, 0.0]
    assert batch.ref_logps.tolist() == [16.0, 17.0]
    assert float(batch.window_examples) == examples.weights[8]
    assert batch.num_tokens == 0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_loader_of_pairs_resumes_with_the_next_pair_across_epochs(num_workers):
    def make() -> PlannedLoader:
        loader = pair_loader(num_workers=num_workers)
        loader.dataset.examples.ref_logps = np.arange(46.0).reshape(23, 2)
        return loader

    def all_of(batch) -> tuple:
        return *contents(batch), float(batch.window_examples), batch.ref_logps.tolist()

    reference = [all_of(batch) for loader in [make()] for _ in range(2) for batch in loader]
    for cut in [3, 17] if num_workers else range(24):
        loader, seen = make(), 0
        while seen < cut:
            for _ in loader:
                seen += 1
                if seen == cut:
                    break
        resumed = make()
        resumed.load_state_dict(loader.state_dict())
        assert [all_of(b) for _ in range(2 - resumed.sampler.epoch) for b in resumed] == reference[cut:], cut
