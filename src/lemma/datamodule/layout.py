"""Decides how the sequences of a run become rows of its model: by the data, and by what the model can keep apart."""

from lemma.encoding import Arrangement, Geometry, TokenizerArgs, TrainingSet, arrange
from lemma.policy.architecture import attention_break_even, load_config
from lemma.policy.packing import choose_layout


def arrange_for(
    base: TokenizerArgs,
    training: TrainingSet,
    geometry: Geometry,
    *,
    layout: str,
    row_length: int | None,
    group_by_length: bool | None,
    seed: int,
    attention: str | None = None,
) -> Arrangement:
    """Return the arrangement of a run.

    Args:
        base: Names the model.
        training: What is trained on and held out.
        geometry: How windows are cut.
        layout: ``auto`` or one of ``LAYOUTS``.
        row_length: Tokens of a row at most; None chooses it.
        group_by_length: Whether padded examples are exchanged across windows; None does so where ``auto`` could not
            pack.
        seed: Of the order of grouped windows.
        attention: The attention kernel that was asked for; None for the model's own.

    Raises:
        InputError: If the model cannot have the layout, or what must stand on one row is longer than ``row_length``.
    """
    config = load_config(base.base, base.revision, base.trust_remote_code)
    chosen, obstacle = choose_layout(layout, config, shares_prompts=training.examples.holds_pairs, attention=attention)
    return arrange(
        training,
        geometry,
        layout=chosen,
        row_length=row_length,
        break_even=attention_break_even(config),
        group_by_length=obstacle is not None if group_by_length is None else group_by_length,
        seed=seed,
        obstacle=obstacle,
    )
