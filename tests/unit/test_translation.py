"""Translation, as users meet it: their data in any layout, both lengths, the languages' names, and figures over what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Translation
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu import corpus_bleu, corpus_chrf
from small_writers import small_writer, texts

import unpad
from unpad import ArgumentError, DataError, TokenStore
from unpad.tasks import Columns, Reader, languages, task
from unpad.tasks.translation import TASK

ROWS = [
    {"en": "where is my order?", "fr": "où est ma commande ?"},
    {"en": "ok", "fr": "d'accord"},
    {"en": "the lamp", "fr": "la lampe"},
]
PREFIXES = {"translation_en_to_fr": {"prefix": "translate English to French: ", "num_beams": 2}}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = [*texts(), *(text for row in ROWS for text in row.values())]
    return unpad.AutoTokenizer.from_iterator(words, kind="unigram", vocab_size=400, model_max_length=64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_writer("t5", tmp_path_factory.mktemp("model"), task_specific_params=PREFIXES)


def data(rows: list[Any] = ROWS) -> DatasetDict:
    return DatasetDict({"train": Dataset.from_dict({"id": list(range(len(rows))), "translation": rows})})


def prepared(raw: Any, tokenizer: Any, **settings: Any) -> Any:
    return TASK.prepare(raw, tokenizer, TASK.columns(raw, labelled=True), **settings)


# ---- data ----


def test_both_layouts_of_the_data_give_the_same_tokens(tokenizer: Any) -> None:
    typed = data().cast_column("translation", Translation(languages=["en", "fr"]))
    flat = DatasetDict({"train": Dataset.from_dict({"en": [r["en"] for r in ROWS], "fr": [r["fr"] for r in ROWS]})})
    named = flat.rename_columns({"en": "source", "fr": "target"})
    right = [tokenizer(r["en"], text_target=r["fr"]) for r in ROWS]
    for raw in (data(), typed, flat, named):
        found = prepared(raw, tokenizer).data["train"]
        assert found["input_ids"][:] == [r["input_ids"] for r in right] and found["labels"][:] == [
            r["labels"] for r in right
        ]
    back = prepared(data(), tokenizer, source_lang="fr", target_lang="en").data["train"]
    assert back["input_ids"][1] == tokenizer("d'accord")["input_ids"]
    assert back["labels"][1] == tokenizer(text_target="ok")["input_ids"]


@settings(max_examples=20, deadline=None)
@given(limits=st.tuples(st.integers(2, 12), st.integers(2, 12)), pairs=st.lists(st.tuples(st.sampled_from(texts()[:40]), st.sampled_from(texts()[:40])), min_size=1, max_size=6))  # fmt: skip
def test_sources_and_targets_are_cut_to_lengths_of_their_own(
    tokenizer: Any, limits: tuple[int, int], pairs: list[Any]
) -> None:
    raw = data([{"a": a, "b": b} for a, b in pairs])
    found = prepared(raw, tokenizer, max_source_length=limits[0], max_target_length=limits[1])
    for row, (a, b) in zip(found.data["train"], pairs, strict=True):
        assert row["input_ids"] == tokenizer(a, truncation=True, max_length=limits[0])["input_ids"]
        assert row["labels"] == tokenizer(text_target=b, truncation=True, max_length=limits[1])["input_ids"]
    assert found.notes["train"].targets == [b for _, b in pairs]  # figures compare with whole targets
    assert TokenStore.from_dataset(found.data["train"], labels_of="target").longest_target <= limits[1]


def test_three_languages_need_names_and_a_wrong_one_is_named(tokenizer: Any) -> None:
    raw = data([{"en": "a", "de": "b", "fr": "c"}] * 2)
    with pytest.raises(DataError, match=r"has en, de, fr|has .*; name two of them with source_lang= and target_lang="):
        prepared(raw, tokenizer)
    with pytest.raises(ArgumentError, match=r"target_lang='frr' is no language of the data; did you mean 'fr'"):
        prepared(raw, tokenizer, source_lang="en", target_lang="frr")
    for pair in ({"source_lang": "en"}, {"source_lang": "en", "target_lang": "en"}):
        with pytest.raises(DataError, match="name two of them with source_lang= and target_lang="):
            prepared(raw, tokenizer, **pair)
    found = prepared(raw, tokenizer, source_lang="de", target_lang="fr")
    assert found.columns == Columns("translation.de", label="translation.fr")


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_a_target_without_text_is_named_or_dropped(tokenizer: Any, empty: Any) -> None:
    raw = data([*ROWS, {"en": "not translated", "fr": empty}])
    with pytest.raises(DataError, match=r"row 3 of 'train' has a target without text.*empty_targets='drop'") as error:
        prepared(raw, tokenizer)
    assert "\n" not in str(error.value)
    found = prepared(raw, tokenizer, empty_targets="drop")
    assert len(found.data["train"]) == len(found.notes["train"].targets) == 3
    with pytest.raises(ArgumentError, match="empty_targets='keep' is unknown"):
        prepared(raw, tokenizer, empty_targets="keep")


def test_a_split_without_targets_is_tokenized_and_not_judged(tokenizer: Any) -> None:
    flat = Dataset.from_dict({"source": ["a", "b"], "target": ["c", "d"]})
    found = prepared(DatasetDict({"train": flat, "test": flat.remove_columns("target")}), tokenizer)
    assert found.data["test"].column_names == ["input_ids"] and "test" not in found.notes
    assert TASK.metrics(None, found.notes.get("test")) is None  # type: ignore[arg-type]


def test_targets_end_even_where_the_tokenizer_does_not_end_texts() -> None:
    lone = unpad.AutoTokenizer.from_iterator(texts(), kind="byte-bpe", vocab_size=300, model_max_length=64)
    found = prepared(data(), lone, max_target_length=4).data["train"]["labels"][:]
    assert all(row[-1] == lone.eos_token_id and len(row) <= 4 for row in found)


def test_the_prefix_of_the_configuration_stands_before_each_source(tokenizer: Any, folder: str) -> None:
    config = unpad.AutoConfig.from_pretrained(folder)
    found = prepared(data(), tokenizer, config=config, source_lang="en", target_lang="fr").data["train"]
    assert found["input_ids"][1] == tokenizer("translate English to French: ok")["input_ids"]
    found = prepared(data(), tokenizer, config=config, prefix=">>fr<< ").data["train"]
    assert found["input_ids"][1] == tokenizer(">>fr<< ok")["input_ids"]
    with pytest.raises(ArgumentError, match=r"no prefix for fr_to_en.*it knows en_to_fr; for another pass prefix="):
        prepared(data(), tokenizer, config=config, source_lang="fr", target_lang="en")


# ---- pipelines ----


def test_the_name_of_a_task_may_hold_its_languages() -> None:
    for name in ("translation_en_to_fr", "translation-en-to-fr"):
        assert task(name) is TASK and languages(name) == {"src_lang": "en", "tgt_lang": "fr"}
    assert task("translation_en_XX_to_fr_XX") is TASK and languages("translation") == {}


def test_rows_of_a_data_set_are_translated_as_they_come(folder: str) -> None:
    pipe = unpad.pipeline("translation_en_to_fr", folder, precision="fp32", device="cpu", max_new_tokens=4)
    right = pipe([row["en"] for row in ROWS])
    assert [one for [one] in pipe(data()["train"])] == right
    assert pipe(ROWS) == right
    with pytest.raises(DataError, match=r"input 0 has the languages en, fr; say which one is read with src_lang="):
        unpad.pipeline("translation", folder, device="cpu")(ROWS)
    shown = TASK.examples(pipe, list(data()["train"]), TASK.columns(data()), prepared(data(), pipe.tokenizer))
    assert [(e.texts, e.answer, e.truth) for e in shown] == [([r["en"]], one["translation_text"], r["fr"]) for r, one in zip(ROWS, right, strict=True)]  # fmt: skip


def test_a_dictionary_without_a_text_is_one_line(folder: str) -> None:
    with pytest.raises(DataError, match="input 1 is an empty dictionary"):
        unpad.pipeline("translation_en_to_fr", folder, device="cpu")([{"en": "ok"}, {}])


def test_languages_that_a_model_cannot_be_told_are_said_once(
    tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model for one direction, which has neither codes nor prefixes; not where only the task's name has them."""
    monkeypatch.setattr("unpad.notices._said", set())
    folder = small_writer("marian", tmp_path)
    pipe = unpad.pipeline("translation_en_to_fr", folder, device="cpu", max_new_tokens=2)
    right, reason = pipe("ok"), "cannot be told to this model, which has neither codes nor prefixes for languages"
    assert reason not in caplog.text
    assert pipe("ok", tgt_lang="de") == right and pipe("ok", tgt_lang="de") == right
    assert f"tgt_lang {reason}" in caplog.text and caplog.text.count(reason) == 1
    unpad.pipeline("translation", folder, device="cpu", src_lang="en", tgt_lang="fr")
    assert f"src_lang and tgt_lang {reason}" in caplog.text


