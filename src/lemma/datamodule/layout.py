"""Decides how the sequences of a run become rows of its model: by the data, and by what the model can keep apart."""

from lemma.encoding import Arrangement, Geometry, TokenizerArgs, TrainingSet, arrange
from lemma.policy.architecture import attention_break_even, load_config
from lemma.policy.packing import choose_layout
from lemma.policy.skipping import skips_masked
from lemma.rollouts import RolloutLayout
from lemma.types import InputError


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
    device: str = "cpu",
    rollouts: bool = False,
) -> Arrangement | RolloutLayout:
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
        device: Type of the device that trains.
        rollouts: Whether examples are prompts, for whose completions rows are made.

    Raises:
        InputError: If the model cannot have the layout, what must stand on one row is longer than ``row_length``, or an
            option needs lengths that nobody knows before completions are drawn.
    """
    config = load_config(base.base, base.revision, base.trust_remote_code)
    shares_prompts = rollouts or training.examples.holds_pairs
    chosen, obstacle = choose_layout(layout, config, shares_prompts=shares_prompts, attention=attention)
    free = skips_masked(config, device, shares_prompts=chosen == "shared_prefix", attention=attention)
    break_even = float("inf") if free else attention_break_even(config)
    if rollouts:
        for name, value in (("row_length", row_length), ("group_by_length", group_by_length)):
            if value:
                raise InputError(
                    f"data.{name}: expected null for rollouts, for lengths are known only when completions are drawn, "
                    f"but got {value}."
                )
        return RolloutLayout(chosen, break_even, obstacle)
    return arrange(
        training,
        geometry,
        layout=chosen,
        row_length=row_length,
        break_even=break_even,
        group_by_length=obstacle is not None if group_by_length is None else group_by_length,
        seed=seed,
        obstacle=obstacle,
    )
