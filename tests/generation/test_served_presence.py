"""Who waits for a server is told so at once, for how long, and when it is over; a signal ends the wait."""

import itertools
import signal
import socket
import threading
import time

import pytest
from serving import schedule, serve

from lemma.generation import Drawing, Request
from lemma.generation.served import ServedArgs, ServerError
from lemma.generation.served.errors import OutageError, SignalledError
from lemma.generation.served.presence import Presence

pytestmark = pytest.mark.filterwarnings("ignore:Server http")
DRAWING = Drawing(stop_ids=[2], pad_id=0, max_new_tokens=8, temperature=1.0, top_p=1.0, max_batch_tokens=0)
REQUESTS = [Request([5, 6], seed=number) for number in range(12)]


@pytest.fixture
def nobody() -> str:
    """Return a URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        return f"http://127.0.0.1:{once.getsockname()[1]}/v1"


def lines(caplog, url: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(url)]


@pytest.mark.parametrize("ask", ["connect", "draw"])
def test_a_server_that_nobody_started_is_said_to_be_waited_for_once(engine, nobody, caplog, ask):
    drawer = engine(nobody, patience=1.0)
    with pytest.raises(ServerError, match="connection refused"):
        drawer.connect() if ask == "connect" else list(drawer.draw(REQUESTS, DRAWING))
    said = "does not answer (connection refused); waiting up to 1 s (no server has answered yet)"
    assert lines(caplog, nobody) == [f"{nobody} {said}"]


def test_a_server_that_dies_is_said_to_be_waited_for_and_to_be_back(engine, caplog):
    with serve(faults=schedule({3: "die"})) as server:
        drawn = engine(server, max_in_flight=2).draw(REQUESTS, DRAWING)
        got = list(itertools.islice(drawn, 3))
        while not lines(caplog, server.url):
            time.sleep(0.01)
        server.revive()
        assert len(got + list(drawn)) == len(REQUESTS)
    away, back = lines(caplog, server.url)
    assert "does not answer" in away
    assert away.endswith("waiting up to 5 s (model.served.patience)")
    assert back == f"{server.url} is back"


def test_patience_is_short_until_a_server_has_answered():
    presence = Presence(300.0)
    presence.missed("http://one/v1", OutageError("connection refused"), others=False)
    assert presence.patience == 20
    presence.missed("http://one/v1", OutageError("HTTP 503: the model is being loaded", status=503), others=False)
    assert presence.patience == 300
    assert Presence(5.0).patience == 5


WAITS = {
    "for any server": lambda engine: engine.connect(),
    "for completions": lambda engine: list(engine.draw(REQUESTS, DRAWING)),
    "between tries": lambda engine: engine.pause(60.0),
}


@pytest.mark.parametrize("kind", WAITS)
def test_a_signal_ends_a_wait_at_once_and_only_one(engine, nobody, kind):
    drawer = engine(nobody, deadline=60.0)
    threading.Timer(0.3, drawer.interrupt, (signal.SIGTERM,)).start()
    begin = time.monotonic()
    with pytest.raises(SignalledError) as caught:
        WAITS[kind](drawer)
    assert time.monotonic() - begin < 5
    assert caught.value.signum == signal.SIGTERM
    drawer.interrupt(signal.SIGTERM)
    drawer.close()


def test_a_url_that_lacks_its_end_is_named_with_it(engine):
    with serve() as server:
        half = server.url.removesuffix("/v1")
        with pytest.raises(ServerError, match=f"did you mean {server.url}\\?"):
            engine(half).connect()


@pytest.mark.parametrize("key", ["sk-wrong", None])
def test_a_server_that_wants_a_key_is_told_of_with_the_variable_that_was_looked_in(engine, monkeypatch, key):
    monkeypatch.delenv("LEMMA_TEST_KEY", raising=False)
    if key:
        monkeypatch.setenv("LEMMA_TEST_KEY", key)
    found = "set" if key else "not set"
    with serve(key="sk-right") as server, pytest.raises(ServerError, match=f"LEMMA_TEST_KEY is {found}\\)"):
        engine(server, api_key_env="LEMMA_TEST_KEY").connect()


def test_one_url_needs_no_list():
    assert ServedArgs(urls="http://one/v1") == ServedArgs(urls=["http://one/v1"])
