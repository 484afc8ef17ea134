"""How long to wait before the next try."""

import random
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Backoff:
    """How long to wait before the next try."""

    first: float = 0.5
    """Seconds after the first failure; doubles with each."""
    longest: float = 30.0
    """Seconds at most."""
    jitter: random.Random = field(default_factory=random.Random)
    """Takes up to half of it off, so that tries do not come together; no stream of the run's."""

    def seconds(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row."""
        return min(self.longest, self.first * 2 ** min(failures - 1, 30)) * (1 - 0.5 * self.jitter.random())
