"""A model behind an API: measured as any other, with no weights here."""

from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lemma.evaluation import EvaluationArgs
from lemma.generation import ServedArgs
from lemma.modules.measured import MeasuredModule
from lemma.policy import PolicyArgs
from lemma.types import InputError


class ServedModule(MeasuredModule):
    """Measures whatever model servers have; it cannot be trained.

    Args:
        policy: Its base names the tokenizer that renders and counts prompts; no weights are loaded.
        evaluation: How benchmarks are measured.
        served: Which servers.

    Raises:
        InputError: If an adapter is given.
    """

    untrained = (
        "ServedModule has no weights here and cannot be trained; it is for `lemma validate`. To train on rollouts that "
        "servers draw: lemma.modules.GRPOModule, --model.engine served."
    )
    measures_held_out = False

    def __init__(
        self,
        policy: PolicyArgs = PolicyArgs(),  # noqa: B008 (frozen)
        evaluation: EvaluationArgs = EvaluationArgs(),  # noqa: B008
        served: ServedArgs = ServedArgs(),  # noqa: B008
    ) -> None:
        super().__init__(policy, evaluation, "served", served)
        if policy.adapter is not None:
            raise InputError(
                f"model.policy.adapter: ServedModule measures the servers' model as it is, so {policy.adapter} would "
                "have no effect. Take lemma.modules.SFTModule with --model.engine served."
            )

    def on_validation_start(self) -> None:
        """Say what is not measured."""
        data = self.trainer.datamodule
        if data.loaded["held out"] or (data.training is not None and data.training.held_out):
            rank_zero_info("Servers give no loss on held-out data: data.held_out and data.held_out_share are not used.")
        super().on_validation_start()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint.

        Raises:
            InputError: Always.
        """
        raise InputError("ckpt_path: ServedModule has no weights that a checkpoint could set; leave it out.")