def test_an_unknown_pair_of_languages_is_refused_with_those_there_are(folder: str) -> None:
    with pytest.raises(ArgumentError, match=r"no prefix for en_to_fra; did you mean 'en_to_fr'"):
        unpad.pipeline("translation_en_to_fra", folder, device="cpu")("ok")


@pytest.mark.parametrize(("options", "error"), [
    ({"num_beam": 3}, "no option 'num_beam'; did you mean 'num_beams'"),
    ({"max_new_tokens": 0}, "max_new_tokens=0 must be"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 is more than num_beams=2"),
    ({"max_length": 9, "max_new_tokens": 9}, "contradict"),
    ({"min_new_tokens": 9, "max_new_tokens": 4}, "min_new_tokens=9 is more than max_new_tokens=4"),
    ({"penalty_alpha": 0.6}, "penalty_alpha=0.6 is not supported"),
    ({"return_text": True, "return_tensors": True}, "return_text and return_tensors exclude each other"),
    ({"max_source_length": 0}, "max_source_length=0 is outside 1.."),
    ({"prefix": 3}, "prefix=3 is a int, not a text"),
    ({"src_lang": 5}, "src_lang=5 is a int, not a text"),
    ({"generation_config": {"num_beams": 2}}, "generation_config is a dict"),
])  # fmt: skip
def test_bad_options_are_one_clear_line_before_anything_is_computed(
    folder: str, options: dict[str, Any], error: str
) -> None:
    pipe = unpad.pipeline("translation_en_to_fr", folder, device="cpu")
    for inputs in ("ok", iter(["ok"])):  # a stream refuses them too before it is read
        with pytest.raises(ArgumentError, match=error) as found:
            pipe(inputs, **options)
        assert "\n" not in str(found.value)


def test_the_lengths_of_a_call_replace_those_of_the_pipeline(folder: str) -> None:
    pipe = unpad.pipeline(
        "translation_en_to_fr", folder, device="cpu", max_new_tokens=2, num_beams=1, return_tensors=True
    )
    assert len(pipe("ok", max_length=6)[0]["translation_token_ids"]) == 6
    config = unpad.GenerationConfig(max_new_tokens=4, num_beams=2)
    pipe = unpad.pipeline("translation_en_to_fr", folder, device="cpu", generation_config=config, return_tensors=True)
    assert len(pipe("ok")[0]["translation_token_ids"]) == 5


def test_what_is_no_text_is_named(folder: str) -> None:
    pipe = unpad.pipeline("translation_en_to_fr", folder, device="cpu", max_new_tokens=2)
    with pytest.raises(DataError, match=r"input 1 is None \(NoneType\), not a text"):
        pipe(["ok", None])


def test_a_model_without_the_head_is_refused_by_name(minilm: str, folder: str) -> None:
    with pytest.raises(ArgumentError, match="bert models have no such head"):
        unpad.pipeline("translation", minilm)
    model = unpad.AutoModel.from_pretrained(minilm)
    with pytest.raises(ArgumentError, match="BertModel cannot do translation; load it with AutoModelForSeq2SeqLM"):
        unpad.pipeline("translation", model, device="cpu")
    assert unpad.pipeline(model=folder, device="cpu").task == "text2text-generation"


def test_codes_of_languages_choose_what_the_decoder_writes(real_data: Path, tmp_path: Path) -> None:
    from test_tokenizer_formats import folder_of, write_model

    from unpad.text import _sentencepiece

    pieces = _sentencepiece.read(real_data / "tokenizers" / "t5-small" / "spiece.model").pieces[3:400]
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *map(tuple, pieces)]
    for name, field in (("MBart50Tokenizer", "forced_bos_token_id"), ("MBartTokenizer", "decoder_start_token_id")):
        folder = folder_of(tmp_path / name, name, {"src_lang": "en_XX", "tgt_lang": "ro_RO", "model_max_length": 64})
        write_model(tmp_path / name / "sentencepiece.bpe.model", pieces)
        own = unpad.AutoTokenizer.from_pretrained(folder)
        codes = own.lang_code_to_id
        assert TASK.settled({"tgt_lang": "fr"}, own) == {"tgt_lang": "fr", field: codes["fr_XX"]}
        assert TASK.settled({}, own) == {} and own.tgt_lang == "ro_RO"
        with pytest.raises(ArgumentError, match=r"tgt_lang='klingon' is no language code"):
            TASK.settled({"tgt_lang": "klingon"}, own)
        found = TASK.encode(["ok"], Reader(own, 64), {"src_lang": "de"}).input_ids.tolist()
        assert codes["de_DE"] in found and own.src_lang == "en_XX"  # for this call only
        found = prepared(data(), own, source_lang="en", target_lang="fr")
        assert codes["fr_XX"] in found.data["train"]["labels"][0] and own.tgt_lang == "fr_XX"


