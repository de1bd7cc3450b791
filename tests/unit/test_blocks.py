"""Corpora for models of the next token: documents become rows that never see each other, and streams go on where they stopped."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
from itertools import chain, islice

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad.data.chunks import documents_to_rows, token_weights
from unpad.data.stream import TokenStream
from unpad.data.tokens import TokenStore
from unpad.errors import ArgumentError, CheckpointError, DataError

datasets.disable_progress_bars()
END = 1


class Letters:
    """A tokenizer of letters: "abc" is 97, 98, 99."""

    eos_token_id = END

    def __call__(self, texts, **options):
        assert options["truncation"] is False
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


documents = st.lists(st.lists(st.integers(2, 99), max_size=30), min_size=1, max_size=12).filter(
    lambda docs: sum(map(len, docs)) > 20
)


def as_data(docs):
    return datasets.Dataset.from_dict({"input_ids": docs, "attention_mask": [[1] * len(d) for d in docs]})


def ended(docs):
    return [[*d, END] for d in docs if d]


# ---- rows


@given(documents, st.integers(2, 12), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_no_row_holds_two_documents_and_all_but_short_tails_are_there(docs, size, least):
    rows = documents_to_rows(as_data(docs), size, END, min_length=least)["input_ids"]
    least, expected = min(max(2, least), size), []
    for doc in ended(docs):
        pieces = [doc[i : i + size] for i in range(0, len(doc), size)]
        expected += [p for i, p in enumerate(pieces) if len(p) >= (least if i else 2)]
    assert rows == expected


@given(documents, st.integers(2, 12), st.booleans())
@settings(max_examples=60, deadline=None)
def test_across_documents_rows_are_those_of_the_course(docs, size, keep_last):
    """Concatenate everything, cut it into equal parts, drop the rest."""
    joined = list(chain.from_iterable(ended(docs)))
    whole = len(joined) // size * size
    rows = documents_to_rows(as_data(docs), size, END, across=True, keep_last=keep_last)["input_ids"]
    expected = [joined[i : i + size] for i in range(0, whole, size)]
    if keep_last and len(joined) - whole > 1:
        expected.append(joined[whole:])
    assert rows == expected


def test_no_document_ends_twice_and_none_ends_where_there_is_no_end_token():
    docs = [[5, 6, END], [7, 8]]
    assert documents_to_rows(as_data(docs), 9, END)["input_ids"] == [[5, 6, END], [7, 8, END]]
    assert documents_to_rows(as_data(docs), 9, None)["input_ids"] == [[5, 6, END], [7, 8]]


def test_what_is_left_out_is_counted_in_one_line(caplog):
    caplog.set_level(logging.INFO, logger="unpad")
    documents_to_rows(as_data([list(range(2, 14)), [], [7], [3] * 5]), 10, END, split="train")
    assert [r.getMessage() for r in caplog.records] == [
        "train: 4 documents make 3 rows of at most 10 tokens; 3 tokens, too few for a row, are left out"
    ]


def test_padding_and_the_order_of_a_selection_are_respected():
    data = datasets.Dataset.from_dict(
        {"input_ids": [[5, 6, 0, 0], [7, 8, 9, 4]], "attention_mask": [[1, 1, 0, 0], [1, 1, 1, 1]]}
    )
    assert documents_to_rows(data.select([1, 0]), 9, END)["input_ids"] == [[7, 8, 9, 4, END], [5, 6, END]]


def test_the_rows_are_a_data_set_that_training_reads():
    rows = documents_to_rows(as_data([[5] * 25, [6] * 7]), 10, END)
    store = TokenStore.from_dataset(
        rows.map(lambda row: {"weights": token_weights(row["input_ids"], [6], 2.0)}), labels_of="token"
    )
    assert store.lengths.tolist() == [10, 10, 8]
    batch = store.pack([2, 0])
    assert batch.weights.tolist() == [1.0] * 10 + [3.0] * 7 + [1.0]


def test_bad_sizes_and_corpora_are_one_clear_line():
    with pytest.raises(ArgumentError, match=r"block_size=1 must be a whole number of tokens, 2 or more"):
        documents_to_rows(as_data([[5] * 9]), 1, END)
    with pytest.raises(DataError, match="too short for a row; give a longer corpus, or a smaller block_size"):
        documents_to_rows(as_data([[5] * 9]), 16, END, across=True)
    with pytest.raises(DataError, match="no column 'input_ids'"):
        documents_to_rows(datasets.Dataset.from_dict({"text": ["a"]}), 8, END)


def test_keywords_weigh_more():
    found = token_weights([5, 6, 5, 7], keyword_ids={5, 7}, alpha=0.5)
    assert found.dtype == np.float32
    assert found.tolist() == [1.5, 1.0, 1.5, 1.5]
    assert token_weights(torch.tensor([5, 6]), [6]).tolist() == [1.0, 2.0]


# ---- streams

TEXTS = [chr(97 + i % 26) * (1 + 7 * i % 40) for i in range(57)]
SOURCES = ("list", "rows", "iterable data set", "data set", "folder")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same texts in every form that a stream reads."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "deeper").mkdir()
    (folder / "a.txt").write_text("\n".join(TEXTS[:20]) + "\n\n", encoding="utf-8")
    lines = [json.dumps({"text": text, "n": 1}) + "\r\n" for text in TEXTS[20:40]]
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "deeper" / "c.txt.bz2").write_bytes(bz2.compress("\n".join(TEXTS[40:]).encode()))
    (folder / "notes.md").write_text("not a text of the corpus")
    data = datasets.Dataset.from_dict({"text": TEXTS})
    return {
        "list": TEXTS,
        "rows": [{"text": t} for t in TEXTS],
        "iterable data set": data.to_iterable_dataset(num_shards=3),
        "data set": data,
        "folder": folder,
    }


def rows_of(stream, epochs=1):
    return [row["input_ids"].tolist() for _ in range(epochs) for row in stream]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_rows_of_the_same_texts(sources, kind):
    expected = documents_to_rows(as_data([[ord(c) for c in t] for t in TEXTS]), 10, END)["input_ids"]
    assert rows_of(TokenStream(sources[kind], Letters(), 10, buffer=1)) == expected
    mixed = rows_of(TokenStream(sources[kind], Letters(), 10, buffer=16, seed=3))
    assert mixed != expected
    assert sorted(mixed) == sorted(expected)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_stream_goes_on_exactly_where_it_stopped(sources, data):
    """Whatever the source, the settings, the row or batch at which it stopped, and the epoch."""
    source = sources[data.draw(st.sampled_from(SOURCES))]
    options = {
        "block_size": data.draw(st.integers(2, 30)),
        "buffer": data.draw(st.sampled_from([1, 4, 1000])),
        "seed": data.draw(st.integers(0, 3)),
        "across": data.draw(st.booleans()),
    }
    budget = data.draw(st.one_of(st.none(), st.integers(20, 90)))

    def endless(stream):
        while True:
            if budget is None:
                yield from (row["input_ids"].tolist() for row in stream)
            else:
                yield from ((b.input_ids.tolist(), b.sample_ids) for b in stream.batches(budget))

    at, more = data.draw(st.integers(0, 150)), 40
    whole = list(islice(endless(TokenStream(source, Letters(), **options)), at + more))
    stream = TokenStream(source, Letters(), **options)
    assert list(islice(endless(stream), at)) == whole[:at]
    state = json.loads(json.dumps(stream.state_dict()))
    resumed = TokenStream(source, Letters(), **options)
    resumed.load_state_dict(state)
    assert list(islice(endless(resumed), more)) == whole[at:]


@pytest.mark.parametrize("kind", ["folder", "list"])
def test_each_epoch_has_an_order_of_its_own_which_the_seed_decides(sources, kind):
    def epochs(**options):
        stream = TokenStream(sources[kind], Letters(), 10, **options)
        return rows_of(stream), rows_of(stream)

    first, second = epochs(seed=1)
    assert first != second
    assert sorted(first) == sorted(second)
    assert epochs(seed=1) == (first, second)
    assert epochs(seed=2)[0] != first
    same, again = epochs(buffer=1)
    assert same == again


def test_a_shuffled_data_set_of_a_stream_is_shuffled_anew_and_found_again(sources):
    source = sources["iterable data set"].shuffle(seed=5, buffer_size=10)
    stream = TokenStream(source, Letters(), 10, buffer=1)
    first, second = rows_of(stream), rows_of(stream)
    assert first != second
    resumed = TokenStream(source, Letters(), 10, buffer=1)
    resumed.load_state_dict({**resumed.state_dict(), "epoch": 1, "document": 30})
    rest = rows_of(resumed)
    assert len(rest) > 20
    assert second[-len(rest) :] == rest


def test_batches_hold_all_rows_within_the_budget(sources):
    stream = TokenStream(sources["list"], Letters(), 10, buffer=8)
    batches = list(stream.batches(40))
    assert all(b.tokens <= 40 for b in batches)
    assert all(b.tokens > 30 for b in batches[:-1])  # else the next row would have fitted
    found = [row.tolist() for b in batches for row in b.input_ids.split(list(b.lengths))]
    assert sorted(found) == sorted(rows_of(TokenStream(sources["list"], Letters(), 10)))
    assert all(torch.equal(b.labels, b.input_ids) for b in batches)


def test_documents_that_are_behind_are_not_tokenized_again(sources):
    class Counting(Letters):
        seen = 0

        def __call__(self, texts, **options):
            self.seen += len(texts)
            return super().__call__(texts, **options)

    tokenizer = Counting()
    stream = TokenStream(sources["folder"], tokenizer, 10)
    stream.load_state_dict({**stream.state_dict(), "document": 50})
    list(stream)
    assert tokenizer.seen == len(TEXTS) - 50


def test_a_stream_of_other_settings_refuses_the_place(sources):
    state = TokenStream(sources["list"], Letters(), 10).state_dict()
    with pytest.raises(CheckpointError, match="block_size=10, this one has 12"):
        TokenStream(sources["list"], Letters(), 12).load_state_dict(state)


def test_bad_sources_are_one_clear_line(tmp_path):
    def read(source, **options):
        return rows_of(TokenStream(source, Letters(), 10, **options))

    with pytest.raises(DataError, match="a generator, which cannot be read again; give a list"):
        read(t for t in TEXTS)
    with pytest.raises(DataError, match="a int, which cannot be read again"):
        read(7)
    with pytest.raises(DataError, match="a set, which cannot be read again"):  # its order is another in each process
        read({"a text", "another"})
    with pytest.raises(DataError, match="document 1 of the stream is None"):
        read(["a text", None])
    with pytest.raises(DataError, match=r"document 0 of the stream is .*without a text in 'text'; name the column"):
        read([{"content": "a text"}])
    assert read([{"content": "a text"}], text="content")
    with pytest.raises(DataError, match="no text for a single row"):
        read(["", ""])
    with pytest.raises(ArgumentError, match="buffer=0 must be"):
        read(TEXTS, buffer=0)
    with pytest.raises(ArgumentError, match="block_size=0 must be"):
        TokenStream(TEXTS, Letters(), 0)
    with pytest.raises(ArgumentError, match=r"TokenStream has no argument 'blok_size'; did you mean 'block_size'\?"):
        TokenStream(TEXTS, Letters(), blok_size=8)
    with pytest.raises(ArgumentError, match=r"TokenStream has no argument 'tokeniser'; did you mean 'tokenizer'\?"):
        TokenStream(TEXTS, tokeniser=Letters(), block_size=8)
    with pytest.raises(ArgumentError, match="block_size=None must be"):
        TokenStream(TEXTS, Letters())
    with pytest.raises(ArgumentError, match="tokenizer is a str; give one from AutoTokenizer"):
        TokenStream(TEXTS, "gpt2", 8)
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds nothing to stream; it needs files ending in"):
        read(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": tow}\n')
    with pytest.raises(DataError, match=r"line 2 of .*a.jsonl is not valid JSON"):
        read(tmp_path)
    (tmp_path / "a.jsonl").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read(tmp_path)


def test_leaving_a_stream_early_leaves_nothing_running(sources):
    import threading

    before = threading.active_count()
    for _ in range(3):
        rows = iter(TokenStream(sources["list"], Letters(), 10))
        next(rows)
        rows.close()
    assert threading.active_count() == before
