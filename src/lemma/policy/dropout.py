"""Turns dropout off in training, as objectives need it that compare a policy with its reference."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

_NAMES = ("dropout", "drop", "dropout_p", "dropout_prob")


def disable_dropout(model: nn.Module) -> None:
    """Set every probability of dropout in a model to 0, adapters included.

    transformers' layers hold a probability as a ``Dropout`` module, as an attribute of their own, or read it from the
    configuration at each call (Falcon), which therefore says 0, too, where the model is saved whole.

    Args:
        model: Changed in place.
    """
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
            continue
        for owner in (module, getattr(module, "config", None)):
            for name, value in vars(owner).items() if owner is not None else ():
                if name.endswith(_NAMES) and isinstance(value, float):
                    setattr(owner, name, 0.0)
