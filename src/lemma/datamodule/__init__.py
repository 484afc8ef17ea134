"""The one DataModule that all objectives share: corpora in, planned micro-batches and benchmark problems out.

options.py  which options go together
sources.py  what is read, and what of it is measured
layout.py   how the model's sequences become rows
resume.py   what a resumed run must agree with
module.py   `MathDataModule`: all of it in order, and the loaders
"""

from lemma.datamodule.module import MathDataModule

__all__ = ["MathDataModule"]
