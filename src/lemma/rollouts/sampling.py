"""What the user says about how the completions of a rollout are drawn."""

from dataclasses import dataclass

from lemma.types import InputError


@dataclass(frozen=True)
class RolloutSampling:
    """How the completions of a rollout are drawn."""

    temperature: float = 1.0
    """Divides the logits, in sampling and in training alike; > 0."""
    top_p: float = 1.0
    """Must be 1: what is trained is the whole distribution, and samples from a part of it would not be the policy's."""
    max_new_tokens: int = 256
    """Longest completion, in tokens, the stop token included."""
    max_batch_tokens: int = 32768
    """Token budget of one batch of sequences while sampling: rows x (prompt + max_new_tokens)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: Names the key, the rule and the value.
        """
        for name in ("max_new_tokens", "max_batch_tokens"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"model.sampling.{name}: expected at least 1, but got {value}.")
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"model.sampling.temperature: expected a number above 0, but got {self.temperature}.")
        if self.top_p != 1:
            raise InputError(
                f"model.sampling.top_p: expected 1, but got {self.top_p}. The log-probabilities that are trained are "
                "those of the whole distribution; to sample more narrowly, lower the temperature."
            )
