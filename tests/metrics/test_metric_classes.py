"""The metrics on one process, and on two that saw different, unequal and repeated rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import Metric

from lemma.metrics import Accuracy, Agreement, CompletionLength, MajAtK, PassAtK, TruncationRate, maj_at_k, pass_at_k

VOTES = torch.tensor([[0, 0, 1], [0, 1, 2], [-1, -1, -1], [3, 3, 3], [0, 1, 1]])
CORRECT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
NUM_TOKENS = torch.tensor([[3, 4, 8], [10, 10, 10], [0, 1, 2], [7, 7, 1], [2, 2, 2]])
# Rows of each rank, in updates; the last problem is never seen.
SHARED_OUT = {
    "unequal": [[[0, 1], [2]], [[3]]],
    "empty": [[[0, 1, 2, 3]], []],
    "repeated": [[[0, 1], [1]], [[1, 2, 3]]],
}


def make_metrics() -> list[Metric]:
    return [
        Accuracy(5),
        PassAtK(5, num_samples=3, ks=[2, 1]),
        MajAtK(5, num_samples=3, ks=[2, 3]),
        Agreement(5, num_samples=3),
        CompletionLength(5, num_samples=3),
        TruncationRate(5, num_samples=3),
    ]


def update(metrics: list[Metric], rows: list[int]) -> None:
    index = torch.tensor(rows, dtype=torch.long)
    for metric in metrics:
        metric.update(index, *(rows[index] for rows in rows_of(metric)))


def rows_of(metric: Metric) -> list[torch.Tensor]:
    """Return what the metric takes of all problems."""
    return {
        Accuracy: [CORRECT[:, 0]],
        PassAtK: [CORRECT],
        MajAtK: [VOTES, CORRECT],
        Agreement: [VOTES],
        CompletionLength: [NUM_TOKENS],
        TruncationRate: [NUM_TOKENS > 7],
    }[type(metric)]


def results(metrics: list[Metric]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(metric.compute(), metric.per_problem()) for metric in metrics]


def run_rank(rank: int, store: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = {}
    for name, ranks in SHARED_OUT.items():
        metrics = make_metrics()
        for rows in ranks[rank]:
            update(metrics, rows)
        found[name] = results(metrics)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def expected_results() -> list[tuple[torch.Tensor, torch.Tensor]]:
    metrics = make_metrics()
    update(metrics, [0, 1, 2, 3])
    return results(metrics)


def test_two_processes_equal_one_with_unequal_empty_and_repeated_rows(tmp_path: Path):
    mp.start_processes(run_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    expected = expected_results()
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt").values():
            assert len(found) == 6
            for pair, expected_pair in zip(found, expected, strict=True):
                for value, expected_value in zip(pair, expected_pair, strict=True):
                    torch.testing.assert_close(value, expected_value, equal_nan=True)


def assert_values(found: torch.Tensor, expected: list) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), equal_nan=True)


def test_values_by_hand():
    nan = torch.nan
    accuracy, passing, majority, agreeing, length, truncated = expected_results()
    assert_values(accuracy[0], 0.5)
    assert_values(accuracy[1], [1, 0, 0, 1, nan])
    # pass@2 of 3: c = 2 -> 1, c = 1 -> 1 - C(2,2)/C(3,2) = 2/3, c = 0 -> 0, c = 3 -> 1; pass@1 is c / 3.
    assert_values(passing[1], [[1, 2 / 3], [2 / 3, 1 / 3], [0, 0], [1, 1], [nan, nan]])
    assert_values(passing[0], [(1 + 2 / 3 + 0 + 1) / 4, (2 / 3 + 1 / 3 + 0 + 1) / 4])
    # maj@2: a a b -> 2/3; three ways, one right -> 1/2 on two of three pairs = 1/3; none -> 0; all -> 1.
    # maj@3: a wins; a tie of three -> 1/3; none -> 0; all -> 1.
    assert_values(majority[1], [[2 / 3, 1], [1 / 3, 1 / 3], [0, 0], [1, 1], [nan, nan]])
    assert_values(majority[0], [0.5, 7 / 12])
    assert_values(agreeing[1], [1 / 3, 0, 0, 1, nan])
    assert_values(length[1], [5, 10, 1, 5, nan])
    assert_values(truncated[1], [1 / 3, 1, 0, 0, nan])


def test_metrics_equal_the_functions_when_every_problem_is_seen():
    metrics = make_metrics()
    update(metrics, [4, 2, 0])
    update(metrics, [1, 3])
    assert torch.equal(metrics[1].per_problem(), pass_at_k(CORRECT.sum(dim=1), torch.full((5,), 3), [2, 1]))
    assert torch.equal(metrics[2].per_problem(), maj_at_k(VOTES, CORRECT, [2, 3]))


def test_a_problem_seen_twice_counts_once():
    metrics = make_metrics()
    update(metrics, [0, 0, 1])
    update(metrics, [0])
    assert metrics[0].compute().item() == 0.5


def test_no_problem_seen_is_nan():
    for metric in make_metrics():
        metric.update(torch.empty(0, dtype=torch.long), *[rows[:0] for rows in rows_of(metric)])
        assert metric.compute().isnan().all()
        assert metric.per_problem().isnan().all()


def test_reset_forgets():
    metrics = make_metrics()
    update(metrics, [0, 1])
    for metric in metrics:
        metric.reset()
        assert metric.per_problem().isnan().all()


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_out_of_range_is_an_error(index: int):
    for metric in make_metrics():
        with pytest.raises(ValueError, match="between 0 and 4"):
            metric.update(torch.tensor([index]), *[rows[:1] for rows in rows_of(metric)])


def test_shapes_that_disagree_are_an_error():
    with pytest.raises(ValueError, match="Expected `index`"):
        Accuracy(5).update(torch.tensor([0, 1]), torch.tensor([True]))
    with pytest.raises(ValueError, match="Expected `index`"):
        PassAtK(5, num_samples=3, ks=2).update(torch.tensor([0]), torch.tensor([[True, False]]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Accuracy(0),
        lambda: PassAtK(5, 3, 4),
        lambda: PassAtK(5, 3, []),
        lambda: MajAtK(5, 3, [1, 0]),
        lambda: Agreement(5, 1),
        lambda: CompletionLength(5, 0),
    ],
)
def test_impossible_sizes_are_refused_at_construction(make):
    with pytest.raises(ValueError, match="Expected"):
        make()


@pytest.mark.parametrize("kind", [PassAtK, MajAtK])
def test_a_plot_is_the_curve_over_all_k_within_its_band(kind):
    metric = kind(5, 3, 1)
    metric.update(torch.arange(4), *(rows[:4] for rows in rows_of(metric)))
    figure, ax = metric.plot()
    assert ax.figure is figure
    (curve,), (band,) = ax.lines, ax.collections
    everything = kind(5, 3, [1, 2, 3])
    everything.update(torch.arange(4), *(rows[:4] for rows in rows_of(metric)))
    assert curve.get_xdata().tolist() == [1, 2, 3]
    assert curve.get_ydata().tolist() == pytest.approx(everything.compute().tolist())
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert low < curve.get_ydata().min() <= curve.get_ydata().max() < high
    again, same = metric.plot(ax=ax)
    assert (again, same, len(ax.lines)) == (figure, ax, 2)
    with pytest.raises(ValueError, match="at least one problem"):
        kind(5, 3, 1).plot()
