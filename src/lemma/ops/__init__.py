"""Token log-probabilities and masked sums: the only place that shifts labels."""

from lemma.ops.logps import completion_logps
from lemma.ops.masked import masked_sum

__all__ = ["completion_logps", "masked_sum"]
