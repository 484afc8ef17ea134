"""Data sets on disk from a run's configuration, and a look at what a run would train on, without training.

options.py    what the two tools take besides the configuration
command.py    the configuration of `lemma fit`, without a trainer or any weights
sides.py      train, val and test: which problems go where, and which into none
splits.py     shares of the sides against what was asked for
manifest.py   which output is finished, and of which configuration it is
rows.py       a problem as a row; JSON Lines, CSV and a `datasets` folder of them
near.py       near duplicates of a run's problems, and their file
figures.py    lengths as a picture and as text
card.py       the data card
pipeline.py   all of it, stage by stage
inspection.py the look
"""

from lemma.preparation.command import configured_data, configured_run, run_tool
from lemma.preparation.inspection import inspection
from lemma.preparation.options import InspectionArgs, PreparationArgs
from lemma.preparation.pipeline import prepare

__all__ = [
    "InspectionArgs",
    "PreparationArgs",
    "configured_data",
    "configured_run",
    "inspection",
    "prepare",
    "run_tool",
]
