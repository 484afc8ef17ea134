"""What callbacks show of an evaluation: samples, escaped, and the pass@k curve of each source that was sampled."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lemma.answers import Graded
from lemma.callbacks import PassAtKCurves
from lemma.callbacks.records import sample_table
from lemma.evaluation import Evaluation, Record
from lemma.types import Problem, Verdict


def record(index: int, verdicts: str, source: str, first: int = 0) -> Record:
    found = [Verdict.CORRECT if letter == "C" else Verdict.WRONG for letter in verdicts]
    return Record(
        index,
        Problem(f"p{index}", source, "1 < 2 | 3?", answer="1"),
        samples=list(range(first, first + len(verdicts))),
        completions=["<b>x</b>\ny"] * len(verdicts),
        grades=[Graded(one, one, "1", "boxed") for one in found],
        votes=[0] * len(verdicts),
    )


@pytest.fixture
def images(tmp_path):
    """Return a function of records to the tags of the images that the callback logs."""

    def images(records: list[Record], *, sanity_checking: bool = False) -> list[str]:
        logger = TensorBoardLogger(tmp_path, name="", version="")
        trainer = SimpleNamespace(sanity_checking=sanity_checking, logger=logger, global_step=3)
        PassAtKCurves().on_validation_end(trainer, SimpleNamespace(evaluation=Evaluation({}, records, {})))
        logger.experiment.flush()
        events = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
        return events.Tags()["images"]

    return images


def test_each_source_that_was_sampled_gets_a_curve(images):
    records = [record(0, "CCW", "one"), record(1, "WWW", "one"), record(0, "CW", "two"), record(0, "C", "greedy", -1)]
    assert images(records) == ["pass@k/one", "pass@k/two"]


def test_a_sanity_check_leaves_no_image(images):
    assert images([record(0, "CCW", "one")], sanity_checking=True) == []


def test_model_text_is_escaped_in_the_table_of_samples():
    row = sample_table([record(0, "CW", "one")]).splitlines()[2]
    assert row == "| 1 &lt; 2 &#124; 3? | 1 | &lt;b&gt;x&lt;/b&gt;<br>y | 1 | correct |"
