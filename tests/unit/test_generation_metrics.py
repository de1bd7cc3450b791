"""BLEU and chrF equal sacrebleu, ROUGE equals rouge-score, in whatever batches texts come; what cannot be judged is refused."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer, scoring
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from unpad import notices
from unpad.errors import ArgumentError, DataError
from unpad.metrics import combine, load_metric
from unpad.metrics.rouge import lead, lead_baseline, split_sentences

WORDS = [
    "the",
    "The",
    "a",
    "runner",
    "running",
    "ran",
    "runs",
    "quickly,",
    "3.5",
    "dogs",
    "dog.",
    "house-boat",
    "Größe",
    "généralement",
    "!",
    "don't",
]
QUICK = settings(max_examples=60, deadline=None)


@st.composite
def corpora(draw, even=True):
    """Predictions, and 1 to 3 references of each that share words with it; empty texts and several lines are among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size, most = draw(st.integers(1, 12)), draw(st.integers(1, 3))

    def text():
        return "".join(w + rng.choice([" ", " ", " ", "\n"]) for w in rng.choice(WORDS, rng.integers(0, 14))).strip()

    predictions = [text() for _ in range(size)]
    references = [
        [
            p if rng.random() < 0.2 else f"{p[: len(p) // 2]} {text()}"
            for _ in range(most if even else rng.integers(1, 4))
        ]
        for p in predictions
    ]
    return predictions, references


def in_batches(metric, predictions, references, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(predictions)), max_size=4)))
    for a, b in zip([0, *cuts], [*cuts, len(predictions)], strict=True):
        metric.add_batch(predictions=predictions[a:b], references=references[a:b])


@QUICK
@given(corpora(), st.data())
def test_bleu_in_batches_equals_sacrebleu_with_its_signature(corpus, data):
    predictions, references = corpus
    options = {
        "lowercase": data.draw(st.booleans()), "tokenize": data.draw(st.sampled_from([None, "13a", "intl", "char", "none"])),
        "smooth_method": data.draw(st.sampled_from(["exp", "floor", "add-k", "none"])),
        "smooth_value": data.draw(st.sampled_from([None, 0.3])),
    }  # fmt: skip
    effective = data.draw(st.booleans())
    oracle = BLEU(**options, effective_order=effective)
    sets = [[row[i] for row in references] for i in range(len(references[0]))]
    want = oracle.corpus_score(predictions, sets)
    metric = load_metric("sacrebleu")
    in_batches(metric, predictions, references, data)
    got = metric.compute(**options, use_effective_order=effective)
    assert got.pop("signature") == str(oracle.get_signature())
    assert got == {k: getattr(want, k) for k in ("score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len")}
    if options["tokenize"] == "13a":
        call = sacrebleu.corpus_bleu(predictions, sets, use_effective_order=effective, **options)
        assert got["score"] == call.score


@QUICK
@given(corpora(), st.integers(1, 6), st.integers(0, 2), st.integers(1, 3), st.booleans(), st.data())
def test_chrf_in_batches_equals_sacrebleu(corpus, chars, words, beta, lowercase, data):
    predictions, references = corpus
    sets = [[row[i] for row in references] for i in range(len(references[0]))]
    options = {"char_order": chars, "word_order": words, "beta": beta, "lowercase": lowercase}
    metric = load_metric("chrf")
    in_batches(metric, predictions, references, data)
    got = metric.compute(**options)
    assert got.pop("score") == CHRF(**options).corpus_score(predictions, sets).score
    assert got == {"char_order": chars, "word_order": words, "beta": beta}
    default = metric.compute(predictions=predictions, references=references)
    assert default["score"] == sacrebleu.corpus_chrf(predictions, sets).score


