"""What the user says about how completions are drawn."""

from dataclasses import dataclass

from lemma.types import GREEDY, InputError


@dataclass(frozen=True)
class SamplingArgs:
    """How completions are drawn."""

    num_samples: int = 8
    """Completions sampled per problem; pass@k is unbiased for any k up to it."""
    greedy: bool = True
    """Also decode one completion greedily, for the accuracy."""
    temperature: float = 1.0
    """Divides the logits; > 0."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with this probability, in (0, 1]; 1 samples from the whole distribution."""
    max_new_tokens: int = 256
    """Longest completion, in tokens, the stop token included."""
    seed: int = 0
    """Every completion draws from a stream seeded by (seed, source, problem id, sample index)."""
    max_batch_tokens: int = 32768
    """Token budget of one batch of sequences: rows x (prompt + max_new_tokens)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range.

        Raises:
            InputError: If a value is out of range, or there is nothing to generate.
        """
        for name in ("max_new_tokens", "max_batch_tokens"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"sampling.{name}: expected at least 1, but got {value}.")
        if self.num_samples < 0 or (self.num_samples == 0 and not self.greedy):
            raise InputError(f"sampling.num_samples: expected at least 1, but got {self.num_samples}.")
        if self.temperature <= 0:
            raise InputError(f"sampling.temperature: expected more than 0, but got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise InputError(f"sampling.top_p: expected a value in (0, 1], but got {self.top_p}.")

    @property
    def samples(self) -> list[int]:
        """Return the sample indices of a problem: greedy first, then 0..num_samples - 1."""
        return [GREEDY] * self.greedy + list(range(self.num_samples))
