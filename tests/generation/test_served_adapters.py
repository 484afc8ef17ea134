"""The policy's adapter on a server: each version is pushed, proved and forgotten; what is stale or wrong is noticed."""

import time

import pytest
import torch
from serving import serve_policy
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lemma.assets import resolve_base
from lemma.encoding import padded
from lemma.generation import Drawing, Request, ServedArgs
from lemma.generation.served import ServedEngine, ServerError
from lemma.generation.served.adapters import AdapterWeights, Ranks
from lemma.generation.served.backoff import Backoff
from lemma.generation.served.errors import OutageError, RefusalError
from lemma.generation.served.presence import Presence
from lemma.policy import LoraArgs, Policy, PolicyArgs

QUICK = Backoff(first=0.01, longest=0.02)


@pytest.fixture
def policy():
    return Policy(PolicyArgs("tiny", lora=LoraArgs(r=4)))


def move(policy: Policy, size: float) -> None:
    """Change what the policy computes, each time in the same direction."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def make_weights(encoder, tmp_path):
    """Return a function that makes the weights of a run of one rank."""

    def logps(policy, examples):
        batch = padded(examples, pad_id=encoder.pad_id, window_weight=1.0)
        with torch.no_grad():
            return [row[mask].tolist() for row, mask in zip(policy(batch), batch.mask, strict=True)]

    def make(args: ServedArgs, backoff: Backoff = QUICK) -> AdapterWeights:
        ranks = Ranks(True, lambda work: [work()], lambda _: None, logps)
        return AdapterWeights(args, tmp_path / "served", encoder, ranks, backoff)

    return make


@pytest.fixture
def engine_of(make_weights, encoder):
    """Return a function that makes an engine over a server, with its weights; closed afterwards."""
    made = []

    def make(server, **args) -> tuple[ServedEngine, AdapterWeights]:
        served = ServedArgs([server.url], deadline=120.0, **args)
        weights = make_weights(served)
        made.append(ServedEngine(served, encoder, weights=weights, backoff=QUICK))
        return made[-1], weights

    yield make
    for engine in made:
        engine.close()


def greedy(engine: ServedEngine, encoder, size: int = 12) -> list[int]:
    ids = encoder.encode_prompt("What is 7 + 8?")
    drawing = Drawing(encoder.stop_ids, encoder.pad_id, size, 1.0, 1.0, 4096)
    return dict(engine.draw([Request(ids, None)], drawing))[0].ids


def test_each_version_has_a_name_of_its_own_and_the_one_before_goes(policy, engine_of, encoder, tmp_path):
    with serve_policy() as server:
        engine, weights = engine_of(server)
        names, texts = [], []
        for size in (0.0, 0.5):
            move(policy, size)
            engine.refresh(policy)
            names.append(weights.name())
            texts.append(greedy(engine, encoder))
            assert list(server.adapters) == names[-1:]
            assert [path.name for path in (tmp_path / "served").iterdir()] == names[-1:]
            assert weights.difference < 1e-4
        assert names[0] != names[1]
        assert names[0][:-7] == names[1][:-7]
        assert texts[0] != texts[1], "the server draws from what the policy has become"
        engine.close()
        assert not server.adapters
        assert not (tmp_path / "served").exists()


def test_a_server_sleeps_while_nothing_is_drawn_and_is_woken_for_the_next_version(policy, engine_of, encoder):
    with serve_policy() as server:
        engine, _ = engine_of(server, sleep=True)
        engine.refresh(policy)
        before = greedy(engine, encoder)
        engine.rest()
        assert server.asleep
        engine.refresh(policy)
        assert not server.asleep
        assert greedy(engine, encoder) == before


def test_servers_are_not_put_to_sleep_unasked(policy, engine_of):
    with serve_policy() as server:
        engine, _ = engine_of(server)
        engine.refresh(policy)
        engine.rest()
        assert not server.asleep


def test_a_server_that_cannot_sleep_is_told_of_with_what_it_needs(policy, engine_of):
    with serve_policy(lacks=frozenset({"sleep"})) as server:
        engine, _ = engine_of(server, sleep=True)
        with pytest.raises(ServerError, match=r"does not know /wake_up: .*--enable-sleep-mode"):
            engine.refresh(policy)


def test_two_runs_at_one_server_do_not_share_names(policy, engine_of):
    with serve_policy() as server:
        for _ in range(2):
            engine_of(server)[0].refresh(policy)
        assert len(server.adapters) == 2


def test_a_server_that_has_kept_the_version_before_is_noticed(policy, engine_of):
    class Stale(dict):
        def __setitem__(self, name, path):
            super().__setitem__(name, self.setdefault("first", path))

    with serve_policy() as server:
        server.adapters = Stale()
        engine, _ = engine_of(server)
        engine.refresh(policy)
        move(policy, 0.02)
        with pytest.raises(ServerError, match=r"adapter of before: .*\d nats a token off the policy's .* and .*\d off"):
            engine.refresh(policy)


def test_a_server_with_another_base_is_noticed(policy, engine_of, tmp_path):
    base = tmp_path / "another"
    AutoTokenizer.from_pretrained(resolve_base("tiny")).save_pretrained(base)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(resolve_base("tiny"))).save_pretrained(base)
    with serve_policy(str(base)) as server:
        engine, _ = engine_of(server)
        with pytest.raises(ServerError, match=r"does not compute what the policy does: .*probe_tolerance = 0\.1"):
            engine.refresh(policy)


def test_a_server_that_was_restarted_gets_the_adapter_again(policy, engine_of, encoder):
    with serve_policy() as server:
        engine, weights = engine_of(server)
        move(policy, 0.5)
        engine.refresh(policy)
        before = greedy(engine, encoder)
        server.adapters.clear()
        assert greedy(engine, encoder) == before
        assert list(server.adapters) == [weights.name()]


class Answers:
    """An engine whose servers answer as they are told."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked = []
        self.presence = Presence(0.1)

    def connect(self):
        return ["base"]

    def pause(self, seconds):
        time.sleep(seconds)

    def post(self, path, payload, *, seconds=60.0):
        self.asked.append(path)
        return [("http://one/v1", self.answers[0] if len(self.answers) == 1 else self.answers.pop(0))]


@pytest.mark.parametrize(
    "refusal",
    [OutageError("HTTP 500: rank 4 is too large", status=500), RefusalError(404, "Not Found")],
)
def test_a_server_that_takes_no_such_adapter_is_named_with_what_it_needs(policy, make_weights, refusal):
    weights = make_weights(ServedArgs())
    with pytest.raises(ServerError, match=rf"http://one/v1 .*{refusal}.*--max-lora-rank 4 or more.*RUNTIME_LORA"):
        weights.refresh(Answers(refusal), policy)


def test_a_server_that_refuses_the_key_is_not_said_to_lack_flags(policy, make_weights):
    refusal = RefusalError(401, "HTTP 401: no key (LEMMA_API_KEY is not set)")
    with pytest.raises(ServerError, match=r"adapter: HTTP 401: no key \(LEMMA_API_KEY is not set\)\.$"):
        make_weights(ServedArgs()).refresh(Answers(refusal), policy)


def test_servers_that_are_away_are_waited_for_as_long_as_patience_lasts(policy, make_weights):
    engine = Answers(OutageError("connection refused"))
    with pytest.raises(
        ServerError, match=r"No server took .* model\.served\.patience.\n  http://one/v1: connection ref"
    ):
        make_weights(ServedArgs()).refresh(engine, policy)
    assert engine.asked.count("load_lora_adapter") > 2
