"""Write a run's data for other tools: python tools/prepare_data.py --config CONFIG [--config …] --output DIR

Takes the configuration files and flags of `lemma fit`. Writes train, val and test as JSON Lines, CSV (id, problem,
answer) and a Hugging Face `datasets` folder, what was dropped and why, and a card of the data. Run again after an
interruption it goes on where it was.
"""

from lemma.preparation import PreparationArgs, configured_data, prepare, run_tool


def main() -> None:
    """Read the configuration and write."""
    prepare(*configured_data(PreparationArgs, __doc__))


if __name__ == "__main__":
    run_tool("prepare_data", main, verbose=True)
