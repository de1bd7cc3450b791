"""Masked language modelling: no token of a corpus is lost, masks depend on nothing but their place, and nothing grows with the data."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_mlm import small_mlm

import unpad
from unpad.cli.__main__ import main
from unpad.core import losses
from unpad.core.layers import RowEmbedding
from unpad.core.losses import vocabulary_loss
from unpad.data import chunks
from unpad.data.masking import hashed
from unpad.data.tokens import TokenStore
from unpad.engine.optim import PreparedOptimizer
from unpad.tasks import Columns, task
from unpad.text.tokenizer import Tokenizer

FILL = task("fill-mask")


@pytest.fixture(scope="module")
def folder(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_mlm(minilm, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tokenizer(folder: str) -> Tokenizer:
    return unpad.AutoTokenizer.from_pretrained(folder)


def prepared(tokenizer: Tokenizer, texts: list[str], **settings: Any) -> Dataset:
    return FILL.prepare(
        DatasetDict({"train": Dataset.from_dict({"text": texts})}), tokenizer, Columns("text"), **settings
    ).data["train"]


def course(tokenizer: Tokenizer, texts: list[str], size: int) -> list[list[int]]:
    """The chunks of the Hugging Face course, as its code makes them of one batch."""
    ids = [i for text in texts for i in tokenizer(text)["input_ids"]]
    total = len(ids) // size * size
    return [ids[i : i + size] for i in range(0, total, size)]


# ---- the corpus ----

corpora = st.lists(st.text("ab cdé,.你 ", max_size=60), min_size=1, max_size=12).filter(
    lambda ts: any(t.strip() for t in ts)
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=corpora, size=st.integers(8, 40), keep=st.booleans(), block=st.integers(1, 5))
def test_chunks_are_those_of_the_course_and_lose_only_the_last_short_one(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, texts: list[str], size: int, keep: bool, block: int
) -> None:
    monkeypatch.setattr(chunks, "BLOCK", block)
    data = prepared(tokenizer, texts, chunk_size=size, keep_last=keep)
    every = [i for text in texts for i in tokenizer(text)["input_ids"]]
    expected = course(tokenizer, texts, size)
    if (keep or not expected) and len(every) % size:
        expected = [*expected, every[len(expected) * size :]]
    assert data["input_ids"] == expected


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=corpora, size=st.integers(8, 40), block=st.integers(1, 5))
def test_word_numbers_tell_words_apart_and_special_tokens_have_none(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, texts: list[str], size: int, block: int
) -> None:
    monkeypatch.setattr(chunks, "BLOCK", block)
    data = prepared(tokenizer, texts, chunk_size=size, keep_last=True)
    truth = [(t, w) for t, text in enumerate(texts) for w in tokenizer(text).word_ids()]
    for k, (ids, numbers) in enumerate(zip(data["input_ids"], data["word_ids"], strict=True)):
        own = truth[k * size : (k + 1) * size]
        assert len(numbers) == len(ids) == len(own)
        assert [n == -1 for n in numbers] == [w is None for _, w in own]
        named = {word: n for word, n in zip(own, numbers, strict=True) if word[1] is not None}
        assert all(named[word] == n for word, n in zip(own, numbers, strict=True) if word[1] is not None)
        assert sorted(named.values()) == list(range(len(named))), "unique in the chunk, from 0"


def test_what_is_left_out_is_said(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    raw = DatasetDict({"train": Dataset.from_dict({"text": ["my order is late"] * 20, "stars": [1] * 20})})
    found = FILL.prepare(raw, tokenizer, FILL.columns(raw), chunk_size=16)
    said = [record.getMessage() for record in caplog.records]
    total = 20 * len(tokenizer("my order is late")["input_ids"])
    assert (
        f"train: 20 texts make {total // 16} chunks of 16 tokens; the last {total % 16} tokens, too few for one, are left out"
        in said
    )
    assert "fill-mask reads 'text'; not used: stars" in said
    assert found.num_labels is None and found.model_options == {}


def test_both_texts_of_pairs_belong_to_the_corpus(tokenizer: Tokenizer) -> None:
    raw = Dataset.from_dict({"sentence1": ["my order"], "sentence2": ["the lamp"], "label": [1]})
    data = FILL.prepare(raw, tokenizer, FILL.columns(raw)).data["train"]
    assert tokenizer.decode(data[0]["input_ids"]) == "[CLS] my order [SEP] [CLS] the lamp [SEP]"


# ---- masks ----


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_depend_on_seed_epoch_and_row_and_not_on_the_batch(tokenizer: Tokenizer, whole_words: bool) -> None:
    texts = unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:120]
    store = TokenStore.from_dataset(prepared(tokenizer, texts, chunk_size=32, keep_last=True), labels_of="token")
    collator = FILL.collator(tokenizer, mlm_probability=0.3, whole_word_mask=whole_words)

    def masks(rows: list[int], **key: Any) -> dict[int, tuple[list[int], list[int]]]:
        state = torch.get_rng_state()
        batch = collator.mask(store.pack(rows), **key)
        assert torch.equal(torch.get_rng_state(), state), "no state is drawn from"
        assert torch.equal(batch.asked, (batch.labels != -100).nonzero().view(-1))
        cuts = np.cumsum(batch.lengths)[:-1]
        parts = zip(np.split(batch.input_ids.numpy(), cuts), np.split(batch.labels.numpy(), cuts), strict=True)
        return {row: (a.tolist(), b.tolist()) for row, (a, b) in zip(batch.sample_ids, parts, strict=True)}

    every = list(range(len(store)))
    together = masks(every, seed=1, epoch=0)
    for row in every[::7]:
        assert masks([row], seed=1, epoch=0)[row] == together[row]
    assert masks(every[::-1], seed=1, epoch=0) == together
    others = [masks(every, seed=1, epoch=1), masks(every, seed=2, epoch=0), masks(every, seed=1, epoch=None)]
    for other in others:
        same = [
            a == b for row in every for a, b in zip(together[row][1], other[row][1], strict=True) if a != b or a != -100
        ]
        assert np.mean(same) < 0.4, "other masks"
    assert masks(every, seed=1, epoch=None) == others[-1]
    if whole_words:
        for row in every:
            hidden = np.array(together[row][1]) != -100
            numbers = store.pack([row]).words.numpy()
            assert all(len(set(hidden[numbers == n])) == 1 for n in set(numbers.tolist()) - {-1})


def test_hashed_numbers_are_uniform_and_independent() -> None:
    import scipy.stats

    rows, places = np.divmod(np.arange(200_000), 128)
    numbers = hashed(7, 3, rows, places)
    assert numbers.shape == (4, 200_000) and numbers.min() >= 0 and numbers.max() < 1
    for channel in numbers:
        assert scipy.stats.kstest(channel, "uniform").pvalue > 1e-6
        assert abs(np.corrcoef(channel[1:], channel[:-1])[0, 1]) < 5 / np.sqrt(len(channel))
        assert abs(np.corrcoef(channel[128:], channel[:-128])[0, 1]) < 5 / np.sqrt(len(channel))
    assert np.abs(np.corrcoef(numbers) - np.eye(4)).max() < 5 / np.sqrt(200_000)
    assert len(np.unique(hashed(7, None, rows, places)[0])) == 200_000


# ---- the loss ----


@settings(deadline=None, max_examples=25)
@given(
    words=st.integers(0, 30), vocabulary=st.sampled_from([3, 101, 30_000]), bias=st.booleans(), standing=st.booleans(),
    seed=st.integers(0, 99), scale=st.floats(0.1, 30), smoothing=st.sampled_from([0.0, 0.1]), weighted=st.booleans(),
    block=st.sampled_from([1, 10_000, losses.BLOCK]), mean=st.booleans(),
)  # fmt: skip
def test_the_loss_and_its_gradients_are_those_of_torch(
    words: int, vocabulary: int, bias: bool, standing: bool, seed: int, scale: float, smoothing: float, weighted: bool,
    block: int, mean: bool,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    table, x = RowEmbedding(vocabulary, 8), torch.randn(words, 8, requires_grad=True)
    table.whole = True
    if standing:
        table.train_rows()
    b = torch.randn(vocabulary, requires_grad=True) if bias else None
    with torch.no_grad():
        x *= scale
    labels = torch.randint(0, vocabulary, (words,)).masked_fill(torch.rand(words) < 0.3, -100)
    leaves = [t for t in (x, table.weight, b) if t is not None]
    weights = torch.rand(words) if weighted else None
    with mock.patch.object(losses, "BLOCK", block):
        total, count = vocabulary_loss(x, table.weight, b, labels, table, weights, smoothing)
        with torch.no_grad():
            alone = vocabulary_loss(x, table.weight, b, labels, table, weights, smoothing)[0]
    # torch's own sums over 30,000 words in fp32 are further from the truth than ours
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    each = F.cross_entropy(F.linear(*exact), labels, ignore_index=-100, reduction="none", label_smoothing=smoothing)
    expected = each.sum() if weights is None else (each * weights).sum()
    divisor = max(1, int(count)) if mean else 7
    gradients = torch.autograd.grad(expected / divisor, exact) if words else [torch.zeros_like(t) for t in leaves]
    assert int(count) == int((labels != -100).sum())
    torch.testing.assert_close(total, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, expected.float(), rtol=1e-5, atol=1e-5)
    (total / divisor).backward()
    for leaf, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(leaf.grad, gradient.float(), rtol=1e-4, atol=4e-6 * max(1, scale))


def test_the_kept_gradient_of_the_tied_table_is_that_of_autograd(folder: str, tokenizer: Tokenizer) -> None:
    """Through accumulation, clipping and several steps, packed and padded."""
    texts = unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:60]
    store = TokenStore.from_dataset(prepared(tokenizer, texts, chunk_size=32), labels_of="token")
    collator = FILL.collator(tokenizer)
    plain, kept = (unpad.AutoModelForMaskedLM.from_pretrained(folder).eval() for _ in range(2))
    optimizers = [PreparedOptimizer(torch.optim.SGD(m.parameters(), lr=0.1)) for m in (plain, kept)]
    optimizers[1].keep_rows(kept)
    for step in range(4):
        for micro in range(2):
            batch = collator.mask(store.pack([4 * step + micro, 4 * step + 2]), seed=0, epoch=0)
            ids, labels = batch.pad(batch.input_ids), batch.pad(batch.labels, fill=-100)
            for model in (plain, kept):
                output = model(batch) if micro or step == 2 else model(input_ids=ids, labels=labels)
                output.loss.backward()
        for a, b in zip(plain.parameters(), kept.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)
        norms = [optimizer.clipped_step(0.5) for optimizer in optimizers]
        torch.testing.assert_close(*norms)
        for optimizer in optimizers:
            optimizer.zero_grad()
    for (name, a), b in zip(plain.named_parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_bf16_losses_stay_near_fp32(folder: str, tokenizer: Tokenizer) -> None:
    texts = unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:60]
    store = TokenStore.from_dataset(prepared(tokenizer, texts, chunk_size=32), labels_of="token")
    batch = FILL.collator(tokenizer).mask(store.pack(range(9)), seed=0, epoch=0)
    model = unpad.AutoModelForMaskedLM.from_pretrained(folder).eval()
    expected = model(batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        found = model(batch).loss
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    (exact,) = torch.autograd.grad(expected, [model.head.bias])
    (near,) = torch.autograd.grad(found, [model.head.bias])
    assert F.cosine_similarity(exact, near, dim=0) > 0.999


# ---- training and evaluation ----


def trainer(
    folder: str, tokenizer: Tokenizer, data: Dataset, where: Path, model: Any = None, **options: Any
) -> unpad.Trainer:
    args = unpad.TrainingArguments(
        str(where), draw_curves=False, disable_tqdm=True, precision="fp32", report_to=["none"], **options
    )
    model = model or unpad.AutoModelForMaskedLM.from_pretrained(folder)
    return unpad.Trainer(
        model, args, FILL.collator(tokenizer), train_dataset=data, eval_dataset=data, processing_class=tokenizer
    )


def test_perplexities_of_any_batching_and_any_time_compare(folder: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:90]
    data = prepared(tokenizer, texts, chunk_size=32, keep_last=True)
    found = [trainer(folder, tokenizer, data, tmp_path / "a", eval_max_tokens=n).evaluate() for n in (64, 1000)]
    assert found[0]["eval_loss"] == pytest.approx(found[1]["eval_loss"], rel=1e-5)
    assert found[0]["eval_perplexity"] == pytest.approx(np.exp(found[0]["eval_loss"]), rel=1e-6)
    one = trainer(folder, tokenizer, data, tmp_path / "b", max_steps=3, learning_rate=0.0)
    before = one.evaluate()["eval_loss"]
    one.train()
    assert one.evaluate()["eval_loss"] == pytest.approx(before, rel=1e-6), "the same masks after training"
    with pytest.raises(unpad.ArgumentError, match="perplexity"):
        trainer(
            folder, tokenizer, data, tmp_path / "c", eval_strategy="epoch", metric_for_best_model="perplexty"
        ).train()


def test_other_models_train_on_padded_batches_of_the_same_collator(
    folder: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    import transformers

    data = prepared(tokenizer, ["my order is late"] * 40, chunk_size=16).remove_columns("word_ids")
    theirs = trainer(
        folder,
        tokenizer,
        data,
        tmp_path,
        transformers.BertForMaskedLM.from_pretrained(folder),
        max_steps=2,
        learning_rate=0.0,
    )
    before = theirs.evaluate()
    assert before["eval_perplexity"] == pytest.approx(np.exp(before["eval_loss"]), rel=1e-6)
    theirs.train()
    assert theirs.evaluate()["eval_loss"] == pytest.approx(before["eval_loss"], rel=1e-6), "the same masks each time"


def test_data_that_are_masked_already_are_not_masked_again(folder: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    mask = tokenizer.mask_token_id
    data = Dataset.from_dict({"input_ids": [[2, 7, mask, 9, 3]] * 4, "labels": [[-100, -100, 8, -100, -100]] * 4})
    args = unpad.TrainingArguments(str(tmp_path), draw_curves=False, precision="fp32", disable_tqdm=True)
    model = unpad.AutoModelForMaskedLM.from_pretrained(folder).eval()
    found = unpad.Trainer(model, args, eval_dataset=data, processing_class=tokenizer).evaluate()
    row = {name: torch.tensor(values) for name, values in data[:1].items()}
    assert found["eval_loss"] == pytest.approx(model(**row).loss.item(), rel=1e-5)


def test_evaluation_memory_does_not_grow_with_the_data(folder: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"input_ids": rng.integers(10, 200, (4000, 16)).tolist()}
    peaks, one = [], trainer(folder, tokenizer, None, tmp_path, eval_max_tokens=512)
    for count in (100, 4000):
        data = Dataset.from_dict({"input_ids": rows["input_ids"][:count]})
        one._store(data, "eval")  # the flat tokens, which are the data themselves
        tracemalloc.start()
        one.evaluate(data)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 60 * 4000, f"{peaks} bytes: less than four per token of what was added"


# ---- the command line ----


def test_train_evaluate_predict_from_a_text_file(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text("\n".join(unpad.load_dataset("helpdesk/pairs")["train"]["sentence1"][:200]), encoding="utf-8")
    fast = ["--precision", "fp32", "--use_cpu", "true", "--disable_tqdm", "true"]
    assert main(["train", "fill-mask", "--model", folder, "--data", str(corpus), "--output_dir", str(run), "--max_steps", "3",
                 "--chunk_size", "32", "--whole_word_mask", "true", "--mlm_probability", "0.2", "--draw_curves", "false", *fast]) == 0  # fmt: skip
    shown = capsys.readouterr().out
    assert "perplexity" in shown and "examples" in shown
    command = next(line for line in shown.splitlines() if "unpad predict" in line)
    text = re.search(r"--text '(.*)'", command).group(1)  # type: ignore[union-attr]
    assert text.count("[MASK]") == 1
    assert main(["evaluate", "--model", str(run), "--precision", "fp32"]) == 0
    capsys.readouterr()
    figures = json.loads((run / "evaluation.json").read_text())["metrics"]
    trained = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in trained if "eval_loss" in record][-1]
    assert figures["perplexity"] == pytest.approx(last["eval_perplexity"], rel=1e-4)
    assert main(["predict", "--model", str(run), "--text", text]) == 0
    one = json.loads(capsys.readouterr().out)
    assert list(one) == ["text", "score", "token", "token_str", "sequence"]
    assert main(["predict", "--model", str(run), "--text", "the [MASK] is [MASK]", "--top_k", "2"]) == 0
    several = json.loads(capsys.readouterr().out)["answers"]
    assert [len(mask) for mask in several] == [2, 2]
    assert main(["predict", "--model", str(run), "--text", "the [MASK] is [MASK]"]) == 0
    best = json.loads(capsys.readouterr().out)["answers"]
    assert [mask[0]["score"] for mask in best] == [mask[0]["score"] for mask in several]


def test_examples_hide_the_longest_word_and_count_the_first_guess(tokenizer: Tokenizer) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.tokenizer = tokenizer

        def __call__(self, texts: list[str]) -> Any:
            return [[{"token_str": "delivery"}, {"token_str": "lamp"}] for _ in texts]

    rows = [
        {"text": "where is the Delivery of mine?"},
        {"text": "it is a lampshade!"},
        {"text": ""},
        {"text": "x" * 500},
    ]
    found = FILL.examples(Pipe(), rows, Columns("text"), None)
    assert found[0].texts == ["where is the [MASK] of mine?"]
    assert (found[0].answer, found[0].truth, found[0].right) == ("delivery, lamp", "Delivery", True)
    assert not found[1].right
    assert all(text.count("[MASK]") == 1 and len(text) < 90 for example in found for text in example.texts)
