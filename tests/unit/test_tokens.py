"""The token store holds what the data set holds, copies nothing, and names the row of whatever cannot be used."""

from __future__ import annotations

import logging

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unpad import notices
from unpad.data.tokens import TokenStore
from unpad.errors import DataError

datasets.disable_progress_bars()


def rows_of(size=20, seed=0, longest=12):
    """Features of `size` sentence pairs, and a text column that nothing uses."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(size):
        n = int(rng.integers(2, longest))
        rows.append(
            {
                "text": f"text {i}",
                "input_ids": rng.integers(1, 100, n).tolist(),
                "token_type_ids": [0] + [1] * (n - 1),
                "attention_mask": [1] * n,
                "label": int(rng.integers(0, 3)),
            }
        )
    return rows


def assert_holds(store, rows, label="label"):
    """The store's packed rows are exactly these features."""
    assert store.lengths.tolist() == [len(r["input_ids"]) for r in rows]
    assert store.tokens == sum(len(r["input_ids"]) for r in rows)
    batch = store.pack(range(len(rows)))
    ids = batch.input_ids.split(list(batch.lengths))
    types = [None] * len(rows) if batch.token_type_ids is None else batch.token_type_ids.split(list(batch.lengths))
    for place, row in enumerate(batch.sample_ids):
        assert ids[place].tolist() == rows[row]["input_ids"]
        if types[place] is None:
            assert not any(rows[row].get("token_type_ids", []))
        else:
            assert types[place].tolist() == rows[row]["token_type_ids"]
        if batch.labels is not None:
            assert batch.labels[place].item() == rows[row][label]


@pytest.fixture
def said(caplog, monkeypatch):
    """Every notice of the test, as one text."""
    monkeypatch.setattr(notices, "_said", set())
    caplog.set_level(logging.INFO, logger="unpad")
    return lambda: "\n".join(r.getMessage() for r in caplog.records)


