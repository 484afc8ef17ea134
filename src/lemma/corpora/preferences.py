"""Preference files: ``{prompt, chosen, rejected}``, each a plain text or a list of chat messages ``{role, content}``.

The forms in which they are published all become one `Preference`:

1. All plain: ``{"prompt": "2+2?", "chosen": "4", "rejected": "5"}``; the prompt may be called ``problem`` or
   ``question``, and a column ``system`` may stand before it.
2. All chat: ``prompt`` (or ``messages``) is the chat so far, ``chosen`` and ``rejected`` are its next message.
3. Chat with an implicit prompt: ``chosen`` and ``rejected`` are whole chats that differ in the last message only. A
   ``prompt`` beside them is not read.

Beside these, a row may say what makes one better (``kind``, a label by which pairs are reported), and the ``level`` and
``subject`` of its problem.
"""

import re
from typing import Any

from lemma.corpora.adapter import Adapter
from lemma.corpora.pairing import Pairing, comparable_completion
from lemma.corpora.rows import Row, column, level, optional_text, present, shown, subject, text
from lemma.types import InputError, Preference

PROMPT = ("prompt", "messages", "problem", "question")
ROLES = ("system", "user", "assistant")
COMPLETIONS = ("chosen", "rejected")
GIVEN = "given"

Messages = tuple[tuple[str, str], ...]


def to_preference(row: Row, source: str) -> Preference:
    """Return a row as a preference; the id is the column ``id`` where there is one, else the row's key.

    Raises:
        InputError: If a column is missing, empty or neither text nor messages, a chat does not end where it should,
            the two chats do not share their prompt, the two completions are the same but for case and white space, or
            the kind is no label.
    """
    (chosen_prompt, chosen), (rejected_prompt, rejected) = (_completion(row, name) for name in COMPLETIONS)
    if chosen_prompt != rejected_prompt:
        raise InputError("`rejected`: expected the same chat as `chosen` before the last message, but it differs.")
    if comparable_completion(chosen) == comparable_completion(rejected):
        same = "both are" if chosen == rejected else "up to case and white space both are"
        raise InputError(f"`rejected`: expected another text than `chosen`, but {same} {shown(chosen)}.")
    messages, form = (chosen_prompt, "chat") if chosen_prompt else _prompt(row)
    if messages[-1][0] != "user":
        raise InputError(f"prompt: expected its last message to be the user's, but got {shown(messages[-1])}.")
    kind, topic = optional_text(row, "kind") or GIVEN, optional_text(row, "subject")
    if re.search(r"[\s/]", kind):
        raise InputError(f"`kind`: expected a label without blanks and slashes, but got {shown(kind)}.")
    return Preference(
        id=optional_text(row, "id") or row.key,
        source=source,
        messages=messages,
        chosen=chosen,
        rejected=rejected,
        form=form,
        kind=kind,
        level=level(row, "level") if "level" in row.values else None,
        subject=None if topic is None else subject(topic),
    )


def _prompt(row: Row) -> tuple[Messages, str]:
    """Return (messages, form) of the prompt's column."""
    name = present(row, PROMPT) or PROMPT[0]
    if isinstance(column(row, name), list):
        return _messages(row, name), "chat"
    system = optional_text(row, "system")
    user = ("user", text(row, name))
    return ((("system", system), user), "chat") if system else ((user,), "plain")


def _completion(row: Row, name: str) -> tuple[Messages, str]:
    """Return (the chat before it, the completion) of a column; a plain text has no chat before it."""
    if not isinstance(column(row, name), list):
        return (), text(row, name)
    *before, (role, content) = _messages(row, name)
    if role != "assistant":
        raise InputError(f"`{name}`: expected its last message to be the assistant's, but got the {role}'s.")
    return tuple(before), content


def _messages(row: Row, name: str) -> Messages:
    messages = column(row, name)
    if not messages:
        raise InputError(f"`{name}`: expected a text or a list of messages, but got an empty list.")
    return tuple(_message(name, message) for message in messages)


def _message(name: str, message: Any) -> tuple[str, str]:
    role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
    if role not in ROLES or not isinstance(content, str) or not content.strip():
        rule = f"messages {{role, content}} with a role of {', '.join(ROLES)} and a text"
        raise InputError(f"`{name}`: expected {rule}, but got {shown(message)}.")
    return role, content.strip()


ADAPTER = Adapter(to_preferences=lambda row, source, _: Pairing([to_preference(row, source)]))
