"""The command line for tasks whose models write: from scratch, from a run, judged, asked, and every mistake one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import unpad
from unpad.cli import __main__ as entry
from unpad.cli._run import read_config
from unpad.cli.train import command
from unpad.tasks import TASKS
from unpad.tasks import task as find_task

MARIAN = (
    "d_model=16,encoder_layers=1,decoder_layers=1,encoder_attention_heads=2,decoder_attention_heads=2,encoder_ffn_dim=24,decoder_ffn_dim=24,"
    "max_position_embeddings=32"
)
SCRATCH = ["train", "translation", "--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90"]
GPT2 = "n_embd=16,n_layer=1,n_head=2,n_positions=32"
QUICK = ["--max_steps", "2", "--draw_curves", "false", "--precision", "fp32"]
WORDS = ("red", "green", "blue", "small", "large", "house", "tree", "car", "bird", "and")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows with a dictionary by language; the other language is the same backwards."""
    folder = tmp_path_factory.mktemp("pairs")
    for split, count in (("train", 40), ("validation", 6)):
        texts = [" ".join(WORDS[(i * k + k) % len(WORDS)] for k in range(1, 4 + i % 3)) for i in range(count)]
        rows = [{"translation": {"en": text, "xx": text[::-1]}} for text in texts]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


