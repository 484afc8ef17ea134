"""Preference files: each published form becomes the same noun, and a pair that is none is refused."""

import pytest

from lemma.corpora.preferences import to_preference
from lemma.corpora.reading import read_local
from lemma.corpora.rows import Row
from lemma.types import InputError, Preference

USER = {"role": "user", "content": "What is 2 + 2? "}
SYSTEM = {"role": "system", "content": "Be brief."}
CHOSEN = {"role": "assistant", "content": "It is 4."}
REJECTED = {"role": "assistant", "content": "It is 5."}
PLAIN = {"prompt": "What is 2 + 2?", "chosen": "It is 4.", "rejected": "It is 5."}
CHAT = {"prompt": [SYSTEM, USER], "chosen": [CHOSEN], "rejected": [REJECTED]}
QUESTION = ("user", "What is 2 + 2?")


def preference(values, key="train/16"):
    return to_preference(Row("x.jsonl:17", key, values), "s")


@pytest.mark.parametrize("name", ["prompt", "problem", "question"])
def test_a_plain_row(name):
    found = preference({name: PLAIN["prompt"]} | {key: PLAIN[key] for key in ("chosen", "rejected")})
    assert found == Preference("train/16", "s", (QUESTION,), "It is 4.", "It is 5.", "plain")
    assert found.prompt == "What is 2 + 2?"


def test_a_chat_row_keeps_its_messages():
    found = preference(CHAT | {"id": 7})
    assert found == Preference("7", "s", (("system", "Be brief."), QUESTION), "It is 4.", "It is 5.", "chat")
    assert found.prompt == "What is 2 + 2?"


def test_the_forms_of_a_chat_are_one():
    expected = preference(CHAT)
    forms = [
        {"messages": CHAT["prompt"], "chosen": "It is 4.", "rejected": "It is 5."},
        {"chosen": [SYSTEM, USER, CHOSEN], "rejected": [SYSTEM, USER, REJECTED]},
        {"prompt": "not read", "chosen": [SYSTEM, USER, CHOSEN], "rejected": [SYSTEM, USER, REJECTED]},
        {"system": "Be brief.", "question": "What is 2 + 2?", "chosen": "It is 4.", "rejected": "It is 5."},
    ]
    for values in forms:
        assert preference(values) == expected


def test_an_empty_system_text_is_none():
    assert preference(PLAIN | {"system": ""}).form == "plain"


def test_kind_level_and_subject_are_read_where_they_are_there():
    found = preference(PLAIN | {"kind": "shorter", "level": "Level 3", "subject": "Number Theory"})
    assert (found.kind, found.level, found.subject) == ("shorter", 3, "number_theory")
    for values in (PLAIN, PLAIN | {"kind": None, "level": None, "subject": ""}):
        found = preference(values)
        assert (found.kind, found.level, found.subject) == ("given", None, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            PLAIN | {"rejected": "it  is\u00a04."},
            "`rejected`: expected another text than `chosen`, but up to case and white space both are 'It is 4.'",
        ),
        (PLAIN | {"kind": "a/b"}, "`kind`: expected a label without blanks and slashes, but got 'a/b'"),
        (PLAIN | {"level": "hard"}, "`level`: expected a level such as 3"),
        (PLAIN | {"rejected": "It is 4. "}, "`rejected`: expected another text than `chosen`, but both are 'It is 4.'"),
        (PLAIN | {"chosen": ""}, "`chosen`: expected a non-empty text, but got ''"),
        (PLAIN | {"chosen": None}, "`chosen`: expected a non-empty text, but got None"),
        ({"prompt": "x", "chosen": "y"}, "no column `rejected`; the row has prompt, chosen"),
        ({"chosen": "x", "rejected": "y"}, "no column `prompt`; the row has chosen, rejected"),
        (CHAT | {"chosen": [USER]}, "`chosen`: expected its last message to be the assistant's, but got the user's"),
        (CHAT | {"chosen": []}, "`chosen`: expected a text or a list of messages, but got an empty list"),
        (CHAT | {"prompt": [USER, CHOSEN]}, "prompt: expected its last message to be the user's"),
        (CHAT | {"prompt": [{"from": "human", "value": "x"}]}, "`prompt`: expected messages {role, content}"),
        (CHAT | {"prompt": [USER | {"content": " "}]}, "`prompt`: expected messages {role, content}"),
        ({"chosen": [USER, CHOSEN], "rejected": [SYSTEM, USER, REJECTED]}, "`rejected`: expected the same chat as"),
        ({"chosen": [USER, CHOSEN], "rejected": "It is 5."}, "`rejected`: expected the same chat as"),
    ],
)
def test_what_is_no_pair_is_refused_with_key_and_value(values, message):
    with pytest.raises(InputError) as error:
        preference(values)
    assert str(error.value).startswith(message)


def test_a_preference_file_is_read_by_the_same_readers(write_lines):
    path = write_lines("pairs.jsonl", PLAIN, CHAT)
    found = [to_preference(row, "s") for row in read_local(path, "train")]
    assert [(one.id, one.form) for one in found] == [("pairs/0", "plain"), ("pairs/1", "chat")]