def test_the_store_holds_what_the_data_set_holds():
    rows = rows_of()
    store = TokenStore.from_dataset(datasets.Dataset.from_list(rows))
    assert_holds(store, rows)
    assert len(store) == 20
    assert store.labels.dtype == np.int64
    assert store.kept == ["input_ids", "token_type_ids", "attention_mask", "label"]
    assert store.dropped == ["text"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rows_and_fingerprint_do_not_depend_on_how_arrow_stores_them(data):
    """Chunks, slices, an indices mapping, list types and widths of numbers are Arrow's business, not the run's."""
    rows = rows_of(data.draw(st.integers(1, 15)), seed=data.draw(st.integers(0, 9)))
    plain = TokenStore.from_dataset(rows)
    order = data.draw(st.permutations(range(len(rows))))
    back = np.argsort(order)
    stored = datasets.Dataset.from_list([rows[i] for i in order])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    parts = [stored.data.table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    table = pa.concat_tables(parts)
    width = data.draw(st.sampled_from([pa.int64(), pa.int32(), pa.uint16()]))
    make = data.draw(st.sampled_from([pa.list_, pa.large_list]))
    table = table.set_column(table.column_names.index("input_ids"), "input_ids", table["input_ids"].cast(make(width)))
    table = table.select(data.draw(st.permutations(table.column_names)))
    mapped = datasets.Dataset(datasets.table.InMemoryTable(table)).select(back.tolist())
    store = TokenStore.from_dataset(mapped)
    assert_holds(store, rows)
    assert store.fingerprint == plain.fingerprint


def test_no_token_is_copied_where_arrow_allows():
    dataset = datasets.Dataset.from_list(rows_of())
    values = dataset.data.column("input_ids").chunk(0).values.to_numpy()
    for view in (dataset, dataset.shuffle(seed=1), dataset.select(range(3, 9)), dataset.with_format("torch")):
        assert np.shares_memory(TokenStore.from_dataset(view).row(0), values)


def test_a_data_set_on_disk_is_read_in_place(tmp_path):
    rows = rows_of(50)
    datasets.Dataset.from_list(rows).map(lambda r: r, writer_batch_size=7).save_to_disk(tmp_path / "d", num_shards=3)
    dataset = datasets.load_from_disk(str(tmp_path / "d"))
    assert dataset.data.column("input_ids").num_chunks > 1
    store = TokenStore.from_dataset(dataset)
    assert_holds(store, rows)
    chunk = dataset.data.column("input_ids").chunk(0)
    assert np.shares_memory(store.row(0), chunk.values.to_numpy())


def test_shuffled_and_split_data_sets_keep_their_own_rows():
    dataset = datasets.Dataset.from_list(rows_of(40))
    both = dataset.train_test_split(test_size=0.25, seed=3)
    for part in (
        both["train"],
        both["test"],
        dataset.shuffle(seed=5).select([4, 1, 1, 7]),
        dataset.filter(lambda r: r["label"] == 1),
    ):
        assert_holds(TokenStore.from_dataset(part), part.to_list())


def test_set_format_changes_nothing_but_the_columns_that_it_hides():
    rows = rows_of()
    dataset = datasets.Dataset.from_list(rows)
    plain = TokenStore.from_dataset(dataset)
    dataset.set_format("torch")
    assert TokenStore.from_dataset(dataset).fingerprint == plain.fingerprint
    dataset.set_format("torch", columns=["input_ids", "token_type_ids"])
    hidden = TokenStore.from_dataset(dataset)
    assert hidden.labels is None
    assert_holds(hidden, rows)


class Wrapped(torch.utils.data.Dataset):
    """A data set of somebody's own."""

    def __init__(self, rows, make):
        self.rows, self.make = rows, make

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return {name: value if isinstance(value, str) else self.make(value) for name, value in self.rows[i].items()}


@pytest.mark.parametrize("make", [lambda v: v, np.array, torch.tensor])
def test_lists_arrays_and_tensors_are_the_same_data(make):
    rows = rows_of()
    expected = TokenStore.from_dataset(datasets.Dataset.from_list(rows))
    store = TokenStore.from_dataset(Wrapped(rows, make))
    assert_holds(store, rows)
    assert store.fingerprint == expected.fingerprint
    assert store.dropped == ["text"]


def test_a_data_set_that_makes_its_rows_when_read_works():
    dataset = datasets.Dataset.from_dict({"n": [2, 3, 4]})
    dataset.set_transform(lambda b: {"input_ids": [[5] * n for n in b["n"]], "label": [0] * len(b["n"])})
    assert TokenStore.from_dataset(dataset).lengths.tolist() == [2, 3, 4]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_padding_of_any_kind_leaves_no_trace(data):
    """Padded to a fixed length, on either side or with holes: the store is that of the same texts without padding."""
    rows = rows_of(data.draw(st.integers(1, 12)), seed=data.draw(st.integers(0, 9)))
    kind = data.draw(st.sampled_from(["right", "left", "holes"]))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    token_labels = data.draw(st.booleans())
    if token_labels:
        rows = [{**r, "label": [(i * 7) % 3 for i in r["input_ids"]]} for r in rows]
    padded = []
    for row in rows:
        n = len(row["input_ids"])
        places = {"right": np.arange(n), "left": np.arange(15 - n, 15), "holes": np.sort(draw.choice(15, n, False))}[
            kind
        ]
        new = dict(row)
        for name, fill in (("input_ids", 0), ("token_type_ids", 0), ("attention_mask", 0), ("label", -100)):
            if isinstance(row[name], list):
                values = np.full(15, fill)
                values[places] = row[name]
                new[name] = values.tolist()
        padded.append(new)
    dataset = datasets.Dataset.from_list(padded)
    if data.draw(st.booleans()):
        fixed = {n: pa.list_(pa.int64(), 15) for n in ("input_ids", "attention_mask")}
        table = dataset.data.table
        for name, form in fixed.items():
            table = table.set_column(table.column_names.index(name), name, table[name].cast(form))
        dataset = datasets.Dataset(datasets.table.InMemoryTable(table))
    order = data.draw(st.permutations(range(len(rows))))
    store = TokenStore.from_dataset(dataset.select(order), labels_of="token" if token_labels else "row")
    expected = TokenStore.from_dataset([rows[i] for i in order], labels_of="token" if token_labels else "row")
    assert store.lengths.tolist() == expected.lengths.tolist()
    assert store.fingerprint == expected.fingerprint
    assert store.padding == 15 * len(rows) - store.tokens


def test_dropped_padding_is_said_once_with_its_share(said):
    rows = [{"input_ids": [5, 6, 0, 0], "attention_mask": [1, 1, 0, 0]}] * 2
    for _ in range(2):
        TokenStore.from_dataset(rows, split="train")
    assert said() == "4 of 8 tokens of 'train' are padding (50%) and are left out: nothing is computed on them"


def test_padding_on_the_right_is_dropped_without_a_copy():
    dataset = datasets.Dataset.from_list([{"input_ids": [5, 6, 0, 0], "attention_mask": [1, 1, 0, 0]}] * 2)
    values = dataset.data.column("input_ids").chunk(0).values.to_numpy()
    assert np.shares_memory(TokenStore.from_dataset(dataset).row(1), values)


def test_token_types_that_are_all_zero_are_forgotten_also_in_a_selection():
    rows = [{"input_ids": [1, 2], "token_type_ids": [0, 0]}, {"input_ids": [1, 2], "token_type_ids": [0, 1]}]
    dataset = datasets.Dataset.from_list(rows)
    assert TokenStore.from_dataset(dataset).pack([0]).token_type_ids is not None
    for rows_0 in ([0], [0, 0]):  # a slice of the table, and an indices mapping
        part = TokenStore.from_dataset(dataset.select(rows_0))
        assert part.pack([0]).token_type_ids is None
        assert part.fingerprint == TokenStore.from_dataset([{"input_ids": [1, 2]}] * len(rows_0)).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r[3]["input_ids"].__setitem__(1, 99),
        lambda r: r[3].__setitem__("label", r[3]["label"] + 1),
        lambda r: r[3]["token_type_ids"].__setitem__(1, 0),
        lambda r: r.reverse(),
        lambda r: r.pop(),
        lambda r: [x.pop("label") for x in r],
        lambda r: [x.__setitem__("label", float(x["label"])) for x in r],
    ],
)
def test_every_change_of_content_changes_the_fingerprint(change):
    rows = rows_of()
    before = TokenStore.from_dataset(rows).fingerprint
    change(rows)
    assert TokenStore.from_dataset(rows).fingerprint != before


