"""Show what a run would train on, without training: python tools/inspect_data.py --config CONFIG [--config …]

Takes the configuration files and flags of `lemma fit`. Prints the census, what is left out and why, the share that each
corpus and level gets, the layout and its padding, lengths, and decoded examples with the tokens that count marked.
"""

from pathlib import Path

from lemma.files import write_atomic
from lemma.preparation import InspectionArgs, configured_data, inspection, run_tool
from lemma.preparation.figures import lengths_figure
from lemma.preparation.inspection import chosen_parts


def main() -> None:
    """Read the configuration and print."""
    data, options = configured_data(InspectionArgs, __doc__)
    data.setup("fit")
    print(inspection(data, options))
    if options.output is not None:
        parts = chosen_parts(data, options.source)
        figure = lengths_figure({"example": {"examples": {part.source: part.column("lengths") for part in parts}}}, {})
        write_atomic(Path(options.output), lambda stream: figure.savefig(stream, format="png", dpi=150))


if __name__ == "__main__":
    run_tool("inspect_data", main, verbose=False)
