"""Token log-probabilities and masked sums: the only place that shifts labels."""

from lemma.ops.head import Head
from lemma.ops.logps import completion_logps, completion_logps_and_entropy
from lemma.ops.masked import masked_sum

__all__ = ["Head", "completion_logps", "completion_logps_and_entropy", "masked_sum"]