def test_moving_a_token_to_the_next_row_changes_the_fingerprint():
    one = TokenStore.from_dataset([{"input_ids": [1, 2]}, {"input_ids": [3]}])
    other = TokenStore.from_dataset([{"input_ids": [1]}, {"input_ids": [2, 3]}])
    assert one.fingerprint != other.fingerprint


@pytest.mark.parametrize("name", ["label", "labels", "label_ids"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2, 0], np.array([2, 0], dtype=np.int64)),
        ([True, False], np.array([1, 0], dtype=np.int64)),
        ([0.5, 2.0], np.array([0.5, 2.0], dtype=np.float32)),
        ([[1, 0, 1], [0, 0, 1]], np.array([[1, 0, 1], [0, 0, 1]], dtype=np.float32)),
        ([[0.5], [0.25]], np.array([[0.5], [0.25]], dtype=np.float32)),
    ],
)
def test_labels_of_every_kind_get_the_type_that_their_loss_needs(name, values, expected):
    dataset = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4, 5, 6]], name: values})
    for data, order in ((dataset, [0, 1]), (dataset.select([1, 0]), [1, 0])):
        store = TokenStore.from_dataset(data)
        assert store.labels.dtype == expected.dtype
        np.testing.assert_array_equal(store.labels, expected[order])
        np.testing.assert_array_equal(store.pack([0]).labels.numpy(), expected[order][:1])


def test_token_labels_travel_with_their_tokens():
    rows = [{"input_ids": [1, 2], "labels": [0, 3]}, {"input_ids": [3, 4, 5], "labels": [-100, 1, 2]}]
    store = TokenStore.from_dataset(rows, labels_of="token")
    batch = store.pack([0, 1])
    assert batch.input_ids.tolist() == [3, 4, 5, 1, 2]
    assert batch.labels.tolist() == [-100, 1, 2, 0, 3]
    assert store.has_labels
    store.check(10, 10, num_labels=4)
    with pytest.raises(DataError, match=r"label 3 in row 0 of 'dev' is outside 0\.\.2"):
        store.check(10, 10, num_labels=3, split="dev")
    with pytest.raises(DataError, match=r"one label per token.*TokenClassification"):
        TokenStore.from_dataset(rows)


