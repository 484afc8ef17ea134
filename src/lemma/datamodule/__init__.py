"""The one DataModule that all objectives share: corpora in, planned micro-batches and benchmark problems out.

options.py    which options go together
sources.py    what is read, and what of it is measured
answers.py    which problems can be in a rollout
layout.py     how the model's sequences become rows
rollouts.py   prompts, and turns to train, of a module that makes rollouts
measuring.py  benchmark problems of a rank
resume.py     what a resumed run must agree with
module.py     `MathDataModule`: all of it in order, and the loaders
"""

from lemma.datamodule.module import MathDataModule

__all__ = ["MathDataModule"]
