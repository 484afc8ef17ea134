"""The order in which problems are asked: across epochs, and from a saved position."""

import numpy as np
import pytest

from lemma.corpora import Mixture
from lemma.rollouts import PromptStream
from lemma.types import InputError


def stream(size: int = 7, seed: int = 3) -> PromptStream:
    return PromptStream(Mixture([size], [None], seed).epoch_order)


def test_takes_of_any_size_are_the_epochs_one_after_another():
    epochs = np.concatenate([Mixture([7], [None], 3).epoch_order(epoch) for epoch in range(6)])
    one = stream()
    taken = np.concatenate([one.take(number) for number in (3, 0, 4, 1, 20, 7)])
    assert taken.tolist() == epochs[:35].tolist()
    assert one.epoch_length == 7
    assert sorted(taken[7:14].tolist()) == list(range(7)), "every problem comes once an epoch"


def test_places_count_on_across_epochs_and_none_comes_twice():
    one = stream()
    places = [place for number in (5, 5, 12) for place in one.draw(number).places.tolist()]
    assert places == list(range(22))


@pytest.mark.parametrize("before", [0, 3, 7, 16])
def test_a_restored_stream_goes_on_as_if_it_had_not_stopped(before):
    one, two = stream(), stream()
    one.take(before)
    two.load_state_dict(one.state_dict())
    ahead, restored = one.draw(10), two.draw(10)
    assert ahead.indices.tolist() == restored.indices.tolist()
    assert ahead.places.tolist() == restored.places.tolist()


def test_two_streams_with_the_same_seed_are_the_same_and_with_another_are_not():
    assert stream().take(30).tolist() == stream().take(30).tolist()
    assert stream().take(30).tolist() != stream(seed=4).take(30).tolist()


def test_a_position_in_epochs_of_another_length_is_refused():
    with pytest.raises(InputError, match="written with 7 problems an epoch, this run has 8"):
        stream(8).load_state_dict(stream(7).state_dict())
