"""Everything that can be wrong with masked language modelling is one clear line: what, where, what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from small_mlm import small_mlm

import unpad
from unpad.cli.__main__ import main
from unpad.data.collators import DataCollatorForWholeWordMask
from unpad.tasks import Columns, task
from unpad.text.tokenizer import Tokenizer

FILL = task("fill-mask")


@pytest.fixture(scope="module")
def folder(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_mlm(minilm, tmp_path_factory.mktemp("model"))


@pytest.fixture()
def tokenizer(folder: str) -> Tokenizer:
    return unpad.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pipe(folder: str) -> Any:
    return unpad.pipeline("fill-mask", model=folder, precision="fp32")


def line(run: Any) -> str:
    """The one line of the error."""
    with pytest.raises(unpad.UnpadError) as error:
        run()
    assert "\n" not in str(error.value)
    return str(error.value)


def prepare(tokenizer: Tokenizer, texts: list[Any], **settings: Any) -> Any:
    raw = DatasetDict({"train": Dataset.from_dict({"text": texts})})
    return FILL.prepare(raw, tokenizer, Columns("text"), **settings)


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        ("no blank here", ["input 0 has no [MASK]", "'no blank here'"]), (["a [MASK]", "a <mask>"], ["input 1 has no [MASK]", "<mask>"]),
        (["a [MASK]", ""], ["input 1 has no [MASK]"]), (["a [MASK]", None], ["input 1 is None", "[MASK]"]),
        ("word " * 80 + "[MASK]", ["input 0", "[MASK] only beyond its first 64 tokens"]), ({"text": "a [MASK]"}, ["input 0", "dict"]),
    ],
)  # fmt: skip
def test_an_input_without_a_mask_is_named(pipe: Any, inputs: Any, parts: list[str]) -> None:
    said = line(lambda: pipe(inputs))
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"top_k": 0}, "top_k=0"), ({"top_k": "5"}, "top_k='5'"), ({"top_k": True}, "top_k=True"), ({"targets": []}, "targets=[]"),
        ({"targets": ["a", 3]}, "targets=['a', 3]"), ({"targets": ""}, "targets=''"), ({"targets": [" "]}, "' ' gives no token"),
        ({"target": "a"}, "did you mean 'targets'"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_is_read(pipe: Any, options: dict[str, Any], part: str) -> None:
    assert part in line(lambda: pipe(iter([]), **options))


def test_an_unknown_target_is_said_in_one_line(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    found = pipe("my [MASK]", targets="Quillpadish")
    said = [r.getMessage() for r in caplog.records if "Quillpadish" in r.getMessage()]
    assert len(said) == 1 and repr(pipe.tokenizer.convert_ids_to_tokens(found[0]["token"])) in said[0]


@pytest.mark.parametrize("size", [7, 0, -1, 65, 4.5, True])
def test_a_chunk_size_that_the_model_cannot_take_is_refused(tokenizer: Tokenizer, size: Any) -> None:
    said = line(lambda: prepare(tokenizer, ["a text"], chunk_size=size))
    assert f"chunk_size={size!r} is outside 8..64" in said
    assert "8..32" in line(lambda: prepare(tokenizer, ["a text"], chunk_size=40, max_length=32))


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_outside_0_and_1_is_refused_before_the_work(tokenizer: Tokenizer, share: float) -> None:
    assert "mlm_probability" in line(lambda: prepare(tokenizer, [None], mlm_probability=share))


@pytest.mark.parametrize("whole_word_mask", [False, True])
def test_a_tokenizer_without_a_mask_token_is_refused(folder: str, tokenizer: Tokenizer, whole_word_mask: bool) -> None:
    tokenizer.mask_token = None
    assert "no mask token" in line(lambda: prepare(tokenizer, ["a text"], whole_word_mask=whole_word_mask))
    assert "no mask token" in line(lambda: unpad.pipeline("fill-mask", model=folder, tokenizer=tokenizer))


def test_a_corpus_without_words_is_refused(tokenizer: Tokenizer) -> None:
    assert "'train' hold no words" in line(lambda: prepare(tokenizer, ["", " ", ""]))
    assert "no rows" in line(lambda: prepare(tokenizer, []))
    assert "row 1 of 'train' has no text" in line(lambda: prepare(tokenizer, ["a", None]))
    raw = Dataset.from_dict({"text": [1, 2]})
    assert "no column looks like the text" in line(lambda: FILL.columns(raw))
    assert "label='text'" in line(lambda: FILL.columns(Dataset.from_dict({"text": ["a"]}), label="text"))


def test_whole_words_need_word_numbers(folder: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[2, 9, 10, 3]] * 4})
    args = unpad.TrainingArguments(str(tmp_path), draw_curves=False, disable_tqdm=True, precision="fp32")
    model = unpad.AutoModelForMaskedLM.from_pretrained(folder)
    trainer = unpad.Trainer(model, args, DataCollatorForWholeWordMask(tokenizer), data, data, tokenizer)
    assert "word_ids" in line(trainer.train)
    assert "word_ids" in line(trainer.evaluate)


def test_a_chunk_longer_than_the_model_is_named_by_its_row(folder: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[2, 9, 3], [9] * 65]})
    args = unpad.TrainingArguments(str(tmp_path), draw_curves=False, disable_tqdm=True, precision="fp32")
    model = unpad.AutoModelForMaskedLM.from_pretrained(folder)
    assert "row 1" in line(unpad.Trainer(model, args, FILL.collator(tokenizer), data).train)


def test_a_batch_in_which_nothing_is_hidden_has_no_loss_and_no_harm(folder: str, tokenizer: Tokenizer) -> None:
    from unpad.data.tokens import TokenStore

    store = TokenStore.from_dataset(Dataset.from_dict({"input_ids": [[2, 3], [2, 3]]}), labels_of="token")
    model = unpad.AutoModelForMaskedLM.from_pretrained(folder).train()
    output = model(FILL.collator(tokenizer).mask(store.pack([0, 1]), seed=0, epoch=0))
    assert output.loss.item() == 0
    output.loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--chunk_size", "1000"], "chunk_size=1000 is outside 8..64"), (["--mlm_probability", "2"], "mlm_probability"),
        (["--stride", "3"], "stride is no option of fill-mask"), (["--label_column", "text"], "learns from texts alone"),
    ],
)  # fmt: skip
def test_the_command_line_says_it_in_one_line_and_leaves_nothing_behind(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], part: str
) -> None:
    corpus, run = tmp_path / "corpus.txt", tmp_path / "run"
    corpus.write_text("my order is late\n" * 30, encoding="utf-8")
    assert main(["train", "fill-mask", "--model", folder, "--data", str(corpus), "--output_dir", str(run), *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert part in said
    assert not run.exists()


def test_no_share_to_guess_is_refused(minilm: str, tmp_path: Path, capsys: Any) -> None:
    words = ["--model", minilm, "--mlm_probability", "0", "--output_dir", str(tmp_path / "r")]
    assert main(["train", "fill-mask", "--data", "helpdesk/tickets", *words]) == 2
    assert "mlm_probability=0 leaves nothing to guess" in capsys.readouterr().err
