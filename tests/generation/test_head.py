"""The head the other way round: the same logits, in any shape, and nothing left behind."""

import pytest
import torch
from torch import nn

from lemma.generation.head import head_for_few_rows


class Model(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def get_output_embeddings(self) -> nn.Module:
        return self.head


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 5), (3, 1, 5), (2, 4, 5)])
def test_logits_are_the_heads(dtype, shape):
    torch.manual_seed(0)
    model, hidden = Model(nn.Linear(5, 11, bias=False, dtype=dtype)), torch.randn(shape, dtype=dtype)
    with torch.no_grad():
        plain = model.head(hidden)
        with head_for_few_rows(model):
            turned = model.head(hidden)
    assert turned.shape == plain.shape
    assert "forward" not in vars(model.head)
    torch.testing.assert_close(turned, plain)


def test_a_failure_leaves_nothing_behind():
    model = Model(nn.Linear(5, 11, bias=False))
    with pytest.raises(RuntimeError), head_for_few_rows(model):
        model.head(torch.zeros(1, 4))
    assert "forward" not in vars(model.head)


@pytest.mark.parametrize("head", [nn.Linear(5, 11), nn.Identity(), nn.Linear(5, 11, bias=False, device="meta")])
def test_another_head_is_left_alone(head):
    with head_for_few_rows(Model(head)):
        assert "forward" not in vars(head)
