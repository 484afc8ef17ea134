"""Whatever goes wrong at a server: each completion comes once, and is what the brain says, or the error is clear."""

import itertools
import re
import time

import pytest
from serving import randomly, schedule, serve, slow_brain, steady_brain

from lemma.generation import Drawing, Request
from lemma.generation.served import ServerError
from lemma.generation.served.dialect import fold_seed

pytestmark = pytest.mark.filterwarnings("ignore:Server http")
DRAWING = Drawing(stop_ids=[2], pad_id=0, max_new_tokens=8, temperature=1.0, top_p=1.0, max_batch_tokens=0)
REQUESTS = [Request([5, 6, 7 + number // 4], seed=2**62 + number) for number in range(24)]


def expected(request: Request) -> list[int]:
    """Return what the steady brain says to a request."""
    body = {"seed": fold_seed(request.seed), "max_tokens": DRAWING.max_new_tokens, "stop_token_ids": [2]}
    return steady_brain("base", request.prompt_ids, body)[0]


def check_all(drawn) -> None:
    """Check that every completion came once, and is the one of its own prompt and seed."""
    numbers = [number for number, _ in drawn]
    assert sorted(numbers) == list(range(len(REQUESTS)))
    for number, sample in drawn:
        assert sample.ids == expected(REQUESTS[number])
        assert len(sample.logps) == len(sample.ids)
        assert sample.stopped == (sample.ids[-1] == 2)


def drawn_until_error(engine, requests=REQUESTS):
    """Return what came before the error, the error, and after how many seconds it came."""
    got, begin = [], time.monotonic()
    with pytest.raises(ServerError) as caught:
        got.extend(engine.draw(requests, DRAWING))  # keeps what was yielded before
    return got, str(caught.value), time.monotonic() - begin


@pytest.mark.parametrize("fault", ["hang", "429", "500", "cut", "malformed", "shape", "fewer", "wrong-model"])
def test_a_completion_that_goes_wrong_is_tried_again(engine, fault):
    with serve(faults=schedule({0: fault, 5: fault, 6: fault})) as server:
        check_all(list(engine(server).draw(REQUESTS, DRAWING)))
        assert len(server.asked) == len(REQUESTS) + 3
        assert len(server.answered) == len(REQUESTS)


def test_all_faults_together_lose_nothing_and_repeat_nothing(engine):
    faults = {"hang": 0.03, "429": 0.1, "500": 0.1, "cut": 0.1, "malformed": 0.1, "shape": 0.05, "fewer": 0.05}
    with serve(faults=randomly(faults, seed=1)) as one, serve(faults=randomly(faults, seed=2)) as two:
        check_all(list(engine(one, two, max_in_flight=4).draw(REQUESTS, DRAWING)))
        assert len(one.asked) + len(two.asked) > len(REQUESTS)


HOSTILE = {
    "a huge body": lambda _: b" " * 2**20,
    "no text": lambda _: b"\xff\xfe{",
    "deep JSON": lambda _: b"[" * 100_000,
    "an endless number": lambda _: b'{"choices": ' + b"9" * 5000 + b"}",
    "a list": lambda _: [],
    "no choice": lambda answer: answer | {"choices": []},
    "two choices": lambda answer: answer | {"choices": answer["choices"] * 2},
    "negative ids": lambda answer: answer["choices"][0]["token_ids"].__setitem__(0, -1),
    "ids that are too large": lambda answer: answer["choices"][0]["token_ids"].__setitem__(0, 2**40),
    "ids that are no integers": lambda answer: answer["choices"][0]["token_ids"].__setitem__(0, "5"),
    "ids that are truths": lambda answer: answer["choices"][0]["token_ids"].__setitem__(0, True),
    "too many ids": lambda answer: answer["choices"][0].update(token_ids=[9] * 9),
    "another prompt": lambda answer: answer["choices"][0]["prompt_token_ids"].append(1),
    "a stop token inside": lambda answer: answer["choices"][0]["token_ids"].__setitem__(0, 2),
    "logps that are no numbers": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(0, None),
    "NaN": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(0, float("nan")),
    "minus infinity": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(0, -float("inf")),
    "logps above 0": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(0, 0.5),
    "vast logps": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(0, -(10**400)),
    "one logp too few": lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].pop(),
    "no logps": lambda answer: answer["choices"][0].pop("logprobs"),
    "no end": lambda answer: answer["choices"][0].update(finish_reason=None),
    "an abort": lambda answer: answer["choices"][0].update(finish_reason="abort"),
    "usage of another count": lambda answer: answer["usage"].update(completion_tokens=3000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_asked_for_again_and_then_refused(engine, name):
    requests = [request for request in REQUESTS if len(expected(request)) > 2 and expected(request)[-1] == 2][:2]
    with serve(faults=schedule({0: HOSTILE[name]})) as server:
        once = dict(engine(server).draw(requests, DRAWING))
        assert [once[number].ids for number in range(2)] == [expected(request) for request in requests]
    with serve(faults=lambda _: HOSTILE[name]) as server:
        got, message, _ = drawn_until_error(engine(server), requests[:1])
        assert got == []
        assert server.url in message
        assert len(message) < 2000
        assert 1 < len(server.asked) < 8


def test_a_server_that_dies_in_mid_batch_leaves_its_share_to_the_other(engine):
    with serve(faults=schedule({3: "die"})) as one, serve() as two:
        check_all(list(engine(one, two, max_in_flight=2).draw(REQUESTS, DRAWING)))
        assert 0 < len(one.answered) < len(REQUESTS)
        assert len(one.answered) + len(two.answered) >= len(REQUESTS)


def test_a_server_that_comes_back_is_used_again(engine):
    with serve(faults=schedule({3: "die"})) as server:
        drawn = engine(server, max_in_flight=2).draw(REQUESTS, DRAWING)
        got = list(itertools.islice(drawn, 3))
        while not server.dead:
            time.sleep(0.01)
        server.revive()
        check_all(got + list(drawn))


def test_when_all_die_the_finished_ones_come_first_and_then_an_error_at_about_the_deadline(engine):
    with serve(faults=schedule({6: "die"})) as one, serve(faults=schedule({6: "die"})) as two:
        got, message, seconds = drawn_until_error(engine(one, two, max_in_flight=2, deadline=0.8))
        finished = {(*body["prompt"], body["seed"]) for each in (one, two) for body, _ in each.answered}
        assert len(got) == len(finished) >= 6
        assert all(sample.ids == expected(REQUESTS[number]) for number, sample in got)
        assert 0.5 < seconds < 3
        assert one.url in message
        assert two.url in message
        assert f"{len(got)} of 24 are finished" in message


def test_an_engine_whose_servers_never_answer_says_so_at_the_deadline(engine):
    with serve() as server:
        server.die()
        got, message, seconds = drawn_until_error(engine(server, deadline=0.5))
    assert got == []
    assert 0.4 < seconds < 2
    assert "no server is healthy" in message


def test_a_request_that_is_wrong_is_not_tried_again(engine):
    long = {"error": {"message": "maximum context length is 7 tokens. " * 100}}
    with serve(faults=lambda _: (400, long)) as server:
        _, message, seconds = drawn_until_error(engine(server), REQUESTS[:1])
        assert len(server.asked) == 1
    assert "maximum context length is 7 tokens" in message
    assert len(message) < 1500
    assert seconds < 2


def test_one_completion_that_is_given_up_lets_those_under_way_finish(engine):
    with serve(slow_brain, faults=schedule({0: (400, {"error": "no"})})) as server:
        got, _, _ = drawn_until_error(engine(server, max_in_flight=6))
        assert len(got) == 5  # no seventh was begun
        assert len(server.asked) == 6


def test_a_pause_that_is_asked_for_is_kept_and_bounded(engine, monkeypatch):
    monkeypatch.setattr("lemma.generation.served.pool.LONGEST_PAUSE", 0.3)
    with serve(faults=schedule({0: (429, {}, {"Retry-After": "999999"})})) as server:
        begin = time.monotonic()
        check_all(list(engine(server, max_in_flight=1).draw(REQUESTS, DRAWING)))
        assert 0.3 < time.monotonic() - begin < 3
        assert len(server.asked) == len(REQUESTS) + 1


def test_a_server_that_lost_its_model_is_left_out_while_another_has_it(engine):
    def lose(number):
        if number == 2:
            one.models = ["another"]

    with serve(faults=lose) as one, serve() as two:
        check_all(list(engine(one, two, model="base", max_in_flight=2).draw(REQUESTS, DRAWING)))
    with serve(faults=lose) as one:
        _, message, seconds = drawn_until_error(engine(one, model="base", max_in_flight=2))
        assert "it has no model 'base'; it has 'another'" in message
        assert seconds < 2


def test_no_more_requests_are_in_flight_than_allowed_and_both_servers_share_them(engine):
    with serve(slow_brain) as one, serve(slow_brain) as two:
        drawer = engine(one, two, max_in_flight=3)
        check_all(list(drawer.draw(REQUESTS, DRAWING)))
        assert one.most_in_flight == two.most_in_flight == 3
        before = len(one.asked), len(two.asked)
        list(drawer.draw(REQUESTS[:4], DRAWING))  # by now both are known to be healthy
        assert (len(one.asked), len(two.asked)) == (before[0] + 2, before[1] + 2)


def test_every_try_of_a_completion_asks_for_the_same(engine):
    with serve(faults=schedule({0: "500", 1: "500", 2: "malformed"})) as server:
        list(engine(server).draw(REQUESTS[:1], DRAWING))
        bodies = [body for _, body in server.asked]
        assert len(bodies) == 4
        assert all(body == bodies[0] for body in bodies)
        assert not re.search("object at 0x", str(bodies[0]))
