"""Encoded examples on disk and in memory are the examples that were encoded."""

from dataclasses import replace

import numpy as np
import pytest

from lemma.corpora import CorpusArgs, load_corpus
from lemma.encoding import Example, Examples, ExampleStore, Limits, encode_corpus, longest_example, write_examples
from lemma.encoding.examples import Part


def made(number: int) -> list[Example]:
    return [
        Example(
            f"p{i}·",
            "s",
            list(range(1, 2 + i % 5)),
            [[7] * (1 + i % 7), [8, 9]][: 1 + i % 2],
            1.0,
            i % 3 == 0,
            ("", "given", "right_over_wrong·")[i % 3],
        )
        for i in range(number)
    ]


def test_what_is_written_in_chunks_is_read_back(tmp_path):
    write_examples(tmp_path, enumerate(made(23)), chunk=5)
    store = ExampleStore.open(tmp_path)
    assert [store.get(i, source="s", weight=1.0) for i in range(len(store))] == made(23)
    assert store.arrays["rows"].tolist() == list(range(23))
    write_examples(tmp_path, [])
    assert len(ExampleStore.open(tmp_path)) == 0


def test_examples_of_several_corpora_keep_order_weight_and_source():
    some = [Example("a", "x", [1], [[2, 3]], 0.5), Example("b", "y", [1, 1, 1], [[2]], 2.0), *made(4)]
    examples = Examples.of(some)
    assert list(examples) == some
    assert [examples[i] for i in (0, 1, 5)] == [some[0], some[1], some[5]]
    assert examples.lengths.tolist() == [max(len(e.prompt_ids) + len(c) for c in e.completions) for e in some]
    assert examples.completion_weights.tolist() == [e.completion_weight for e in some]
    assert examples.corpus.tolist() == [0, 1, 2, 2, 2, 2]
    assert longest_example(examples) == max(some, key=lambda e: max(len(e.prompt_ids) + len(c) for c in e.completions))
    assert longest_example(Examples([])) is None
    with pytest.raises(IndexError):
        examples[6]


def test_a_corpus_is_encoded_once_for_each_tokenizer_prompt_and_limits(encoder, tmp_path):
    corpus = load_corpus(CorpusArgs("arithmetic", max_rows=12), root=None, seed=0)

    def encode(limits, cache=tmp_path / "cache"):
        return encode_corpus(corpus, encoder, limits, cache)

    store = encode(Limits(512, 512, "drop"))
    assert [store.get(i, source="arithmetic", weight=1.0) for i in range(12)] == [
        encoder.encode(problem) for problem in corpus.problems
    ], "tokenised together as each alone"
    assert len(list((tmp_path / "cache").iterdir())) == 1
    encode(Limits(512, 512, "drop"))
    assert len(list((tmp_path / "cache").iterdir())) == 1
    longest = int(store.arrays["completion_tokens"].max())
    shorter = encode(Limits(512, longest - 1, "drop"))
    assert len(shorter) < 12
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert len(encode(Limits(512, longest - 1, "drop"), cache=None)) == len(shorter)


def pairs(number: int, weight: float = 1.0) -> list[Example]:
    return [
        Example(f"q{i}", f"s{weight}", [1] * (1 + i % 3), [[7] * (1 + i % 7), [8] * (1 + i % 4)], weight, kind="given")
        for i in range(number)
    ]


def test_lengths_of_pairs_are_those_of_their_completions(tmp_path):
    some = pairs(23)
    write_examples(tmp_path, enumerate(some), chunk=5)
    index = np.array([22, 0, 7])
    for store in (ExampleStore.open(tmp_path), ExampleStore.of(some)):
        assert store.completion_lengths(index).tolist() == [[len(c) for c in some[i].completions] for i in index]
        assert store.num_completions(np.arange(23)).tolist() == [2] * 23
        assert store.completion_lengths(index[:0]).shape[0] == 0
    examples = Examples.of([*some, *pairs(4, 0.5)])
    assert examples.shared_lengths.tolist() == [
        len(e.prompt_ids) + sum(map(len, e.completions)) for e in [*some, *pairs(4)]
    ]
    assert examples.weights.tolist() == [1.0] * 23 + [0.5] * 4
    assert examples.weights.dtype == np.float64


def test_examples_hold_pairs_if_every_one_has_two_completions():
    assert Examples.of(pairs(5)).holds_pairs
    assert not Examples.of(made(1)).holds_pairs
    assert not Examples.of([*pairs(5), *made(1)]).holds_pairs
    assert not Examples([]).holds_pairs
    three = [Example("a", "s", [1], [[2], [3], [4]])]
    assert not Examples.of([*pairs(5), *three]).holds_pairs
    with_empty_part = Examples.of(pairs(5))
    with_empty_part.parts.append(Part(ExampleStore.of([]), np.arange(0), "none"))
    assert Examples(with_empty_part.parts).holds_pairs


def test_the_longest_is_found_by_either_measure():
    long_side = Example("side", "s", [1], [[2] * 9, [3]], kind="given")
    long_both = Example("both", "s", [1], [[2] * 7, [3] * 7], kind="given")
    groups = Examples.of([long_both]), Examples.of([long_side])
    assert longest_example(*groups).problem_id == "side"
    assert longest_example(*groups, lengths="shared_lengths").problem_id == "both"


def test_a_hash_of_examples_follows_their_ids_and_their_order_and_nothing_else(tmp_path):
    some = pairs(9)
    one = Examples.of(some).sha256
    write_examples(tmp_path, enumerate(some), chunk=2)
    assert Examples([Part(ExampleStore.open(tmp_path), np.arange(9), "x")]).sha256 == one
    assert Examples.of(some[::-1]).sha256 != one
    moved = replace(some[0], prompt_ids=[1, 7], completions=[some[0].completions[0][1:], some[0].completions[1]])
    for changed in (replace(some[0], prompt_ids=[2]), moved):
        assert Examples.of([changed, *some[1:]]).sha256 != one
