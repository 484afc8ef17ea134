"""The metrics on one process, and on two that saw different, unequal and repeated rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torchmetrics import Metric

from lemma.metrics import Accuracy, MajAtK, PassAtK, maj_at_k, pass_at_k

VOTES = torch.tensor([[0, 0, 1], [0, 1, 2], [-1, -1, -1], [3, 3, 3], [0, 1, 1]])
CORRECT = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], dtype=torch.bool)
# Rows of each rank, in updates; the last problem is never seen.
SHARED_OUT = {
    "unequal": [[[0, 1], [2]], [[3]]],
    "empty": [[[0, 1, 2, 3]], []],
    "repeated": [[[0, 1], [1]], [[1, 2, 3]]],
}


def make_metrics() -> list[Metric]:
    return [Accuracy(5), PassAtK(5, num_samples=3, k=2), MajAtK(5, num_samples=3, k=2)]


def update(metrics: list[Metric], rows: list[int]) -> None:
    index = torch.tensor(rows, dtype=torch.long)
    metrics[0].update(index, CORRECT[index, 0])
    metrics[1].update(index, CORRECT[index])
    metrics[2].update(index, VOTES[index], CORRECT[index])


def results(metrics: list[Metric]) -> list[tuple[float, list[float]]]:
    return [(metric.compute().item(), metric.per_problem().tolist()) for metric in metrics]


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


def expected_results() -> list[tuple[float, list[float]]]:
    metrics = make_metrics()
    update(metrics, [0, 1, 2, 3])
    return results(metrics)


def test_two_processes_equal_one_with_unequal_empty_and_repeated_rows(tmp_path: Path):
    mp.start_processes(run_rank, (str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    expected = expected_results()
    for rank in range(2):
        for found in torch.load(tmp_path / f"{rank}.pt").values():
            for (value, per_problem), (expected_value, expected_per_problem) in zip(found, expected, strict=True):
                assert value == pytest.approx(expected_value)
                assert per_problem == pytest.approx(expected_per_problem, nan_ok=True)


def test_values_by_hand():
    accuracy, passing, majority = expected_results()
    assert accuracy == (0.5, pytest.approx([1, 0, 0, 1, torch.nan], nan_ok=True))
    # pass@2 of 3: c = 2 -> 1, c = 1 -> 1 - C(2,2)/C(3,2) = 2/3, c = 0 -> 0, c = 3 -> 1.
    assert passing[1] == pytest.approx([1, 2 / 3, 0, 1, torch.nan], nan_ok=True)
    # maj@2: a a b -> 2/3; three ways, one right -> 1/2 on two of three pairs = 1/3; none -> 0; all -> 1.
    assert majority[1] == pytest.approx([2 / 3, 1 / 3, 0, 1, torch.nan], nan_ok=True)
    assert majority[0] == pytest.approx((2 / 3 + 1 / 3 + 0 + 1) / 4)


def test_metrics_equal_the_functions_when_every_problem_is_seen():
    metrics = make_metrics()
    update(metrics, [4, 2, 0])
    update(metrics, [1, 3])
    assert torch.equal(metrics[1].per_problem(), pass_at_k(CORRECT.sum(dim=1), torch.full((5,), 3), 2))
    assert torch.equal(metrics[2].per_problem(), maj_at_k(VOTES, CORRECT, 2))


def test_a_problem_seen_twice_counts_once():
    metrics = make_metrics()
    update(metrics, [0, 0, 1])
    update(metrics, [0])
    assert metrics[0].compute().item() == 0.5


def test_no_problem_seen_is_nan():
    for metric in make_metrics():
        metric.update(torch.empty(0, dtype=torch.long), *[rows[:0] for rows in empty_rows(metric)])
        assert metric.compute().isnan()
        assert metric.per_problem().isnan().all()


def empty_rows(metric: Metric) -> list[torch.Tensor]:
    return {Accuracy: [CORRECT[:, 0]], PassAtK: [CORRECT], MajAtK: [VOTES, CORRECT]}[type(metric)]


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
            metric.update(torch.tensor([index]), *[rows[:1] for rows in empty_rows(metric)])


def test_shapes_that_disagree_are_an_error():
    with pytest.raises(ValueError, match="Expected `index`"):
        Accuracy(5).update(torch.tensor([0, 1]), torch.tensor([True]))
    with pytest.raises(ValueError, match="Expected `index`"):
        PassAtK(5, num_samples=3, k=2).update(torch.tensor([0]), torch.tensor([[True, False]]))


@pytest.mark.parametrize("make", [lambda: Accuracy(0), lambda: PassAtK(5, 3, 4), lambda: MajAtK(5, 3, 0)])
def test_impossible_sizes_are_refused_at_construction(make):
    with pytest.raises(ValueError, match="Expected"):
        make()