@QUICK
@given(corpora(even=False), st.booleans(), st.data())
def test_rouge_in_batches_equals_rouge_score_for_each_pair_and_in_the_mean(corpus, use_stemmer, data):
    predictions, references = corpus
    kinds = data.draw(st.sampled_from([None, ["rougeLsum"], ["rouge3", "rougeL"]]))
    names = kinds or ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    oracle = rouge_scorer.RougeScorer(names, use_stemmer=use_stemmer)
    want = [oracle.score_multi(r, p) for p, r in zip(predictions, references, strict=True)]
    metric = load_metric("rouge")
    in_batches(metric, predictions, references, data)
    each = metric.compute(use_stemmer=use_stemmer, rouge_types=kinds, use_aggregator=False)
    assert each == {k: [row[k].fmeasure for row in want] for k in names}
    in_batches(metric, predictions, references, data)
    mean = metric.compute(use_stemmer=use_stemmer, rouge_types=kinds)
    assert list(mean) == names
    for kind, value in mean.items():
        assert value.mid == pytest.approx(np.mean([row[kind] for row in want], axis=0), abs=1e-12)
        assert value == pytest.approx(value.mid.fmeasure, abs=1e-12)


@pytest.mark.parametrize("name", ["sacrebleu", "chrf", "rouge"])
def test_a_reference_may_be_a_text_or_a_list_of_one(name):
    predictions, references = ["a dog ran home today", "the house is old"], ["a dog runs home today", "the old house"]
    metric = load_metric(name)
    plain = metric.compute(predictions=predictions, references=references)
    assert metric.compute(predictions=tuple(predictions), references=[[r] for r in references]) == plain
    assert metric.compute(predictions=np.array(predictions), references=np.array(references)) == plain
    for p, r in zip(predictions, references, strict=True):
        metric.add(prediction=p, reference=[r])
    assert metric.compute() == plain


def test_of_several_references_the_best_counts():
    metric, texts = load_metric("rouge"), ["a dog ran home"]
    best = metric.compute(predictions=texts * 2, references=[["cats sleep", *texts, "x"], texts])
    assert best["rouge2"] == 1
    bleu = load_metric("sacrebleu")
    assert bleu.compute(predictions=texts, references=[["cats sleep", *texts]])["score"] == pytest.approx(100)


def rouge_of_many():
    rng = np.random.default_rng(3)
    predictions = [" ".join(rng.choice(WORDS, 9)) for _ in range(80)]
    references = [" ".join([*p.split()[: rng.integers(0, 9)], *rng.choice(WORDS, 4)]) for p in predictions]
    return predictions, references


def test_figures_of_rouge_are_plain_floats_and_know_mid_low_and_high():
    predictions, references = rouge_of_many()
    result = load_metric("rouge").compute(predictions=predictions, references=references)
    old = {key: value.mid.fmeasure * 100 for key, value in result.items()}
    assert {key: round(value * 100, 4) for key, value in result.items()} == {k: round(v, 4) for k, v in old.items()}
    assert json.loads(json.dumps(result)) == result and all(type(v) is float for v in old.values())
    for again in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert again == result and again["rouge1"].high == result["rouge1"].high
    scorer, bootstrap = rouge_scorer.RougeScorer(list(result)), scoring.BootstrapAggregator()
    for p, r in zip(predictions, references, strict=True):
        bootstrap.add_scores(scorer.score(r, p))
    for kind, want in bootstrap.aggregate().items():  # both draw 1,000 samples: their bounds differ by chance
        for bound in ("low", "mid", "high"):
            assert getattr(result[kind], bound) == pytest.approx(getattr(want, bound), abs=0.012)
        assert result[kind].low.fmeasure < result[kind] < result[kind].high.fmeasure


