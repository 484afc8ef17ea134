"""What every module shares that is measured on benchmarks: the engine that draws, the evaluator, what a kill leaves."""

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info

from lemma.evaluation import BenchmarkBatch, Earlier, Evaluation, EvaluationArgs, Evaluator, Journal
from lemma.evaluation.provenance import problems_sha256
from lemma.generation import ENGINES, Engine, ServedArgs, make_engine
from lemma.generation.served import Weights
from lemma.modules.optim import OptimizerArgs
from lemma.modules.resume import gather_objects
from lemma.modules.serving import agreed, going_on_from
from lemma.modules.sharding import is_sharded
from lemma.policy import Policy, PolicyArgs
from lemma.types import InputError


class MeasuredModule(LightningModule):
    """Base of all modules; a subclass says which model it is, and how it is trained if it is.

    Args:
        policy: Base model and adapter.
        evaluation: How benchmarks are measured in validation.
        engine: What draws completions: local, the model at hand; or served, servers that have the base.
        served: Which servers, under served.

    Raises:
        InputError: If there is no such engine, or servers are named that are not asked.
    """

    untrained = ""  # why it cannot be trained, and what can
    trains_on_pairs = False
    makes_rollouts = False  # whether training batches are asked of the module: ``next_batch() -> Batch``
    draws_trajectories = False  # whether `lemma predict` is for it: trajectories of the training problems
    loads_reference = False  # whether a frozen adapter or a second model stands beside the policy
    measures_held_out = True  # whether there is a likelihood of held-out data
    optimizer_args = OptimizerArgs()

    def __init__(self, policy: PolicyArgs, evaluation: EvaluationArgs, engine: str, served: ServedArgs) -> None:
        super().__init__()
        if engine not in ENGINES:
            raise InputError(f"model.engine: expected one of {', '.join(ENGINES)}, but got {engine!r}.")
        if engine == "local" and served != ServedArgs():
            raise InputError("model.served: servers are asked only under --model.engine served, but it is local.")
        self.policy_args = policy
        self.evaluation_args = evaluation
        self.engine_name = engine
        self.served_args = served
        self.policy: Policy | None = None
        self.evaluation: Evaluation | None = None
        self.evaluator: Evaluator | None = None
        self._engine: Engine | None = None

    @property
    def streams(self) -> bool:
        """Return whether the engine takes any number of requests at once and gives each completion as it is done."""
        return self.engine_name == "served"

    @property
    def engine(self) -> Engine:
        """Return the one engine of this run, made when it is first asked for; ``refresh`` it before it draws."""
        if self._engine is None:
            in_step = self.policy is not None and is_sharded(self.policy)
            self._engine = make_engine(
                self.engine_name,
                self.served_args,
                self.trainer.datamodule.encoder,
                weights=self.served_weights(),
                in_step=in_step,
            )
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        self._engine = engine

    def served_weights(self) -> Weights | None:
        """Return how the policy is brought to the servers; None leaves them their base model."""

    def interrupt(self, signum: int) -> None:
        """End a wait for servers, of which ``AgreedEnd`` comes; for signal handlers."""
        if self._engine is not None:
            self._engine.interrupt(signum)

    def teardown(self, stage: str) -> None:
        """Give back what the engine holds."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    # Validation

    def on_validation_start(self) -> None:
        """Make an evaluator for the benchmarks of this run."""
        data = self.trainer.datamodule
        if data.benchmarks and self.policy is not None:
            self.engine.refresh(self.policy)
        self.evaluator = Evaluator(self.evaluation_args, data.benchmarks, data.encoder, self.device, self._journal())

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Draw completions for some benchmark problems and grade them, or measure held-out examples."""
        if not isinstance(batch, BenchmarkBatch):
            self.held_out_step(batch)
            return
        if not self.streams:
            self.evaluator.step(self.engine, batch)
            return
        journal = self.evaluator.journal
        with going_on_from(None if journal is None else journal.path.parent):
            agreed(lambda: self.evaluator.step(self.engine, batch))

    def held_out_step(self, batch: Any) -> None:
        """Measure held-out examples; only asked where ``measures_held_out``."""
        raise NotImplementedError

    def held_out_means(self) -> dict[str, float]:
        """Return the figures of the held-out data; a collective call."""
        return {}

    def on_validation_epoch_end(self) -> None:
        """Merge ranks, log every figure, keep the evaluation for callbacks that write it down."""
        training = self.trainer.datamodule.training
        figures = self.held_out_means() if training is not None and training.held_out else {}
        self.before_finish()
        if self._engine is not None:
            self._engine.rest()
        self.evaluation = self.evaluator.finish(gather_objects)
        self.evaluator = None
        figures |= self.evaluation.figures
        shown = figures.keys() & {
            "val/loss",
            *(f"val/{source}/pass@1" for source in self.evaluation.results["benchmarks"]),
        }
        self.log_dict({name: value for name, value in figures.items() if name not in shown})
        self.log_dict({name: figures[name] for name in shown}, prog_bar=True)

    def before_finish(self) -> None:
        """Leave the model as it was before it drew; nothing by default."""

    # What a killed validation leaves

    def _journal(self) -> Journal | None:
        """Return where completions are kept as they are drawn; fit keeps none, for it goes on from a checkpoint.

        A collective call.
        """
        trainer, data = self.trainer, self.trainer.datamodule
        if trainer.state.fn != "validate" or trainer.fast_dev_run or not data.benchmarks:
            return None
        folder = Path(trainer.default_root_dir) / "validate"
        models = agreed(self.engine.connect)[0] if self.streams else None
        earlier = Earlier.read(folder, self.fingerprint(models)) if trainer.is_global_zero else None
        earlier = trainer.strategy.broadcast(earlier)  # read before any rank appends
        if earlier.kept:
            samples = self.evaluation_args.sampling.samples
            wanted = sum(map(len, data.benchmarks.values())) * len(samples)
            rank_zero_info(f"resumed: {len(earlier.kept):,} of {wanted:,} completions from {folder}")
        return Journal(folder, self.global_rank, earlier)

    def fingerprint(self, models: list[str] | None) -> dict[str, Any]:
        """Return whatever decides a completion, by name, as primitives or mappings of them.

        Args:
            models: Names of the servers' base model, if servers draw.
        """
        data, sampling = self.trainer.datamodule, vars(self.evaluation_args.sampling)
        return {
            "sampling": {name: value for name, value in sampling.items() if name != "max_batch_tokens"},
            "prompt": {"template": data.encoder.template_hash, "encoder": data.encoder.fingerprint},
            "engine": self.engine_name,
            "served": None if models is None else {"model": models, "api": self.served_args.api},
            "data": {source: problems_sha256(problems) for source, problems in data.benchmarks.items()},
        }