def test_hidden_answers_count_as_no_labels_and_that_is_said(said):
    for labels in ([-1, -1], [None, None]):
        dataset = datasets.Dataset.from_dict({"input_ids": [[1], [2]], "label": labels})
        assert TokenStore.from_dataset(dataset, split=f"test {labels[0]}").labels is None
    assert "every label of 'test -1' is -1" in said()
    assert "'label' of 'test None' is empty in every row" in said()


def test_labels_that_are_strings_are_numbered_and_that_is_said(said):
    dataset = datasets.Dataset.from_dict({"input_ids": [[1], [2], [3]], "label": ["spam", "ham", "spam"]})
    store = TokenStore.from_dataset(dataset)
    assert store.labels.tolist() == [1, 0, 1]
    assert store.label_names == ["ham", "spam"]
    assert "0 = ham, 1 = spam" in said()
    assert TokenStore.from_dataset(dataset, label_names=["spam", "ham"]).labels.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="label 'spam' in row 0 is none of: ham, eggs"):
        TokenStore.from_dataset(dataset, label_names=["ham", "eggs"])


def test_class_names_of_the_data_set_are_known():
    features = datasets.Features(
        {"input_ids": datasets.List(datasets.Value("int32")), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    dataset = datasets.Dataset.from_dict({"input_ids": [[1], [2]], "label": [1, 0]}, features=features)
    store = TokenStore.from_dataset(dataset)
    assert store.label_names == ["no", "yes"]
    wrong = TokenStore.from_dataset([{"input_ids": [1], "label": name} for name in ("a", "b", "c")])
    with pytest.raises(DataError, match=r"label 2 in row 2 is outside 0\.\.1 \(2 labels: a, b, c\)"):
        wrong.check(10, 10, num_labels=2)


def _error(dataset, **options):
    with pytest.raises(DataError) as error:
        TokenStore.from_dataset(dataset, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def _table(**columns):
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(columns)))


def test_data_that_cannot_be_used_is_one_line_that_names_the_row_and_the_way_out():
    text = datasets.Dataset.from_dict({"sentence": ["a"], "label": [0]})
    assert "'train' has no column 'input_ids' (its columns: sentence, label): tokenize it first" in _error(
        text, split="train"
    )
    tokens = datasets.Dataset.from_dict({"input_ids": [[1], [2], [3]], "label": [0, 1, 2]})
    assert "has no rows" in _error(tokens.select([]))
    assert "has no rows" in _error([])
    assert "datasets['train']" in _error(datasets.DatasetDict(train=tokens))
    assert "datasets.Dataset.from_dict" in _error({"input_ids": [[1]]})
    assert "without streaming=True" in _error(tokens.to_iterable_dataset())
    assert "row 0 is a tuple" in _error([([1, 2], 0)])
    assert "holds string" in _error(datasets.Dataset.from_dict({"input_ids": ["1 2"]}))
    assert "whole numbers are needed" in _error(datasets.Dataset.from_dict({"input_ids": [[0.5]]}))
    assert "lists of lists: leave return_tensors=" in _error(datasets.Dataset.from_dict({"input_ids": [[[1, 2]]]}))


def test_rows_without_tokens_or_with_nulls_are_named():
    for kind in (pa.list_(pa.int32()), pa.large_list(pa.int32())):
        array = pa.array([[1], None, [2], [3, None], []], kind)
        dataset = _table(input_ids=array)
        assert "row 1 of 'train' has an empty value (null) in 'input_ids'" in _error(dataset, split="train")
        assert "row 1 has an empty value" in _error(dataset.select([2, 3]))
        assert "row 2 has no tokens" in _error(dataset.select([0, 2, 4]))
        assert TokenStore.from_dataset(dataset.select([2, 0])).pack([0, 1]).input_ids.tolist() == [2, 1]
    fixed = _table(input_ids=pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)))
    assert "row 1 has an empty value" in _error(fixed)
    assert TokenStore.from_dataset(fixed.select([2, 0])).row(0).tolist() == [3, 4]
    assert TokenStore.from_dataset(fixed.select(range(2, 3))).row(0).tolist() == [3, 4]
    assert "row 0 has no tokens" in _error([{"input_ids": []}, {"input_ids": []}])
    assert "row 1 has no tokens" in _error(
        [{"input_ids": [1], "attention_mask": [1]}, {"input_ids": [1], "attention_mask": [0]}]
    )
    assert "row 1 has 1 input_ids but 2 attention_mask" in _error(
        [{"input_ids": [1], "attention_mask": [1]}, {"input_ids": [1], "attention_mask": [1, 1]}]
    )


