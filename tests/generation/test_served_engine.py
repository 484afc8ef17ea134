"""The served engine from outside: quiet before its use and after, without secrets, greedy as the local engine is."""

import os
import signal
import threading
import time

import pytest
from serving import schedule, serve, serve_policy, slow_brain, steady_brain

from lemma.generation import Drawing, LocalEngine, Request
from lemma.generation.served import ServedArgs, ServedEngine, ServerError
from lemma.generation.served.engine import BaseModel
from lemma.policy import LoraArgs, Policy, PolicyArgs
from lemma.types import InputError

pytestmark = pytest.mark.filterwarnings("ignore:Server http")
DRAWING = Drawing(stop_ids=[2], pad_id=0, max_new_tokens=8, temperature=1.0, top_p=1.0, max_batch_tokens=0)
REQUESTS = [Request([5, 6], seed=number) for number in range(12)]


def threads() -> int:
    return sum(thread.name == "served" for thread in threading.enumerate())


def wait_until(condition) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_is_asked_and_no_thread_runs_before_the_first_use(encoder):
    with serve() as server:
        engine = ServedEngine(ServedArgs([server.url]), encoder)
        drawn = engine.draw(REQUESTS, DRAWING)
        assert (server.headers, threads()) == ([], 0)
        assert list(engine.draw([], DRAWING)) == []
        assert (server.headers, threads()) == ([], 0)
        assert len(list(drawn)) == 12
        assert threads() == 1
        engine.close()
        engine.close()
    assert threads() == 0


def test_an_engine_that_was_closed_draws_again(engine):
    with serve() as server:
        drawer = engine(server)
        first = dict(drawer.draw(REQUESTS, DRAWING))
        drawer.close()
        assert dict(drawer.draw(REQUESTS, DRAWING)) == first


def test_a_draw_that_is_left_cancels_what_is_in_flight(engine):
    with serve(slow_brain) as server:
        drawn = engine(server, max_in_flight=4).draw(REQUESTS, DRAWING)
        next(drawn)
        drawn.close()
        wait_until(lambda: server.in_flight == 0)
        asked = len(server.asked)
        time.sleep(0.15)
        assert len(server.asked) == asked < 12


def test_an_interrupt_of_the_caller_cancels_what_is_in_flight(engine):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with serve(faults=lambda _: "hang") as server:
        drawer = engine(server, max_in_flight=4, request_timeout=60.0)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            list(drawer.draw(REQUESTS, DRAWING))
        assert len(server.asked) == 4
        wait_until(lambda: server.in_flight == 0)


def test_closing_an_engine_ends_a_draw_with_an_error(engine):
    with serve(faults=lambda _: "hang") as server:
        drawer = engine(server, request_timeout=60.0)
        closing = threading.Timer(0.2, drawer.close)
        closing.start()
        with pytest.raises(ServerError, match="closed while it drew"):
            list(drawer.draw(REQUESTS, DRAWING))
        closing.join()
    assert threads() == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_draws_by_connections_of_its_own(engine):
    with serve() as server:
        drawer = engine(server)
        first = dict(drawer.draw(REQUESTS, DRAWING))
        child = os.fork()
        if child == 0:
            same = dict(drawer.draw(REQUESTS, DRAWING)) == first
            drawer.close()
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert dict(drawer.draw(REQUESTS, DRAWING)) == first


@pytest.mark.parametrize("answer", ["401", "echo"])
def test_the_key_is_sent_and_stands_in_no_message(engine, monkeypatch, recwarn, answer):
    monkeypatch.setenv("LEMMA_TEST_KEY", "sk-very-secret")
    echo = (400, {"error": {"message": "who is sk-very-secret?"}})
    with serve(key="another" if answer == "401" else "sk-very-secret", faults=lambda _: echo) as server:
        with pytest.raises(ServerError) as caught:
            list(engine(server, api_key_env="LEMMA_TEST_KEY").draw(REQUESTS[:1], DRAWING))
        if answer == "echo":
            assert server.headers[-1]["Authorization"] == "Bearer sk-very-secret"
    said = str(caught.value) + " ".join(str(each.message) for each in recwarn)
    assert ("401" if answer == "401" else "who is ***") in said
    assert "secret" not in said


