"""``lemma`` and ``python -m lemma``: starts the command line without delay."""

import gc


def main() -> None:
    """Import the command line and run it.

    A third of the start-up used to go into looking for garbage among the modules that torch and Lightning import, and
    into freeing them one by one at the end: there is none, so the collector rests meanwhile and then leaves them alone.
    """
    gc.disable()
    from lemma.cli import main as run

    gc.enable()
    gc.freeze()
    run()


if __name__ == "__main__":
    main()
