"""Rewards: plain functions of completions, and their computation within a deadline."""

from lemma.rewards.args import RewardArgs, check_rewards, given_reward_args, reward_args, reward_settings
from lemma.rewards.compute import RewardTable, compute_rewards, total
from lemma.rewards.failures import Failure, FailureTally, refuse_useless
from lemma.rewards.graded import correctness
from lemma.rewards.layout import answer_format
from lemma.rewards.lengths import length, overlong
from lemma.rewards.process import RewardProcess
from lemma.rewards.registry import COLUMNS, REWARDS
from lemma.rewards.repeats import repetition

__all__ = [
    "COLUMNS",
    "REWARDS",
    "Failure",
    "FailureTally",
    "RewardArgs",
    "RewardProcess",
    "RewardTable",
    "answer_format",
    "check_rewards",
    "compute_rewards",
    "correctness",
    "given_reward_args",
    "length",
    "overlong",
    "refuse_useless",
    "repetition",
    "reward_args",
    "reward_settings",
    "total",
]