@pytest.fixture(scope="module")
def translator(pairs: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a translation that began from scratch."""
    out = tmp_path_factory.mktemp("run") / "run"
    argv = [*SCRATCH, "--data", pairs]
    argv += ["--num_beams", "2", "--max_new_tokens", "6", "--label_smoothing_factor", "0.1", "--output_dir", str(out)]
    assert entry.main([*argv, *QUICK]) == 0
    return out


@pytest.fixture(scope="module")
def novelist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a language model that began from scratch."""
    out = tmp_path_factory.mktemp("run") / "run"
    argv = [
        "train",
        "text-generation",
        "--new_model",
        "gpt2",
        "--new_config",
        GPT2,
        "--vocab_size",
        "300",
        "--data",
        "helpdesk/tickets",
    ]
    argv += [
        "--train_split",
        "train[:30]",
        "--eval_split",
        "validation[:6]",
        "--block_size",
        "16",
        "--output_dir",
        str(out),
    ]
    assert entry.main([*argv, *QUICK]) == 0
    return out


def failing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error with which a command ends."""
    assert entry.main(argv) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unpad: error")]
    assert len(lines) == 1
    return lines[0]


def test_every_setting_of_every_task_is_a_flag() -> None:
    flags = command().options
    assert {name for task in TASKS for name in find_task(task).settings} <= set(flags)


def test_a_translation_from_scratch_is_trained_judged_and_kept(translator: Path) -> None:
    records = [json.loads(line) for line in (translator / "metrics.jsonl").read_text().splitlines()]
    assert {"eval_bleu", "eval_chrf", "eval_gen_len", "eval_loss"} <= set(records[-2]) | set(records[-1])
    stored = json.loads((translator / "generation_config.json").read_text())
    assert stored["num_beams"] == 2 and stored["max_new_tokens"] == 6
    kept = read_config(translator)
    assert (kept["source_lang"], kept["target_lang"]) == ("en", "xx"), "the languages that were found are named"
    model = unpad.AutoModelForSeq2SeqLM.from_pretrained(translator)
    assert model.config.vocab_size == len(unpad.AutoTokenizer.from_pretrained(translator)) <= 90


def test_evaluate_gives_the_figures_of_the_run(translator: Path, tmp_path: Path) -> None:
    assert (
        entry.main(["evaluate", "--model", str(translator), "--precision", "fp32", "--output_dir", str(tmp_path)]) == 0
    )
    found = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    records = [json.loads(line) for line in (translator / "metrics.jsonl").read_text().splitlines()]
    record = next(r for r in records if "eval_bleu" in r)
    for name in ("bleu", "chrf", "gen_len"):
        assert found[name] == pytest.approx(record[f"eval_{name}"], abs=1e-6)
    asked = ["--num_beams", "1", "--max_new_tokens", "2", "--output_dir", str(tmp_path)]
    assert entry.main(["evaluate", "--model", str(translator), *asked]) == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["metrics"]["gen_len"] <= 2


def test_predict_prints_texts_and_writes_json(
    translator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["predict", "--model", str(translator), "--text", "red house"]
    assert entry.main(ask) == 0
    shown = capsys.readouterr().out
    assert entry.main([*ask, "--output", str(tmp_path / "out.jsonl")]) == 0
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["text"] == "red house" and row["translation_text"] + "\n" == shown


def test_predict_reads_the_data_of_the_run(translator: Path, pairs: str, tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    argv = ["predict", "--model", str(translator), "--data", pairs, "--split", "validation", "--output", str(file)]
    assert entry.main(argv) == 0
    assert all("translation_text" in json.loads(line) for line in file.read_text().splitlines())
    assert len(file.read_text().splitlines()) == 6


def test_evaluate_takes_the_advice_that_it_gives(
    translator: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gaps.jsonl"
    file.write_text("".join(json.dumps({"source": "red car", "target": t}) + "\n" for t in ("rac der", "")))
    argv = ["evaluate", "--model", str(translator), "--data", str(file), "--output_dir", str(tmp_path)]
    assert "leave such rows out with --empty_targets drop" in failing(argv, capsys)
    assert entry.main([*argv, "--empty_targets", "drop"]) == 0


def test_a_vocabulary_larger_than_asked_for_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": " ".join(WORDS)}) + "\n" for _ in range(9)))
    argv = ["train", "text-generation", "--data", str(file), "--new_model", "gpt2", "--new_config", GPT2]
    assert entry.main([*argv, "--vocab_size", "5", "--output_dir", str(tmp_path / "run"), *QUICK]) == 0
    assert "tokens, not vocab_size=5" in capsys.readouterr().err


def test_a_seed_makes_a_sample_the_same(novelist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(seed: int) -> str:
        argv = ["predict", "--model", str(novelist), "--text", "My order", "--do_sample", "--seed", str(seed)]
        assert (
            entry.main([*argv, "--max_new_tokens", "8", "--top_k", "40", "--top_p", "0.9", "--temperature", "1.3"]) == 0
        )
        return capsys.readouterr().out

    assert said(0) == said(0) != said(1)


def test_a_resumed_run_from_scratch_keeps_its_tokenizer(pairs: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    argv = [*SCRATCH, "--data", pairs]
    argv += ["--save_strategy", "steps", "--save_steps", "1", "--output_dir", str(out), *QUICK]
    assert entry.main(argv) == 0
    whole, tokens = (out / "model.safetensors").read_bytes(), (out / "new" / "tokenizer.json").read_bytes()
    for file in (out / "checkpoint-2").iterdir():
        file.unlink()
    (out / "checkpoint-2").rmdir()
    assert entry.main(["train", "translation", "--resume", "--output_dir", str(out)]) == 0
    assert (out / "model.safetensors").read_bytes() == whole
    assert (out / "new" / "tokenizer.json").read_bytes() == tokens


def test_the_run_goes_on_with_the_command_it_shows(translator: Path, tmp_path: Path) -> None:
    """Training on begins with the weights of the run, not from scratch once more."""
    argv = ["train", "translation", "--config", str(translator / "config.yaml"), "--model", str(translator)]
    argv += [
        "--new_model",
        "null",
        "--new_config",
        "null",
        "--vocab_size",
        "null",
        "--output_dir",
        str(tmp_path / "more"),
        *QUICK,
    ]
    assert entry.main(argv) == 0
    assert not (tmp_path / "more" / "new").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--new_model", "marrian"], "model_type 'marrian' is not supported; did you mean 'marian'?"),
        (["--new_model", "marian", "--new_config", "d_modl=16"], "MarianConfig has no 'd_modl'"),
        (["--new_model", "marian", "--new_config", "16"], "new_config: '16' is not KEY=VALUE"),
        (["--vocab_size", "90"], "name its family with --new_model"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90", "--block_size", "8"], "block_size is no option of translation"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90", "--num_beams", "0"], "num_beams=0 must be"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90", "--target_lang", "yy"], "'yy' is no language of the data"),
        (["--new_model", "gpt2", "--new_config", GPT2, "--vocab_size", "300"], "gpt2 models have no such head as translation needs"),
        (["--new_model", "marian", "--model", "elsewhere"], "model='elsewhere' and new_model='marian' exclude each other"),
        ([], "translation has no model to start from; name one with --model"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "0"], "vocab_size=0"),
        (["--new_model", "marian", "--new_config", MARIAN + ",vocab_size=7", "--vocab_size", "90"], "vocab_size=7 is less than the"),
        (["--new_model", "marian", "--new_config", MARIAN + ",decoder_start_token_id=999", "--vocab_size", "90"], "decoder_start_token_id=999 is no token"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90", "--max_target_length", "0"], "max_target_length=0 must be a whole number"),
        (["--new_model", "marian", "--new_config", MARIAN, "--vocab_size", "90", "--max_source_length", "-1"], "max_source_length=-1 must be a whole number"),
    ],
)  # fmt: skip
def test_a_mistake_in_training_is_one_line(
    more: list[str], said: str, pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", "translation", "--data", pairs, "--output_dir", str(tmp_path / "run"), *QUICK, *more]
    assert said in failing(argv, capsys)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max_new_tokens", "0"], "max_new_tokens=0 must be"),
        (["--temperature", "0", "--do_sample"], "temperature=0"),
        (["--text_pair", "more"], "reads one text, no pairs"),
    ],
)
def test_a_mistake_in_asking_is_one_line(
    more: list[str], said: str, novelist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in failing(["predict", "--model", str(novelist), "--text", "Hello", *more], capsys)


def test_options_of_writers_are_refused_for_others(
    minilm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unpad.AutoModelForSequenceClassification.from_pretrained(minilm, num_hidden_layers=1).save_pretrained(tmp_path)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    argv: list[Any] = [
        "predict",
        "--model",
        str(tmp_path),
        "--task",
        "text-classification",
        "--text",
        "Hello",
        "--seed",
        "0",
    ]
    assert "seed is no option of text-classification" in failing(argv, capsys)