# ---- figures ----


def test_figures_are_those_of_sacrebleu_over_the_decoded_texts(tokenizer: Any) -> None:
    notes = prepared(data(), tokenizer).notes["train"]
    judge = TASK.metrics(None, notes)  # type: ignore[arg-type]
    assert judge is not None and judge.generates and [part.key for part in judge.parts] == ["bleu", "chrf"]
    said = ["où est ma commande ?", "la lampe", "d'accord"]
    ids = [np.array(tokenizer(text)["input_ids"]) for text in said]
    judge.add_batch(predictions=ids[1:], references=None, rows=np.array([2, 1]))
    judge.add_batch(
        predictions=[torch.tensor(ids[0])],
        references=[np.array([*tokenizer(text_target=ROWS[0]["fr"])["input_ids"], -100])],
        rows=np.array([0]),
    )
    found = judge.compute()
    read = tokenizer.batch_decode([list(i) for i in (ids[1], ids[2], ids[0])], skip_special_tokens=True)
    right = [[ROWS[i]["fr"] for i in (2, 1, 0)]]
    assert found["bleu"] == pytest.approx(corpus_bleu(read, right).score)
    assert found["chrf"] == pytest.approx(corpus_chrf(read, right).score)
    assert found["gen_len"] == np.mean([len(i) for i in ids])


def test_a_label_that_was_cut_counts_as_the_whole_target_and_one_of_another_row_as_itself(tokenizer: Any) -> None:
    judge = TASK.metrics(None, prepared(data(), tokenizer, max_target_length=4).notes["train"])  # type: ignore[arg-type]
    assert judge is not None
    whole = tokenizer(text_target=ROWS[0]["fr"])["input_ids"]
    cut = tokenizer(text_target=ROWS[0]["fr"], truncation=True, max_length=4)["input_ids"]
    chrf = {}
    for row in (0, 1, 7, None):
        for name, said in (("whole", whole), ("cut", cut)):
            rows = None if row is None else [row]
            judge.add_batch(
                predictions=[np.array(said)],
                references=[np.array([*cut, -100, -100])],
                **({"rows": rows} if rows else {}),
            )
            chrf[row, name] = judge.compute()["chrf"]
    assert chrf[0, "whole"] > chrf[0, "cut"]
    assert all(chrf[row, "cut"] == pytest.approx(100) for row in (1, 7, None))  # these labels are not of that row
