"""One request to one server: how it is sent, how much of the answer is read, and what a failure means."""

import json
import math
from collections.abc import Mapping
from typing import Any

import aiohttp

from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError, bounded

UNAUTHORISED = (401, 403)
TRANSIENT = frozenset({408, 409, 425, 429})
"""Refusals that may be answered later; so may every 5xx."""
SMALL_ANSWER = 4 * 2**20
"""Bytes of an answer that holds no completion, such as a list of models."""
_CONNECT = 10.0  # seconds, after which a host that drops packets is taken for one that is away
_KEEP_ALIVE = 4.0  # seconds; uvicorn, which vLLM runs in, closes an idle connection after 5


def new_session(key: str | None) -> aiohttp.ClientSession:
    """Return a session that sends the key, ignores proxies of the environment, and verifies certificates."""
    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE)
    return aiohttp.ClientSession(
        connector=connector, headers=headers, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    )


class Transport:
    """Sends requests to one base URL.

    Args:
        session: Open; its owner closes it.
        url: Base URL, without a slash at its end.
        key: What must not appear in a message.
        key_name: Environment variable that the key was looked for in.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None, key_name: str) -> None:
        self._session = session
        self._url = url
        self._root = url.removesuffix("/v1")
        self._key = key
        self._key_name = key_name

    async def send(
        self, path: str, payload: Mapping[str, Any] | None = None, *, seconds: float, max_bytes: int = SMALL_ANSWER
    ) -> str:
        """Return the body of a POST of a payload, or of a GET without one.

        Args:
            path: Below the base URL; below the server's root where it begins with a slash.
            payload: What is sent as JSON.
            seconds: For all of it.
            max_bytes: Longest answer that is read.

        Raises:
            OutageError: No answer, one that broke off, or one that says that the server cannot answer now.
            NonsenseError: An answer that is too long or no text.
            RefusalError: The server, or its certificate, says that this request will never be answered.
        """
        method, data = ("GET", None) if payload is None else ("POST", json.dumps(payload).encode())
        try:
            async with self._session.request(
                method,
                f"{self._root}{path}" if path.startswith("/") else f"{self._url}/{path}",
                data=data,
                headers={"Content-Type": "application/json"} if data else None,
                allow_redirects=False,  # the key is for this server
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT),
            ) as response:
                body = await _read(response, max_bytes)
                if response.status == 200:
                    return body.decode()
                raise self._failure(response, body)
        except aiohttp.ConnectionTimeoutError as error:
            raise OutageError(f"no connection within {min(seconds, _CONNECT):.3g} s") from error
        except TimeoutError as error:
            raise OutageError(f"no answer within {seconds:.3g} s") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise RefusalError(0, self.clean(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            refused = isinstance(getattr(error, "os_error", error), ConnectionRefusedError)
            said = "connection refused" if refused else self.clean(error) or type(error).__name__
            raise OutageError(said) from error
        except UnicodeDecodeError as error:
            raise NonsenseError("an answer that is no text") from error

    def clean(self, words: object) -> str:
        """Return a server's words without the key, bounded."""
        return bounded(str(words).replace(self._key, "***") if self._key else words)

    def _failure(self, response: aiohttp.ClientResponse, body: bytes) -> Exception:
        status = response.status
        if 300 <= status < 400:
            return RefusalError(status, f"HTTP {status}: a redirect, which is not followed; give the final URL")
        reason = f"HTTP {status}: {self.clean(_message(body))}"
        if status in TRANSIENT or status >= 500:
            pause = _pause(response.headers.get("Retry-After"), 1.0 if status == 429 else None)
            return OutageError(reason, pause, status)
        if status in UNAUTHORISED:
            looked = f"model.served.api_key_env: {self._key_name} is {'set' if self._key else 'not set'}"
            reason = f"{reason} (the key is read from the environment; {looked})"
        return RefusalError(status, reason)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := await response.content.readany():
        body += chunk
        if len(body) > max_bytes:
            raise NonsenseError(f"an answer of more than {max_bytes} bytes")
    return bytes(body)


def parse(body: str) -> dict[str, Any]:
    """Return the object that a body holds.

    Raises:
        NonsenseError: It is no JSON, or no object.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NonsenseError(f"malformed JSON: {bounded(body[:80])}") from error
    if not isinstance(value, dict):
        raise NonsenseError(f"expected a JSON object, but got {type(value).__name__}")
    return value


def _message(body: bytes) -> str:
    """Return what an answer says of an error, wherever the server puts it."""
    text = body.decode(errors="replace")
    try:
        said = parse(text)
    except NonsenseError:
        return text
    said = said.get("error", said)
    if isinstance(said, dict):
        said = said.get("message") or said.get("detail") or said
    return str(said)


def _pause(header: str | None, otherwise: float | None) -> float | None:
    """Return the seconds of a Retry-After header, where it has any (a date counts as none)."""
    try:
        seconds = float(header or "nan")
    except ValueError:
        return otherwise
    return max(seconds, 0.0) if math.isfinite(seconds) else otherwise
