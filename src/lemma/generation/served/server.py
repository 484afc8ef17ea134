"""One server: which models it has, how it is spoken to, and one completion from it."""

import dataclasses
from collections.abc import Collection
from typing import Any

from transformers import PreTrainedTokenizerBase

from lemma.generation.draw import Sample
from lemma.generation.engine import Request
from lemma.generation.served.answers import read_text, read_tokens
from lemma.generation.served.args import ServedArgs
from lemma.generation.served.dialect import Dialect, find_dialect
from lemma.generation.served.errors import NonsenseError, OutageError, RefusalError
from lemma.generation.served.transport import UNAUTHORISED, Transport, parse
from lemma.generation.served.wanted import Wanted

_PROBE_TOKENS = 19  # OpenAI's newer models take no less than 16
_LISTED = 10  # models named in a message
_TOKEN_BYTES = 1024  # of an answer, for each completion token: name, bytes, log-probability
_SECONDS = 60.0  # for what is answered without drawing


class Server:
    """Speaks to one server.

    Args:
        transport: To its base URL.
        args: What the user says.
        tokenizer: For servers that take or give text.
        url: To name it by.
    """

    def __init__(self, transport: Transport, args: ServedArgs, tokenizer: PreTrainedTokenizerBase, url: str) -> None:
        self.transport = transport
        self.url = url
        self.dialect: Dialect | None = None
        self._args = args
        self._tokenizer = tokenizer
        self._base: str | None = args.model
        self._bases: list[str] = []

    @property
    def base(self) -> str | None:
        """Return the base model's name, None where it is not known yet."""
        return self._base

    async def check_model(self, name: str | None) -> None:
        """Find the base model's name, and that the server has the model.

        Args:
            name: Of the model; None is the base model.

        Raises:
            RefusalError: It has no such model, or several where one must be chosen.
            OutageError: It does not answer.
            NonsenseError: It answers no list of models.
        """
        models = await self._models()
        self._bases = [each for each, parent in (models or {}).items() if parent is None]
        if models is not None and self._args.model is None:
            if len(self._bases) != 1:
                raise RefusalError(404, f"it has {_listed(self._bases)}: set model.served.model to one of them")
            self._base = self._bases[0]
        wanted = name or self._base
        if wanted is None:
            raise RefusalError(404, "it does not list its models: set model.served.model")
        if models is not None and wanted not in models:
            raise RefusalError(404, f"it has no model {wanted!r}; it has {_listed(models)}")

    async def prepare(self, wanted: Wanted, request: Request) -> None:
        """Find that it has the model, and how it is spoken to by a request like this; raises as ``check_model``."""
        try:
            await self.check_model(wanted.model)
        except RefusalError as error:
            if error.status != 404 or wanted.model is None or wanted.restore is None:
                raise
            await wanted.restore(self.transport)
            await self.check_model(wanted.model)
        probe = dataclasses.replace(request, seed=1)

        async def ask(dialect: Dialect, changes: dict[str, Any] | None = None) -> dict[str, Any]:
            payload = dialect.payload(probe, wanted.drawing, wanted.model or self._base, self._tokenizer)
            payload |= {dialect.length: _PROBE_TOKENS} | (changes or {})
            return await self._post(dialect, payload, probe, self._args.request_timeout)

        self.dialect = await find_dialect(ask, api=self._args.api, request=probe)

    async def complete(self, request: Request, wanted: Wanted, seconds: float) -> Sample:
        """Return one completion.

        Args:
            request: Which one.
            wanted: How it is drawn.
            seconds: After which it is given up.

        Raises:
            OutageError: Worth another try.
            NonsenseError: Worth few.
            RefusalError: Worth none.
        """
        dialect, drawing, model = self.dialect, wanted.drawing, wanted.model or self._base
        payload = dialect.payload(request, drawing, model, self._tokenizer)
        answer = await self._post(dialect, payload, request, seconds)
        if not dialect.ids:
            return read_text(answer, self._tokenizer)
        if answer.get("model") not in (None, model, *(self._bases if model in self._bases else ())):
            raise NonsenseError(f"another model answered than {model!r}")
        logps = dialect.logps and dialect.knows_logps(request, drawing)
        return read_tokens(answer, request.prompt_ids, drawing, vocab_size=wanted.vocab_size, logps=logps)

    async def _post(
        self, dialect: Dialect, payload: dict[str, Any], request: Request, seconds: float
    ) -> dict[str, Any]:
        most = (64 + payload[dialect.length] + len(request.prompt_ids)) * _TOKEN_BYTES
        return parse(await self.transport.send(dialect.path, payload, seconds=seconds, max_bytes=most))

    async def _models(self) -> dict[str, str | None] | None:
        """Return the parent of each model, which adapters have; None where the server does not list them."""
        try:
            listed = parse(await self.transport.send("models", seconds=_SECONDS)).get("data")
        except RefusalError as error:
            if error.status in (0, *UNAUTHORISED):
                raise
            await self._refuse_half_url()
            return None
        if not isinstance(listed, list):
            raise NonsenseError("expected a list of models")
        rows = [each for each in listed if isinstance(each, dict) and isinstance(each.get("id"), str)]
        return {each["id"]: parent if isinstance(parent := each.get("parent"), str) else None for each in rows}

    async def _refuse_half_url(self) -> None:
        """Refuse a base URL that has no models, where there are some below its ``/v1``."""
        if self.url.endswith("/v1"):
            return
        try:
            await self.transport.send("v1/models", seconds=_SECONDS)
        except (OutageError, NonsenseError):
            return
        except RefusalError as error:
            if error.status not in UNAUTHORISED:
                return
        raise RefusalError(404, f"it has no models there; did you mean {self.url}/v1?")


def _listed(names: Collection[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(repr(each[:80]) for each in shown[:_LISTED]) + more if shown else "no model"
