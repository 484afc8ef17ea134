"""Encoded examples on disk and in memory are the examples that were encoded."""

import pytest

from lemma.corpora import CorpusArgs, load_corpus
from lemma.encoding import Example, Examples, ExampleStore, Limits, encode_corpus, longest_example, write_examples


def made(number: int) -> list[Example]:
    return [
        Example(f"p{i}·", "s", list(range(1, 2 + i % 5)), [[7] * (1 + i % 7), [8, 9]][: 1 + i % 2], 1.0, i % 3 == 0)
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
