"""``--model.loss_type`` through the command line."""

import pytest
import torch

from lemma.objectives import SFT_LOSSES


def test_each_loss_type_trains_in_its_own_way(lemma, tmp_path, last_checkpoint):
    trained = {}
    for loss_type in SFT_LOSSES:
        run = tmp_path / loss_type
        lemma("fit", "--model.loss_type", loss_type, "--trainer.max_steps", "3", "--trainer.default_root_dir", str(run))
        state = last_checkpoint(run)["state_dict"]
        trained[loss_type] = torch.cat([tensor.flatten() for tensor in state.values()])
    assert len(trained) >= 2
    assert all(weights.isfinite().all() for weights in trained.values())
    assert not torch.equal(trained["nll"], trained["dft"])


def test_a_misspelt_loss_type_is_refused_and_the_choices_are_named(lemma, tmp_path):
    with pytest.raises(SystemExit, match=r"model\.loss_type: expected one of nll, dft, but got 'dtf'\."):
        lemma("fit", "--model.loss_type", "dtf", "--trainer.default_root_dir", str(tmp_path))