def test_a_url_with_a_password_is_refused_without_showing_it():
    with pytest.raises(InputError, match="no user or password") as caught:
        ServedArgs(urls=["https://user:hidden@example.org/v1"])
    assert "hidden" not in str(caught.value)


def test_a_key_opens_a_server_that_wants_one_and_none_is_sent_without(engine, monkeypatch):
    monkeypatch.setenv("LEMMA_TEST_KEY", "sk-right")
    with serve(key="sk-right") as server:
        assert len(list(engine(server, api_key_env="LEMMA_TEST_KEY").draw(REQUESTS, DRAWING))) == 12
    monkeypatch.delenv("LEMMA_TEST_KEY")
    with serve() as server:
        list(engine(server, api_key_env="LEMMA_TEST_KEY").draw(REQUESTS[:1], DRAWING))
        assert all("Authorization" not in headers for headers in server.headers)


def test_a_redirect_is_not_followed(engine):
    with serve() as other:
        away = (307, {}, {"Location": f"{other.url}/completions"})
        with (
            serve(faults=lambda _: away) as server,
            pytest.raises(ServerError, match="a redirect, which is not followed"),
        ):
            list(engine(server).draw(REQUESTS[:1], DRAWING))
        assert other.headers == []


def test_a_server_without_a_certificate_is_not_spoken_to(engine):
    with serve() as server, pytest.raises(ServerError, match="https://"):
        list(engine(server.url.replace("http:", "https:"), deadline=0.3).draw(REQUESTS[:1], DRAWING))
    assert server.asked == []


def test_proxies_of_the_environment_are_not_used(engine, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serve() as server:
        assert len(list(engine(server, deadline=1.0).draw(REQUESTS, DRAWING))) == 12


def test_the_slow_ones_do_not_hold_back_the_finished_ones(engine):
    with serve(faults=schedule({0: "hang"})) as server:
        drawn = engine(server, request_timeout=1.0).draw(REQUESTS, DRAWING)
        begin = time.monotonic()
        assert next(drawn)[0] in range(12)
        assert time.monotonic() - begin < 0.9
        assert len(list(drawn)) == 11


def test_greedy_completions_are_the_local_engines_before_and_after_an_adapter(engine, encoder, problems, tmp_path):
    policy = Policy(PolicyArgs("tiny", lora=LoraArgs(r=4)))
    requests = [Request(encoder.encode_prompt(problem.problem), None) for problem in problems[:2]]
    drawing = Drawing(encoder.stop_ids, encoder.pad_id, 24, 1.0, 1.0, 4096)

    class Pushed(BaseModel):
        version = 0

        def refresh(self, engine, policy):
            self.version += 1
            policy.save(tmp_path / self.name())
            loaded = engine.post(
                "load_lora_adapter", {"lora_name": self.name(), "lora_path": str(tmp_path / self.name())}
            )
            assert all("Success" in answer for _, answer in loaded)

        def name(self):
            return f"policy-{self.version}"

    with serve_policy() as server:
        served = ServedEngine(ServedArgs([server.url], request_timeout=30.0), encoder, weights=Pushed())
        seen = []
        for _ in range(2):
            local = LocalEngine()
            local.refresh(policy)
            served.refresh(policy)
            ours, theirs = dict(local.draw(requests, drawing)), dict(served.draw(requests, drawing))
            assert [theirs[number].ids for number in range(2)] == [ours[number].ids for number in range(2)]
            for number in range(2):
                assert theirs[number].logps == pytest.approx(ours[number].logps, abs=1e-4)
            seen.append(ours[0].ids)
            for name, parameter in policy.named_parameters():
                if "lora_B" in name:
                    parameter.data.normal_(std=0.3)
        served.close()
        assert seen[0] != seen[1]
        assert set(server.adapters) == {"policy-1", "policy-2"}


def test_ids_that_the_policy_does_not_have_are_refused(engine):
    def vast(model, prompt_ids, body):
        ids, logps = steady_brain(model, prompt_ids, body)
        return [5000, *ids[1:]], logps

    with serve(vast) as server:
        drawer = engine(server)
        assert len(list(drawer.draw(REQUESTS, DRAWING))) == 12
        policy = Policy(PolicyArgs("tiny", method="full"))
        drawer.refresh(policy)
        with pytest.raises(ServerError, match="expected token ids from 0 to"):
            list(drawer.draw(REQUESTS, DRAWING))
