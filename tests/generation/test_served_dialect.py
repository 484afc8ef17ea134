"""What a server cannot do is found by tiny requests, said, and done otherwise; log-probabilities count where known."""

import itertools
import warnings

import pytest
from serving import serve, steady_brain

from lemma.generation import Drawing, Request, stream_seed
from lemma.generation.served import ServerError
from lemma.generation.served.dialect import Dialect, fold_seed

DRAWING = Drawing(stop_ids=[2], pad_id=0, max_new_tokens=32, temperature=1.0, top_p=1.0, max_batch_tokens=0)
CHAT = ({"role": "user", "content": "What is 12 - 5?"},)


@pytest.fixture
def requests(encoder):
    """Return a greedy and a sampled request of one prompt."""
    ids = encoder.encode_prompt("What is 12 - 5?")
    return [Request(ids, None, CHAT), Request(ids, 7, CHAT)]


def drawn_and_said(engine, requests, drawing=DRAWING):
    """Return the completions in order, and all that was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = dict(engine.draw(requests, drawing))
    return [samples[number] for number in range(len(requests))], " ".join(str(each.message) for each in caught)


def test_a_server_with_everything_is_asked_for_tokens_and_nothing_is_said(engine, requests):
    with serve() as server:
        [greedy, sampled], said = drawn_and_said(engine(server), requests)
        bodies = {body["temperature"]: body for _, body in server.asked}
        assert len(server.probes) == 3
    assert said == ""
    assert bodies[1.0]["seed"] == fold_seed(7)
    assert "seed" not in bodies[0.0]
    for body in bodies.values():
        assert body["prompt"] == requests[0].prompt_ids
        assert (body["logprobs"], body["ignore_eos"], body["stop_token_ids"], body["top_k"]) == (0, True, [2], -1)
    assert greedy.ids != sampled.ids
    assert len(sampled.logps) == len(sampled.ids)
    assert sampled.text is None


def test_token_names_give_ids_where_a_server_has_no_list_of_them(engine, requests):
    def forget(answer):
        del answer["choices"][0]["token_ids"]

    with serve(faults=lambda _: forget) as server:
        samples, said = drawn_and_said(engine(server), requests)
        assert [sample.ids for sample in samples] == [
            steady_brain("base", body["prompt"], body)[0]
            for _, body in sorted(server.asked, key=lambda one: one[1]["temperature"])
        ]
    assert said == ""


@pytest.mark.parametrize(
    ("lacks", "hides", "path", "words"),
    [
        (["tokens"], [], "/v1/completions", "prompts as text"),
        (["tokens", "dresses"], [], "/v1/chat/completions", "prompts as messages"),
        (["tokens", "text"], [], "/v1/chat/completions", "prompts as messages"),
        (["completions"], [], "/v1/chat/completions", "prompts as messages"),
        (["completions", "max_tokens"], [], "/v1/chat/completions", "prompts as messages"),
        ([], ["ids", "token-names"], "/v1/completions", "no token ids"),
        ([], ["logprobs"], "/v1/completions", "no log-probabilities"),
        (["logprobs"], [], "/v1/completions", "no log-probabilities"),
        (["extras"], [], "/v1/completions", "top-k and the like"),
        (["seed"], [], "/v1/completions", "no seeds"),
        (["sampling"], [], "/v1/completions", "temperature and top-p are the server's own"),
        (["seed", "logprobs", "extras", "tokens"], ["usage"], "/v1/completions", "prompts as text"),
        (["models"], [], "/v1/completions", ""),
    ],
)
def test_what_a_server_lacks_is_done_otherwise_and_said_once(engine, encoder, requests, lacks, hides, path, words):
    with serve(lacks=tuple(lacks), hides=tuple(hides), tokenizer=encoder.tokenizer) as server:
        drawer = engine(server, model="base")
        samples, said = drawn_and_said(drawer, requests)
        assert {each for each, _ in server.asked} == {path}
        again, nothing = drawn_and_said(drawer, requests)
    assert said.count("Server http") == bool(words)
    assert words in said
    assert nothing == ""
    assert again == samples
    for sample in samples:
        if sample.text is None:
            assert sample.ids
            assert len(sample.logps) == (0 if "logprobs" in (*lacks, *hides) else len(sample.ids))
        else:
            assert (sample.ids, sample.logps) == ([], [])
            assert 0 < sample.num_tokens <= 33


def test_text_prompts_hold_the_rendered_chat_and_stop_at_the_stop_tokens_spelling(engine, encoder, requests):
    stop = Drawing(encoder.stop_ids, 0, 32, 1.0, 1.0, 0)
    with serve(lacks=("tokens",), hides=("ids", "token-names"), tokenizer=encoder.tokenizer) as server:
        samples, _ = drawn_and_said(engine(server), requests, stop)
        [(_, body), *_] = server.asked
    assert body["prompt"] == encoder.tokenizer.decode(requests[0].prompt_ids)
    assert body["stop"] == [encoder.tokenizer.decode([token]) for token in encoder.stop_ids]
    assert "ignore_eos" not in body  # it may know that and not our stop tokens
    assert all(sample.text for sample in samples)


def test_chat_can_be_asked_for_and_completions_too(engine, requests):
    with serve() as server:
        [first, _], said = drawn_and_said(engine(server, api="chat"), requests)
        assert {path for path, _ in server.asked} == {"/v1/chat/completions"}
        assert server.asked[0][1]["messages"] == list(CHAT)
        assert first.text
        assert "prompts as messages" in said
    with serve(lacks=("completions",)) as server, pytest.raises(ServerError, match="404"):
        drawn_and_said(engine(server, api="completions"), requests)
    with serve() as server, pytest.raises(ServerError, match="needs messages, and the prompt has none"):
        drawn_and_said(engine(server, api="chat"), [Request([5], 1)])


def test_thoughts_that_stand_apart_come_before_the_text(engine, requests):
    def think(answer):
        answer["choices"][0]["message"] |= {"reasoning_content": "12 - 5 is 7.", "content": "7"}

    def only_think(answer):
        answer["choices"][0]["message"] |= {"reasoning": "12 - 5", "content": None}
        answer["choices"][0]["finish_reason"] = "length"

    with serve(faults=lambda number: (think, only_think)[number]) as server:
        [one, two], _ = drawn_and_said(engine(server, api="chat", max_in_flight=1), requests)
    assert (one.text, one.stopped) == ("<think>\n12 - 5 is 7.\n</think>\n\n7", True)
    assert (two.text, two.stopped) == ("<think>\n12 - 5\n</think>\n\n", False)


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize(("temperature", "top_p"), list(itertools.product((1.0, 0.5), (1.0, 0.9))))
def test_log_probabilities_are_left_out_where_the_server_means_others(engine, requests, processed, temperature, top_p):
    drawing = Drawing([2], 0, 32, temperature, top_p, 0)
    with serve(processed=processed) as server:
        drawer = engine(server)
        [greedy, sampled], _ = drawn_and_said(drawer, requests, drawing)
        assert drawer.dialects == {server.url: Dialect("tokens", processed=processed)}
    known = top_p == 1 if processed else temperature == 1
    assert len(sampled.logps) == (len(sampled.ids) if known else 0)
    assert len(greedy.logps) == (len(greedy.ids) if temperature == 1 else 0)


def test_servers_of_unlike_abilities_serve_one_draw(engine, encoder):
    requests = [Request(encoder.encode_prompt("What is 12 - 5?"), seed, CHAT) for seed in range(12)]
    with serve() as one, serve(lacks=("completions",), tokenizer=encoder.tokenizer) as two:
        samples, said = drawn_and_said(engine(one, two, max_in_flight=2), requests)
        assert len(one.asked) + len(two.asked) == 12
    assert said.count("Server http") == 1
    assert all(bool(sample.ids) != bool(sample.text) for sample in samples)


def test_a_model_that_the_server_does_not_have_is_an_error_that_lists_some_it_has(engine, requests):
    with serve(models=[f"model-{number}" for number in range(30)]) as server:
        with pytest.raises(ServerError, match=r"no model 'absent'; it has 'model-0', .* and 20 more"):
            list(engine(server, model="absent").draw(requests, DRAWING))
        with pytest.raises(ServerError, match=r"set model\.served\.model to one of them"):
            engine(server).connect()
        engine(server, model="model-3").connect()


def test_the_only_model_is_taken_and_adapters_do_not_count(engine, requests):
    with serve(models=["only"]) as server:
        server.adapters["policy-1"] = "somewhere"
        drawn_and_said(engine(server), requests)
        assert {body["model"] for _, body in server.asked} == {"only"}


def test_seeds_stay_apart_within_31_bits():
    seeds = [*(stream_seed(0, "source", "problem", sample) for sample in range(2000)), 2**63 - 1]
    folded = {fold_seed(seed) for seed in seeds}
    assert len(folded) == len(seeds)
    assert all(1 <= seed < 2**31 for seed in folded)