def test_judging_summaries_leaves_random_numbers_and_logging_as_they_were():
    code = """
import logging, numpy as np
from unpad.metrics import load_metric
np.random.seed(1)
before = np.random.get_state()[1].tolist(), np.random.get_state()[2]
for name in ("rouge", "sacrebleu", "chrf"):
    result = load_metric(name).compute(predictions=["a dog"] * 3, references=["the dog"] * 3)
    getattr(result.get("rouge1"), "low", None)
assert (np.random.get_state()[1].tolist(), np.random.get_state()[2]) == before
assert logging.getLogger().handlers == [], "every notice would be said twice"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


WRONG = [
    ([["a", "dog"]], ["a dog"], "prediction 0 of the batch is ['a', 'dog'], not a text. Join tokens"),
    (["x", [5, 6]], ["x", "y"], "prediction 1 of the batch is [5, 6], not a text"),
    (["x", None], ["x", "y"], "prediction 1 of the batch is None"),
    ("a dog", ["a dog"], "the predictions are 'a dog'. Pass a list"),
    (["a dog"], "a dog", "the references are 'a dog'. Pass a list"),
    (["a dog"], None, "the references are None"),
    (["x", "y"], ["x", 7], "reference 1 of the batch is 7, not a text or texts"),
    (["x", "y"], [["x"], []], "reference 1 of the batch is [], not a text or texts"),
    (["x", "y"], [["x"], [["y"]]], "reference 1 of the batch is [['y']]"),
    (["x", "y"], [["x", "y"]], "there are 2 predictions but 1 references. Pass one text, or one list of texts"),
]


@pytest.mark.parametrize("name", ["sacrebleu", "chrf", "rouge"])
@pytest.mark.parametrize(("predictions", "references", "words"), WRONG)
def test_wrong_shapes_are_one_clear_line_and_nothing_of_the_batch_is_kept(name, predictions, references, words):
    metric = load_metric(name)
    metric.add_batch(predictions=["kept"], references=["kept"])
    with pytest.raises(DataError) as error:
        metric.add_batch(predictions=predictions, references=references)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert metric.examples == 1
    metric.compute()


@pytest.mark.parametrize("name", ["sacrebleu", "chrf"])
def test_numbers_of_references_that_differ_are_refused_within_a_batch_and_between_batches(name):
    metric = load_metric(name)
    with pytest.raises(DataError, match="reference 1 of the batch has 2 texts, but the first of all had 1"):
        metric.add_batch(predictions=["x", "y"], references=["x", ["y", "z"]])
    metric.add_batch(predictions=["x"], references=[["x", "y"]])
    with pytest.raises(DataError, match="reference 0 of the batch has 1 texts, but the first of all had 2"):
        metric.add_batch(predictions=["x"], references=["x"])
    assert metric.examples == 1


OPTIONS = [
    ("sacrebleu", {"tokenize": "13b"}, "tokenize='13b' is unknown; did you mean '13a'"),
    ("sacrebleu", {"smooth_method": "expo"}, "did you mean 'exp'"),
    ("sacrebleu", {"smooth": "exp"}, "no argument 'smooth'; did you mean 'smooth_"),
    ("chrf", {"char_order": 0}, "char_order=0 is not allowed; pass a whole number of 1 or more"),
    ("chrf", {"beta": "2"}, "beta='2' is not allowed"),
    ("rouge", {"rouge_types": "rouge1"}, "rouge_types='rouge1' must be a list"),
    ("rouge", {"rouge_types": ["rouge1", "rougeN"]}, "must be a list of rouge1 to rouge9, rougeL, rougeLsum"),
    ("rouge", {"stemmer": True}, "did you mean 'use_stemmer'"),
]


@pytest.mark.parametrize(("name", "options", "words"), OPTIONS)
def test_a_misspelt_option_names_the_known_ones_and_costs_no_evaluation(name, options, words):
    metric = load_metric(name)
    metric.add_batch(predictions=["a dog"], references=["a dog"])
    with pytest.raises(ArgumentError) as error:
        metric.compute(**options)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert metric.compute()


def test_a_tokenizer_that_lacks_its_package_is_one_line(monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(ArgumentError, match=r"tokenize='ja-mecab' cannot be used here: .*pip install") as error:
        load_metric("sacrebleu").compute(predictions=["x"], references=["x"], tokenize="ja-mecab")
    assert "\n" not in str(error.value)


def test_rouge_says_that_it_cannot_read_a_script_and_reads_it_with_a_tokenizer(caplog):
    notices._said.discard("unread rouge")
    metric, texts = load_metric("rouge"), ["собака бежит домой", "a dog"]
    with caplog.at_level(logging.INFO, "unpad"):
        assert metric.compute(predictions=texts, references=texts)["rouge1"] == 0.5
    assert "1 references have neither and score 0, e.g. 'собака" in caplog.text and "tokenizer=str.split" in caplog.text
    caplog.clear()
    notices._said.discard("unread rouge")
    assert metric.compute(predictions=texts, references=texts, tokenizer=str.split)["rougeLsum"] == 1
    assert not caplog.text


def test_bleu_and_chrf_and_rouge_can_be_fed_together():
    both = combine({"bleu": "sacrebleu", "chrf": "chrf", "rouge": "rouge"})
    found = both.compute(predictions=["a dog ran home"], references=["a dog ran home"], use_stemmer=True)
    assert (
        found["bleu_score"] == pytest.approx(100) and found["chrf_score"] == pytest.approx(100) and found["rouge1"] == 1
    )


@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(".!?。 \n\"')")), max_size=60))
@settings(max_examples=150, deadline=None)
def test_splitting_sentences_loses_and_adds_nothing_but_white_space(text):
    parts = split_sentences(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part and part == part.strip() for part in parts)


def test_sentences_end_where_a_reader_ends_them():
    text = "Dr. Brown paid $3.50 to J. K. Miller. He left at 5 p.m. on Monday! Was it fun? Yes."
    assert split_sentences(text) == [
        "Dr. Brown paid $3.50 to J. K. Miller.", "He left at 5 p.m. on Monday!", "Was it fun?", "Yes.",
    ]  # fmt: skip
    assert split_sentences("¿Vino el Sr. Ruiz? ¡Sí!", "es_XX") == ["¿Vino el Sr. Ruiz?", "¡Sí!"]
    assert split_sentences("Am 3. Mai kam er. Gut.", "de") == ["Am 3. Mai kam er.", "Gut."]
    assert split_sentences("雨です。寒いです。", "ja") == ["雨です。", "寒いです。"]
    assert split_sentences(" \n ") == []
    with pytest.raises(DataError, match="needs one text, not None"):
        split_sentences(None)


def test_the_lead_is_the_first_three_sentences_one_a_line():
    assert lead("One is. Two is. Three is. Four is.") == "One is.\nTwo is.\nThree is."
    assert lead("One is. Two is.", sentences=1) == "One is."
    assert lead("") == ""


def test_the_lead_baseline_is_the_metric_of_the_leads():
    documents = ["The dog ran. It was late. Rain fell. Nobody came.", "Runners run.", ""]
    references = ["The dog ran late.\nRain fell.", "A runner ran.", "Nothing."]
    for name, options in (("rouge", {"use_stemmer": True}), ("chrf", {}), ("sacrebleu", {"lowercase": True})):
        metric = load_metric(name)
        got = lead_baseline(documents, references, metric, **options)
        assert got == metric.compute(predictions=[lead(d) for d in documents], references=references, **options)
    with pytest.raises(DataError, match="text 1 of the batch is None"):
        lead_baseline(["One.", None], ["One.", "Two."], load_metric("rouge"))


def test_sentences_on_lines_of_their_own_matter_to_rouge_lsum_alone():
    text, swapped = "Rain fell all day. The dog ran home.", "The dog ran home. Rain fell all day."
    metric = load_metric("rouge")
    joined = metric.compute(predictions=[swapped], references=[text])
    lined = metric.compute(predictions=["\n".join(split_sentences(swapped))], references=[lead(text)])
    assert joined["rougeLsum"] < lined["rougeLsum"] == 1
    assert all(joined[k] == lined[k] for k in ("rouge1", "rouge2", "rougeL"))
