"""The SFT losses by hand, and against TRL."""

import pytest
import torch

from lemma.encoding import Example, Examples, Geometry, PlannedExamples, padded, plan
from lemma.objectives import SFT_LOSSES, dft_loss, sft_loss
from lemma.policy import Policy, PolicyArgs

NAN = float("nan")


def test_two_rows_by_hand():
    # Row 0 weighs 1 and has 2 tokens, row 1 weighs 1/2 and has 3; what stands under the mask is never read.
    #   window weight   1 * 2 + 1/2 * 3                       = 3.5
    #   negative sums   row 0: 0.5 + 1.0 = 1.5    row 1: 2.0 + 0.25 + 0.75 = 3.0
    #   loss            (1 * 1.5 + 1/2 * 3.0) / 3.5 = 3 / 3.5 = 6/7
    #   d loss / d logp = -weight / 3.5:          row 0: -2/7, row 1: -1/7
    logps = torch.tensor([[-0.5, -1.0, NAN], [-2.0, -0.25, -0.75]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = sft_loss(logps, mask, torch.tensor([1.0, 0.5]), window_weight=torch.tensor(3.5))
    loss.backward()
    assert loss.item() == pytest.approx(6 / 7, abs=1e-6)
    assert logps.grad[0].tolist() == pytest.approx([-2 / 7, -2 / 7, 0.0], abs=1e-6)
    assert logps.grad[1].tolist() == pytest.approx([-1 / 7] * 3, abs=1e-6)


def test_the_same_rows_in_a_larger_window_are_its_share():
    # The window holds 10.5 weighted tokens, of which these rows are 3.5: (6/7) * 3.5 / 10.5 = 2/7
    logps = torch.tensor([[-0.5, -1.0, 0.0], [-2.0, -0.25, -0.75]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = sft_loss(logps, mask, torch.tensor([1.0, 0.5]), window_weight=torch.tensor(10.5))
    assert loss.item() == pytest.approx(2 / 7, abs=1e-6)


def test_equal_weights_give_the_mean_over_tokens_and_not_over_rows():
    # 1 token of -4 and 3 tokens of -1: mean over tokens 7/4, mean of row means 5/2
    logps = torch.tensor([[-4.0, 0, 0], [-1.0, -1.0, -1.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    assert sft_loss(logps, mask, torch.ones(2), window_weight=torch.tensor(4.0)).item() == pytest.approx(7 / 4)
    # and a common factor of all weights cancels
    assert sft_loss(logps, mask, torch.full((2,), 3.0), window_weight=torch.tensor(12.0)).item() == pytest.approx(7 / 4)


def test_a_row_of_weight_zero_gives_loss_zero_and_gradient_zero():
    logps = torch.tensor([[-4.0, -1.0]], requires_grad=True)
    loss = sft_loss(logps, torch.ones(1, 2, dtype=torch.bool), torch.zeros(1), window_weight=torch.tensor(5.0))
    loss.backward()
    assert loss.item() == 0.0
    assert logps.grad.tolist() == [[0.0, 0.0]]


def test_dft_by_hand():
    # Row 0 weighs 1 and has probabilities 1/2 and 1/4, row 1 weighs 1/2 and has 1/8, 1 and 1/2. In units of ln 2:
    #   row 0: 1/2 * 1 + 1/4 * 2 = 1    row 1: 1/8 * 3 + 1 * 0 + 1/2 * 1 = 7/8
    #   loss: (1 * 1 + 1/2 * 7/8) / 3.5 = (23/16) / 3.5 = 23/56 ln 2
    #   d loss / d logp = -weight * p / 3.5: row 0: -1/7, -1/14; row 1: -1/56, -1/7, -1/14
    logps = torch.tensor([[1 / 2, 1 / 4, NAN], [1 / 8, 1, 1 / 2]]).log().requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = dft_loss(logps, mask, torch.tensor([1.0, 0.5]), window_weight=torch.tensor(3.5))
    loss.backward()
    assert loss.item() == pytest.approx(23 / 56 * 0.6931472, abs=1e-6)
    assert logps.grad[0].tolist() == pytest.approx([-1 / 7, -1 / 14, 0.0], abs=1e-6)
    assert logps.grad[1].tolist() == pytest.approx([-1 / 56, -1 / 7, -1 / 14], abs=1e-6)


def test_dfts_gradient_is_each_tokens_likelihood_gradient_times_its_probability():
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)  # (N, T, V) logits
    tokens = torch.randint(7, (2, 5), generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    logps = theta.log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
    expected = torch.zeros_like(theta)
    for row, token in mask.nonzero().tolist():
        (gradient,) = torch.autograd.grad(logps[row, token], theta, retain_graph=True)
        expected -= logps[row, token].exp().detach() * gradient / 8
    dft_loss(logps, mask, torch.ones(2), window_weight=torch.tensor(8.0)).backward()
    torch.testing.assert_close(theta.grad, expected, atol=1e-12, rtol=0)
    assert expected.norm() > 0.01


@pytest.mark.parametrize("loss_type", SFT_LOSSES)
def test_what_stands_under_the_mask_reaches_neither_loss_nor_gradient(loss_type):
    mask = torch.tensor([[True, True, False], [False, True, True]])
    results = []
    for filler in (0.0, NAN, float("inf"), -float("inf")):
        logps = torch.tensor([[-0.5, -1.0, -0.3], [-2.0, -0.25, -0.75]]).masked_fill(~mask, filler).requires_grad_()
        loss = SFT_LOSSES[loss_type](logps, mask, torch.tensor([1.0, 0.5]), window_weight=torch.tensor(3.0))
        loss.backward()
        results.append((loss.item(), logps.grad.tolist()))
    assert results[0][0] > 0
    assert results.count(results[0]) == 4


def ragged_examples(number: int) -> list[Example]:
    generator = torch.Generator().manual_seed(number)

    def ids(longest: int) -> list[int]:
        length = int(torch.randint(1, longest + 1, (), generator=generator))
        return torch.randint(3, 97, (length,), generator=generator).tolist()

    return [Example(f"p{i}", "s", ids(7), [ids(11)], weight=[1.0, 0.25, 2.0][i % 3]) for i in range(number)]


def gradient(module: torch.nn.Module) -> torch.Tensor:
    vector = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
    module.zero_grad()
    return vector


@pytest.mark.parametrize("loss_type", SFT_LOSSES)
@pytest.mark.parametrize("number", [8, 11, 5])  # a full window, a second one of 3, a short one
@pytest.mark.parametrize("cut", [(8, 1, 1), (2, 4, 1), (1, 4, 2), (4, 1, 2), (1, 8, 1), (1, 2, 4)])
def test_a_windows_gradient_does_not_depend_on_how_it_is_cut(base_folder, number, cut, loss_type):
    policy = Policy(PolicyArgs(str(base_folder("llama")), method="full"))
    examples, order = (
        ragged_examples(number),
        torch.randperm(number, generator=torch.Generator().manual_seed(1)).numpy(),
    )
    dataset = PlannedExamples(Examples.of(examples), lambda some, weight: padded(some, pad_id=0, window_weight=weight))

    def last_window(batch_size: int, accumulate: int, num_ranks: int) -> tuple[float, torch.Tensor]:
        total, start = 0.0, (number - 1) // 8 * 8
        for rank in range(num_ranks):
            for turn in plan(order[start:], Geometry(batch_size, accumulate, num_ranks, rank)):
                batch = dataset[turn]
                logps, mask = policy(batch), batch.mask
                share = SFT_LOSSES[loss_type](logps, mask, batch.weights, window_weight=batch.window_weight)
                share.backward()  # shares add up: no division by micro-batches or ranks
                total += share.item()
        return total, gradient(policy)

    expected_loss, expected = last_window(8, 1, 1)
    loss, found = last_window(*cut)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("loss_type", SFT_LOSSES)
def test_loss_and_gradient_equal_trls_on_the_same_rows(encoder, problems, tmp_path, loss_type):
    import datasets
    import trl

    examples = [encoder.encode(problem) for problem in problems]
    batch = padded(examples, pad_id=encoder.pad_id, window_weight=sum(len(e.completions[0]) for e in examples))
    policy = Policy(PolicyArgs("tiny", method="full"))
    reference = Policy(PolicyArgs("tiny", method="full")).model

    rows = [
        {
            "input_ids": e.prompt_ids + e.completions[0],
            "completion_mask": [0] * len(e.prompt_ids) + [1] * len(e.completions[0]),
        }
        for e in examples
    ]
    config = trl.SFTConfig(
        str(tmp_path), completion_only_loss=True, max_length=None, shuffle_dataset=False, gradient_checkpointing=False,
        bf16=False, use_cpu=True, report_to=[], disable_tqdm=True, loss_type=loss_type,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        reference, config, train_dataset=datasets.Dataset.from_list(rows), processing_class=encoder.tokenizer
    )
    collated = trainer.data_collator(list(trainer.train_dataset))  # TRL's own labels and padding
    assert collated["input_ids"].tolist() == batch.input_ids.tolist()
    trainer.model.train()
    reference_loss = trainer.compute_loss(trainer.model, collated)
    reference_loss.backward()

    logps, mask = policy(batch), batch.mask
    loss = SFT_LOSSES[loss_type](logps, mask, batch.weights, window_weight=batch.window_weight)
    loss.backward()

    assert loss.item() > 0.02
    assert loss.item() == pytest.approx(reference_loss.item(), abs=1e-6)
    expected = {name: p.grad for name, p in trainer.model.named_parameters()}
    found = {name: p.grad for name, p in policy.model.named_parameters()}
    assert expected.keys() == found.keys()
    difference = sum(float((found[name] - expected[name]).norm() ** 2) for name in expected) ** 0.5
    assert difference / sum(float(g.norm() ** 2) for g in expected.values()) ** 0.5 < 1e-5
