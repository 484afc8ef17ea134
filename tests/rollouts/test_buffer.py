"""A rollout cut into micro-batches: nothing lost, nothing twice, counts, layouts, and the way through a checkpoint."""

import copy

import pytest
import torch

from lemma.encoding import Example, shared_prefix
from lemma.objectives import RolloutLogps, policy_loss
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.rollouts import Rollout, RolloutBatch, RolloutLayout, reward_tensor
from lemma.rollouts.layout import cheapest_parts, lay_out

LAYOUT = RolloutLayout("shared_prefix", 40.0).layout(0)


@pytest.fixture(scope="module")
def policy(base_folder):
    return Policy(PolicyArgs(str(base_folder("llama")), lora=LoraArgs(r=4, alpha=8)))


def tokens_of(batch: RolloutBatch) -> list[list[int]]:
    ids = batch.input_ids.flatten()[batch.completion_index].split(batch.mask.sum(-1).tolist())
    return [row.tolist() for row in ids]


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", ["padded", "packed", "shared_prefix"])
def test_micro_batches_hold_each_completion_once_with_what_belongs_to_it(make_rollout, size, name):
    rollout = make_rollout()
    rollout.windows = rollout.window_counts(size, 1)
    rollout.keep("old_logps", range(16), rollout.sampled_logps(range(16)))
    layout = RolloutLayout(name, 20.0).layout(0)
    batches = [rollout.batch(rows, layout, m) for m, rows in enumerate(rollout.micro_batches(size))]
    assert {len(batch.counted) for batch in batches} == {size}
    samples = [sample for group in rollout.groups for sample in group.samples]
    assert [ids for batch in batches for ids in tokens_of(batch)] == [sample.ids for sample in samples]
    assert torch.equal(torch.cat([batch.advantages for batch in batches]), torch.linspace(-1, 1, 16))
    assert torch.equal(torch.cat([batch.counted for batch in batches]), rollout.counted)
    old = [row[mask].tolist() for batch in batches for row, mask in zip(batch.old_logps, batch.mask, strict=True)]
    assert old == [pytest.approx(sample.logps) for sample in samples]
    assert all(not batch.old_logps[~batch.mask].any() for batch in batches)


def test_completions_that_do_not_fill_micro_batches_are_refused(make_rollout):
    with pytest.raises(ValueError, match="to divide 16 completions, but got 3"):
        make_rollout().micro_batches(3)


def test_windows_count_completions_their_tokens_and_corpora(make_rollout):
    rollout = make_rollout()
    counts = rollout.window_counts(2, 2, num_corpora=2)
    lengths = [len(sample.ids) for group in rollout.groups for sample in group.samples]
    kept = [length if row % 5 != 4 else 0 for row, length in enumerate(lengths)]
    assert counts.tolist() == [
        [4, sum(kept[:4]), 4, 0],
        [3, sum(kept[4:8]), 0, 4],
        [3, sum(kept[8:12]), 4, 0],
        [3, sum(kept[12:]), 0, 4],
    ]
    rollout.windows = 3 * counts  # as if three ranks held the same
    batch = rollout.batch([8, 9], LAYOUT, 2)
    assert (int(batch.window.sequences), int(batch.window.tokens)) == (9, 3 * sum(kept[8:12]))
    assert batch.window.max_length == 9
    assert batch.window_sources.tolist() == [12, 0]
    assert torch.equal(rollout.window_counts(2, 4).sum(0), rollout.window_counts(16, 1).sum(0))


def test_a_batch_before_the_windows_are_known_is_refused(make_rollout):
    with pytest.raises(ValueError, match="`windows` to be set"):
        make_rollout().batch([0], LAYOUT, 0)


def test_logps_are_none_until_every_completion_of_the_batch_has_them(make_rollout):
    rollout = make_rollout()
    rollout.windows = rollout.window_counts(4, 1)
    rollout.keep("ref_logps", range(4), torch.ones(4, 9))
    assert rollout.batch(range(4), LAYOUT, 0).old_logps is None
    assert torch.equal(rollout.batch(range(4), LAYOUT, 0).ref_logps, rollout.batch(range(4), LAYOUT, 0).mask.float())
    assert rollout.batch(range(2, 6), LAYOUT, 0).ref_logps is None
    with pytest.raises(ValueError, match="among old_logps, ref_logps, but got 'logps'"):
        rollout.keep("logps", [0], torch.ones(1, 9))


def test_a_moved_batch_is_one_of_a_rollout_with_all_of_it_moved(make_rollout):
    rollout = make_rollout()
    rollout.windows = rollout.window_counts(4, 1)
    rollout.keep("old_logps", range(4), torch.ones(4, 9))
    batch = rollout.batch(range(4), LAYOUT, 0)
    moved = batch.to(torch.device("meta"))
    assert type(moved) is RolloutBatch
    assert {moved.input_ids.device.type, moved.old_logps.device.type, moved.window.tokens.device.type} == {"meta"}
    assert moved.window.max_length == batch.window.max_length
    assert batch.input_ids.device.type == batch.window.tokens.device.type == "cpu", "the batch itself stays"


