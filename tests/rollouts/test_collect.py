"""From prompts to groups: the same completions in any company, verdicts, rewards, failures, times."""

from dataclasses import replace

import pytest

from lemma.answers import Grader
from lemma.generation import LocalEngine, Sample
from lemma.generation.served import ServerError
from lemma.policy import Policy, PolicyArgs
from lemma.rewards import RewardArgs, RewardProcess
from lemma.rollouts import Prompt, PromptEncoder, RolloutSampling, collect
from lemma.types import InputError, Verdict

OWN = """
def ill_disposed(completions, **columns):
    return [None if i % 2 else 1 / 0 if source == "bad" else float(len(text)) for i, (text, source)
            in enumerate(zip(completions, columns["source"]))]


def told(completions, problem, answer, level, num_tokens, stopped, max_length, verdicts, **columns):
    assert all(type(each) is bool for each in stopped) and set(max_length) == {24}
    return [float(number) + 100 * each for number, each in zip(num_tokens, level)]


def raising(completions, **columns):
    raise KeyError("gone")
"""
SAMPLING = RolloutSampling(max_new_tokens=24)
CORRECTNESS = (RewardArgs("correctness"),)


@pytest.fixture(scope="module")
def policy():
    return Policy(PolicyArgs("tiny"))


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "rollout_rewards.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch, Grader() as grader, RewardProcess() as process:
        patch.syspath_prepend(str(folder))
        yield {"grader": grader, "reward_process": process}


@pytest.fixture
def prompts(problems, encoder):
    ids = encoder.encode_prompts([problem.problem for problem in problems])
    return [Prompt(problem, ids[i], index=10 + i, place=i, corpus=i % 2) for i, problem in enumerate(problems)]


@pytest.fixture
def gather(policy, encoder, tools):
    """Return a function of prompts and rewards that collects groups of three."""
    engine = LocalEngine()
    engine.refresh(policy)

    def collected(prompts, rewards=CORRECTNESS, sampling=SAMPLING, **options):
        options = {"group_size": 3, "seed": 5, **tools, **options}
        return collect(engine, encoder, prompts, sampling, rewards=list(rewards), **options)

    return collected


def test_ranks_and_batch_sizes_change_nothing_that_is_drawn(gather, prompts):
    alone = gather(prompts).groups
    shares = [gather(prompts[rank::2]).groups for rank in (0, 1)]
    one_by_one = gather(prompts, sampling=RolloutSampling(max_new_tokens=24, max_batch_tokens=150)).groups
    for others in ([shares[i % 2][i // 2] for i in range(len(prompts))], one_by_one):
        for group, other in zip(alone, others, strict=True):
            assert [sample.ids for sample in group.samples] == [sample.ids for sample in other.samples]
            assert (group.texts, group.verdicts, group.rewards) == (other.texts, other.verdicts, other.rewards)
            assert (group.problem, group.index, group.corpus) == (other.problem, other.index, other.corpus)


def test_every_completion_every_place_and_every_seed_draws_anew(gather, prompts):
    hot = RolloutSampling(temperature=3.0, max_new_tokens=24)
    later = prompts[0]._replace(place=17)
    collected = [
        gather(prompts[:1], sampling=hot),
        gather([later], sampling=hot),
        gather([later], sampling=hot, seed=6),
    ]
    assert len({tuple(sample.ids) for each in collected for sample in each.groups[0].samples}) == 9


def test_a_group_is_what_was_drawn_decoded_graded_and_rewarded(gather, prompts, encoder):
    rewards = [RewardArgs("correctness"), RewardArgs("rollout_rewards.told", weight=0.5)]
    collected = gather(prompts, rewards)
    verdicts = []
    for prompt, group in zip(prompts, collected.groups, strict=True):
        assert group.prompt_ids == prompt.ids
        assert (len(group.samples), len(group.texts), len(group.rewards)) == (3, 3, 3)
        for sample, text, verdict, row in zip(group.samples, group.texts, group.verdicts, group.rewards, strict=True):
            assert text == encoder.decode(sample.ids)
            assert sample.stopped == (sample.ids[-1] in encoder.stop_ids)
            assert row == [5.0 * (verdict is Verdict.CORRECT), len(sample.ids) + 100.0 * prompt.problem.level]
            verdicts.append(verdict)
    assert {Verdict.CORRECT, Verdict.WRONG} <= set(verdicts), "the shipped policy is right now and then"
    assert collected.seconds.keys() == {"generate", "grade"}
    assert all(seconds > 0 for seconds in collected.seconds.values())
    assert (collected.failures.counts, collected.failures.num_completions) == ({}, 3 * len(prompts))


def test_what_fails_is_counted_and_told_and_none_stays_none(gather, prompts):
    bad = [prompt._replace(problem=replace(prompt.problem, source="bad")) for prompt in prompts[:1]]
    collected = gather([*bad, prompts[1]], [RewardArgs("correctness"), RewardArgs("rollout_rewards.ill_disposed")])
    mine = [row[1] for group in collected.groups for row in group.rewards]
    assert mine[:3] == [None, None, None], "the completions that it raises on, each tried alone"
    assert mine[3:] == [float(len(text)) for text in collected.groups[1].texts]
    assert collected.failures.counts == {("ill_disposed", "raised"): 3}
    [line] = collected.failures.report()
    assert line.startswith('Reward "ill_disposed" failed on 3 of 6 completions: ZeroDivisionError: division by zero (')
    with pytest.raises(InputError, match="raising: raised"):
        gather(prompts[:1], [RewardArgs("rollout_rewards.raising", on_failure="error")])


def test_a_rank_without_prompts_has_no_groups(gather):
    collected = gather([])
    assert collected.groups == []
    assert collected.failures.report() == []


@pytest.mark.parametrize("sample", [Sample([], [], True, "7", 3), Sample([5, 2], [], True)])
def test_completions_without_tokens_or_log_probabilities_are_refused(encoder, prompts, tools, sample):
    class Terse:
        def draw(self, requests, drawing):
            yield 0, sample

    with pytest.raises(ServerError, match=r"return_token_ids .*--logprobs-mode processed_logprobs"):
        collect(Terse(), encoder, prompts, SAMPLING, rewards=list(CORRECTNESS), group_size=3, seed=5, **tools)


def test_prompts_are_encoded_as_the_run_encodes_them_and_solutions_are_not(encoder, problems):
    prompts = PromptEncoder(encoder)
    for example, whole in zip(prompts.encode_all(problems), encoder.encode_all(problems), strict=True):
        assert example.prompt_ids == whole.prompt_ids
        assert example.completions == [[encoder.stop_id]]
    assert prompts.fingerprint != encoder.fingerprint
    assert "«" not in prompts.describe(prompts.encode_all(problems)[0]) + prompts.legend


@pytest.mark.parametrize(
    ("options", "key"),
    [({"top_p": 0.9}, "top_p: expected 1"), ({"temperature": 0.0}, "temperature"), ({"max_new_tokens": 0}, "max_new"),
     ({"temperature": float("nan")}, "temperature"), ({"max_batch_tokens": 0}, "max_batch_tokens")],
)  # fmt: skip
def test_samples_that_would_not_be_the_policys_own_are_refused(options, key):
    with pytest.raises(InputError, match=rf"model\.sampling\.{key}"):
        RolloutSampling(**options)
