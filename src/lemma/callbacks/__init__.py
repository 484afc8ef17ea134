"""Side outputs only: removing a callback never changes a loss or a metric."""

from lemma.callbacks.checkpoint import AtomicCheckpointIO, LastCheckpoint
from lemma.callbacks.data import DataMonitor
from lemma.callbacks.engine import EngineCloser
from lemma.callbacks.export import AdapterExport
from lemma.callbacks.monitor import TrainingMonitor
from lemma.callbacks.preferences import PreferenceMonitor
from lemma.callbacks.progress import ProgressBars
from lemma.callbacks.records import EvaluationFiles, PassAtKCurves, SampleTable
from lemma.callbacks.rollout_monitor import RolloutMonitor
from lemma.callbacks.rollouts import RolloutFiles, RolloutTable
from lemma.callbacks.run_files import RunFiles, refuse_missing_checkpoint, refuse_other_run
from lemma.callbacks.trajectories import TrajectoryFiles, TrajectoryMonitor

__all__ = [
    "AdapterExport",
    "AtomicCheckpointIO",
    "DataMonitor",
    "EngineCloser",
    "EvaluationFiles",
    "LastCheckpoint",
    "PassAtKCurves",
    "PreferenceMonitor",
    "ProgressBars",
    "RolloutFiles",
    "RolloutMonitor",
    "RolloutTable",
    "RunFiles",
    "SampleTable",
    "TrainingMonitor",
    "TrajectoryFiles",
    "TrajectoryMonitor",
    "refuse_missing_checkpoint",
    "refuse_other_run",
]