def gradients(policy: Policy, rollout: Rollout, layout, size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the log-probabilities of all completions, row after row, and the gradients of the window's loss."""
    rollout = copy.copy(rollout)
    rollout.windows = rollout.window_counts(size, 16 // size)
    policy.zero_grad()
    found = []
    for rows in rollout.micro_batches(size):
        batch = rollout.batch(rows, layout, 0)
        logps = policy(batch)
        logps = logps[0] if isinstance(logps, tuple) else logps
        given = RolloutLogps(logps, logps.detach(), None, None, batch.mask, batch.advantages, batch.counted)
        policy_loss("dapo", given, batch.window)[0].backward()
        found.append(logps.detach()[batch.mask])
    return torch.cat(found), [p.grad.clone() for p in policy.parameters() if p.requires_grad]


@pytest.mark.parametrize("size", [2, 8, 16])
def test_blocks_parts_and_micro_batches_change_no_logps_and_no_gradient(make_rollout, policy, size):
    rollout = make_rollout()
    torch.manual_seed(0)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    alone, expected = gradients(policy, rollout, RolloutLayout("padded", 1.0).layout(0), 1)
    widths = set()
    for break_even in (1.0, 30.0, float("inf")):
        layout = RolloutLayout("shared_prefix", break_even).layout(0)
        widths.add(layout(rollout._examples(range(size))).input_ids.shape)
        logps, found = gradients(policy, rollout, layout, size)
        assert torch.allclose(logps, alone, atol=1e-6, rtol=1e-6)
        scale = torch.stack([gradient.norm() for gradient in expected]).norm()
        error = torch.stack([(one - two).norm() for one, two in zip(found, expected, strict=True)]).norm()
        assert error < 1e-6 * scale
    assert size == 2 or len(widths) > 1, "what they cost is another matter"


def test_a_group_is_cut_only_where_attention_makes_long_rows_dear(make_rollout):
    examples = make_rollout(2, 8)._examples(range(16))
    assert cheapest_parts(examples, float("inf")) == examples
    assert cheapest_parts(examples, 1e9) == examples, "a prompt twice costs more than pairs of a row"
    dear = cheapest_parts(examples, 1.0)
    assert len(dear) > 2
    assert [ids for part in dear for ids in part.completions] == [ids for e in examples for ids in e.completions]

    def cost(batch) -> int:
        rows, width = batch.input_ids.shape
        return rows * width * (1 + width)

    whole = shared_prefix(examples, pad_id=0, window_weight=1.0, row_length=1000, break_even=1.0)
    assert cost(lay_out(examples, name="shared_prefix", pad_id=0, break_even=1.0)) < cost(whole)


def test_of_parts_that_cost_about_the_same_the_fewest_are_taken():
    completions = [[1] * 100 for _ in range(8)]
    examples = [Example(str(number), "s", [1] * 50, completions) for number in range(4)]
    # rows of one part: whole 850 positions, halves 2 x 450, quarters 4 x 250; times 1 + width / 1000 that is
    # 1572, 1305 and 1250 (and singles 8 x 150 x 1.15 = 1380): halves cost 4.4 % more than quarters, and repeat less
    assert {len(part.completions) for part in cheapest_parts(examples, 1000.0)} == {4}


@pytest.mark.parametrize("window", [0, 2])
def test_a_rollout_comes_through_a_checkpoint_bit_for_bit(make_rollout, tmp_path, window):
    rollout = make_rollout()
    rollout.windows = rollout.window_counts(4, 1, 2)
    rollout.keep("old_logps", range(8, 12), torch.randn(4, 9))
    torch.save(rollout.state_dict(), tmp_path / "rollout.pt")
    restored = Rollout.load_state_dict(torch.load(tmp_path / "rollout.pt", weights_only=True))
    assert restored.groups == rollout.groups
    assert restored.max_length == rollout.max_length
    rows = rollout.micro_batches(4)[window]
    one, two = (vars(each.batch(rows, LAYOUT, window)) for each in (rollout, restored))
    assert one.keys() == two.keys()
    for name, value in one.items():
        same = torch.equal(value, two[name]) if isinstance(value, torch.Tensor) else str(value) == str(two[name])
        assert same, name
    assert (one["old_logps"] is None) == (window == 0)


def test_rewards_are_a_tensor_with_nan_for_none(make_groups):
    rewards = reward_tensor(make_groups(2, 2))
    assert rewards.shape == (4, 2)
    assert rewards[:, 0].nan_to_num(-9).tolist() == [1.5, -9, 1.5, -9]
    assert rewards[:, 1].isnan().all()


def test_groups_of_other_sizes_and_other_numbers_of_advantages_are_refused(make_groups):
    groups = [*make_groups(1, 2), *make_groups(1, 4)]
    with pytest.raises(ValueError, match="groups of 2 completions each"):
        Rollout(groups, torch.zeros(6), torch.ones(6, dtype=torch.bool), max_length=9)
    with pytest.raises(ValueError, match=r"of shape \(4,\), but got \(3,\)"):
        Rollout(make_groups(2, 2), torch.zeros(3), torch.ones(4, dtype=torch.bool), max_length=9)