def test_labels_that_cannot_be_used_name_their_row():
    def labelled(values):
        return datasets.Dataset.from_dict({"input_ids": [[1]] * len(values), "label": values})

    assert "row 1 has no label (null in 'label', 1 such row(s))" in _error(labelled([0, None, 1]))
    assert "row 0 has no label" in _error(labelled([0, None, 1]).select([1, 2]))
    assert "row 2 has 1 labels, row 0 has 2" in _error(labelled([[0, 1], [1, 0], [1]]))
    assert "label in row 1 is not a finite number" in _error(
        [{"input_ids": [1], "label": v} for v in (0.5, float("inf"))]
    )
    assert "not all of one kind" in _error([{"input_ids": [1], "label": v} for v in (1, "one")])
    assert "row 1 has no 'label', row 0 has" in _error([{"input_ids": [1], "label": 1}, {"input_ids": [1]}])


def test_what_the_model_cannot_take_is_refused_before_the_first_step():
    rows = rows_of(30)
    rows[12]["input_ids"] = [5] * 40
    rows[12]["token_type_ids"] = [0] * 40
    rows[12]["attention_mask"] = [1] * 40
    rows[17]["label"] = 7
    rows[21]["input_ids"][1] = 500
    rows[23]["label"] = -1
    dataset = datasets.Dataset.from_list(rows)
    store = TokenStore.from_dataset(dataset)
    store.check(501, 40, num_labels=1, split="train")  # one output: any number is a target

    def refused(*arguments, store=store, **options):
        with pytest.raises(DataError) as error:
            store.check(*arguments, split="train", **options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "row 12 of 'train' has 40 tokens, the model takes 39: tokenize with truncation=True" in refused(501, 39)
    wrong = refused(500, 40)
    assert "token id 500 in row 21 of 'train'" in wrong
    assert "vocabulary of 500: the tokenizer and the model are not of the same checkpoint" in wrong
    assert "label 7 in row 17 of 'train' is outside 0..2" in refused(501, 40, num_labels=3)
    assert "label -1 in row 23 of 'train' is outside 0..8" in refused(501, 40, num_labels=9)
    assert "token_type_ids 1 in row 0 of 'train' is outside 0..0" in refused(501, 40, token_types=1)
    part = TokenStore.from_dataset(dataset.select([3, 21, 0]))
    assert "in row 1 of" in refused(500, 40, store=part)
    TokenStore.from_dataset(dataset.select([3, 0])).check(500, 40, num_labels=3)  # the wrong rows are not in it


def test_decimal_and_multiple_labels_must_fit_the_number_of_outputs():
    numbers = TokenStore.from_dataset([{"input_ids": [1], "label": 0.5}])
    numbers.check(10, 10, num_labels=1)
    with pytest.raises(DataError, match="num_labels=1 for regression"):
        numbers.check(10, 10, num_labels=2)
    several = TokenStore.from_dataset([{"input_ids": [1], "label": [0, 1, 1]}])
    several.check(10, 10, num_labels=3)
    with pytest.raises(DataError, match="each row has 3 labels, the model gives 2"):
        several.check(10, 10, num_labels=2)


def test_batches_of_a_store_can_be_written_to():
    dataset = datasets.Dataset.from_list(rows_of(1))
    store = TokenStore.from_dataset(dataset)
    before = store.row(0).tolist()
    batch = store.pack([0])
    batch.input_ids.fill_(0)
    batch.labels.fill_(9)
    assert store.row(0).tolist() == before
    assert store.labels[0] != 9


def test_real_pairs_pack_to_the_tokens_of_the_tokenizer(real_data, minilm):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm)
    raw = datasets.Dataset.from_parquet(str(real_data / "mrpc" / "validation.parquet"))
    columns = raw.column_names
    first, second = [c for c in columns if c.startswith("sentence")][:2]
    tokens = raw.map(
        lambda b: tokenizer(b[first], b[second], truncation=True), batched=True, batch_size=100, keep_in_memory=True
    )
    store = TokenStore.from_dataset(tokens.shuffle(seed=2))
    assert_holds(store, tokens.shuffle(seed=2).to_list())
    assert "idx" in store.dropped
