"""Bad input gets one clear line and exit code 2, never a traceback; what is allowed is kept, and said.

The tables run the real command line in this process, and the Python API. Each case names the words that its line must hold:
the value, the place, what to do next. A tiny random BERT with a real tokenizer stands in for a model.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import unpad
from unpad import Trainer, TrainingArguments, UnpadError, notices
from unpad.checkpoint.files import newest_valid, verify
from unpad.cli.__main__ import main
from unpad.cli._data import load_splits
from unpad.train.run_folder import RunFolder

WEIGHTS = "model.safetensors"
LONGEST = 64
"""Positions of the tiny model."""
TRAIN = ("train", "text-classification", "--max_steps", "2", "--disable_tqdm", "--draw_curves", "false")

Rows = list[dict[str, Any]]


def rows(count: int = 16, **columns: Callable[[int], Any]) -> Rows:
    """Texts with string labels; `columns` replace or add some, each a function of the row's number."""
    plain: dict[str, Callable[[int], Any]] = {
        "text": lambda i: f"{'bad' if i % 3 else 'fine'} thing {i}",
        "label": lambda i: "minus" if i % 3 else "plus",
    }
    return [{name: value(i) for name, value in {**plain, **columns}.items()} for i in range(count)]


@dataclass
class World:
    """What a case may use: a folder of its own (the current one), an untrained model and a finished run."""

    tiny: str
    """Folder of the model; not to be changed."""
    finished: str
    """Folder of a run of two steps; not to be changed."""

    def data(self, content: Rows | str | bytes, name: str = "data.jsonl") -> str:
        """A file with these rows as JSON lines, or with this very text."""
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    def model(self, name: str = "model", **config: Any) -> Path:
        """A copy of the model whose config.json has other values."""
        shutil.copytree(self.tiny, name)
        file = Path(name) / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return Path(name)

    def run(self) -> str:
        """A copy of the finished run."""
        shutil.copytree(self.finished, "run", dirs_exist_ok=True)
        return "run"

    def train(self, *words: str, data: Any = None, model: Any = None, out: str = "out") -> list[str]:
        data = self.data(rows()) if data is None else data
        return [*TRAIN, "--data", str(data), "--model", str(model or self.tiny), "--output_dir", out, *words]

    def evaluate(self, *words: str, model: Any = None) -> list[str]:
        return ["evaluate", "--model", str(model or self.run()), *words]

    def predict(self, *words: str, model: Any = None) -> list[str]:
        return ["predict", "--model", str(model or self.run()), *words]


@pytest.fixture(scope="module")
def places(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Folders of the model and of the finished run, and one thread for all of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("places")
    torch.manual_seed(0)
    config = unpad.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=LONGEST,
    )  # fmt: skip
    tiny, finished = folder / "tiny", folder / "finished"
    unpad.BertModel(config).save_pretrained(tiny)
    unpad.AutoTokenizer.from_pretrained(minilm).save_pretrained(tiny)
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    assert main([*TRAIN, "--data", str(data), "--model", str(tiny), "--output_dir", str(finished)]) == 0
    yield str(tiny), str(finished)
    torch.set_num_threads(threads)


@pytest.fixture
def world(
    places: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> World:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notices, "_said", set())
    monkeypatch.setattr(notices.logger, "level", 20)
    capsys.readouterr()
    return World(*places)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error that was shown: one line, the last one, with nothing but notices before it."""
    shown = capsys.readouterr().err
    lines = shown.splitlines()
    assert lines and all(line.startswith("unpad: ") for line in lines), shown
    errors = [line for line in lines if line.startswith("unpad: error: ")]
    assert errors == lines[-1:], shown
    return errors[0]


def assert_says(line: str, said: tuple[str, ...]) -> None:
    missing = [words for words in said if words not in line]
    assert not missing, f"{missing} missing in: {line}"


# ---- the command line


def with_weights(world: World, change: Callable[[bytes], bytes | None]) -> Path:
    folder = world.model()
    content = change((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    if content is not None:
        (folder / WEIGHTS).write_bytes(content)
    return folder


def with_tensors(world: World, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    folder = world.model()
    save_file(change(load_file(str(folder / WEIGHTS))), str(folder / WEIGHTS))
    return folder


def without_word_embeddings(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in tensors.items() if "word_embeddings" not in name}


def of_nan(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(t, torch.nan) if "word_emb" in name else t for name, t in tensors.items()}


def without_tokenizer(world: World) -> Path:
    folder = world.model()
    for file in folder.iterdir():
        if file.name not in ("config.json", WEIGHTS):
            file.unlink()
    return folder


def two_splits(world: World, validation: Rows) -> str:
    world.data(rows(), "data/train.jsonl")
    world.data(validation, "data/validation.jsonl")
    return "data"


def changed_config(world: World, text: str) -> str:
    (Path(world.run()) / "config.yaml").write_text(text)
    return "run"


Words = Callable[[World], list[str]]
CASES: dict[str, tuple[Words, tuple[str, ...]]] = {
    # -- files and columns
    "a missing file": (lambda w: w.train(data="gone.jsonl"), ("gone.jsonl", "does not exist", "path")),
    "a missing file with a near name": (lambda w: w.train(data=w.data(rows())[:-1]), ("did you mean 'data.jsonl'",)),
    "a missing file to judge on": (lambda w: w.train("--eval_data", "gone.csv"), ("gone.csv", "does not exist")),
    "a wrong text column": (lambda w: w.train("--text_column", "txt"), ("data.jsonl", "'txt'", "--text_column", "did you mean 'text'", "text, label")),
    "a wrong column of pairs": (lambda w: w.train("--text_pair_column", "b"), ("data.jsonl", "'b'", "--text_pair_column", "text, label")),
    "a wrong label column": (lambda w: w.train("--label_column", "labl"), ("data.jsonl", "'labl'", "did you mean 'label'")),
    "one column for two things": (lambda w: w.train("--text_column", "text", "--label_column", "text"), ("'text'", "two things")),
    "no column of texts": (lambda w: w.train(data=w.data([{"label": "a"}, {"label": "b"}])), ("no column", "--text_column", "label")),
    "no column of labels": (lambda w: w.train(data=w.data("a\nb\n", "t.txt")), ("t.txt", "no column looks like the label", "--label_column")),
    "a table without a header": (lambda w: w.train(data=w.data("a text,x\nb text,y\n", "t.csv")), ("t.csv", "columns are")),
    "a table with semicolons": (lambda w: w.train(data=w.data("text;label\na;x\nb;y\n", "t.csv")), ("t.csv", "text;label")),
    "an empty file": (lambda w: w.train(data=w.data("")), ("data.jsonl", "empty", "at least one row")),
    "a header alone": (lambda w: w.train(data=w.data("text,label\n", "t.csv")), ("t.csv", "no rows", "at least one")),
    "an empty part": (lambda w: w.train("--train_split", "train[:0]"), ("train[:0]", "data.jsonl", "no rows")),
    "ragged rows": (lambda w: w.train(data=w.data("text\tlabel\na\tx\nb\ty\tz\n", "t.tsv")), ("t.tsv", "row 3", "3 columns instead of 2", "fix the row")),
    "broken JSON": (lambda w: w.train(data=w.data('{"text": "a"}\n{"text": oops}\n')), ("data.jsonl", "line 2", "fix or remove")),
    "JSON lines of lists": (lambda w: w.train(data=w.data('["a", "b"]\n')), ("data.jsonl", "line 1", "['a', 'b']")),
    "a file that is not UTF-8": (lambda w: w.train(data=w.data("text,label\nhé,a\n".encode("latin-1"), "t.csv")), ("t.csv", "not UTF-8", "line 2", "0xe9")),
    "a damaged parquet file": (lambda w: w.train(data=w.data(b"PAR1 not", "t.parquet")), ("t.parquet", "damaged")),
    "an ending that is not known": (lambda w: w.train(data=w.data("a", "t.docx")), ("t.docx", ".csv, .tsv")),
    "a folder without data": (lambda w: (Path("void").mkdir(), w.train(data="void"))[1], ("void", "holds no data files", ".csv")),
    "a data set of the Hub without a network": (lambda w: w.train(data="someone/data"), ("'someone/data'", "HF_HUB_OFFLINE", "local path")),
    "a split that is misspelled": (lambda w: w.train("--train_split", "trian"), ("'trian'", "data.jsonl", "did you mean 'train'")),
    "a split to judge on that is misspelled": (lambda w: w.train("--eval_split", "tset"), ("'tset'", "data.jsonl", "train")),
    "a part that cannot be read": (lambda w: w.train("--train_split", "train[:x]"), ("train[:x]", "train[:100]")),
    # -- texts and labels
    "a missing text": (lambda w: w.train(data=w.data([*rows(), {"text": None, "label": "plus"}])), ("data.jsonl", "row 16 of 'train'", "no text", "fill it")),
    "numbers for texts": (lambda w: w.train("--text_column", "text", data=w.data(rows(text=lambda i: i))), ("data.jsonl", "'text'", "int64", "--text_column")),
    "a label outside the label set": (
        lambda w: w.train(data=two_splits(w, [*rows(), {"text": "x", "label": "plsu"}])),
        ("data", "'plsu'", "row 16 of 'validation'", "did you mean 'plus'", "minus, plus", "Fix the row"),
    ),
    "a missing label": (lambda w: w.train(data=w.data(rows(label=lambda i: None if i == 13 else i % 2))), ("data.jsonl", "row 13 of 'train'", "no label", "fill it in")),
    "a negative label": (lambda w: w.train(data=w.data(rows(label=lambda i: -1 if i == 13 else i % 2))), ("label -1 in row 13 of 'train'", "filter")),
    "labels that are all -1": (lambda w: w.train(data=w.data(rows(label=lambda i: -1))), ("data.jsonl", "'label'", "-1", "nothing to learn")),
    "labels that are all the same": (lambda w: w.train(data=w.data(rows(label=lambda i: "a"))), ("data.jsonl", "'a'", "two different")),
    "a label that is not finite": (lambda w: w.train(data=w.data(rows(label=lambda i: float("nan") if i == 3 else i / 2))), ("row 3 of 'train'", "nan", "mend or remove")),
    # -- models
    "a model that is not there": (lambda w: w.train(model="./gone"), ("./gone", "check the path")),
    "a model of the Hub without a network": (lambda w: w.train(model="someone/model"), ("'someone/model'", "offline", "give a folder")),
    "a name that is no name": (lambda w: w.train(model="bert base"), ("'bert base'", "spelling")),
    "a name that is too long": (lambda w: w.train(model="a" * 5000), ("no path", "check the path")),
    "a data file as the model": (lambda w: w.train(model=w.data(rows())), ("data.jsonl", "is a file", "give the folder")),
    "a model folder as the data": (lambda w: w.train(data=w.tiny), ("config.json", "list of objects")),
    "an empty folder as the model": (lambda w: (Path("void").mkdir(), w.train(model="void"))[1], ("void", "config.json", "missing")),
    "a model without a tokenizer": (lambda w: w.train(model=without_tokenizer(w)), ("'model'", "no tokenizer files", "tokenizer.json, vocab.txt")),
    "weights that are cut": (lambda w: w.train(model=with_weights(w, lambda b: b[: len(b) // 2])), (f"model/{WEIGHTS}", "damaged", "copy it again")),
    "weights that lack the last byte": (lambda w: w.train(model=with_weights(w, lambda b: b[:-1])), (f"model/{WEIGHTS}", "damaged")),
    "weights without a byte": (lambda w: w.train(model=with_weights(w, lambda b: b"")), (f"model/{WEIGHTS}", "damaged")),
    "weights that are something else": (lambda w: w.train(model=with_weights(w, lambda b: b"\xff" * 999)), (f"model/{WEIGHTS}", "damaged")),
    "no weights": (lambda w: w.train(model=with_weights(w, lambda b: None)), ("model has no weights", WEIGHTS)),
    "weights of other names": (
        lambda w: w.train(model=with_tensors(w, lambda found: {f"h.{name}.x": t for name, t in found.items()})),
        ("model", "not of a bert model", "h.embeddings", "belong together"),
    ),
    "weights with a hole": (lambda w: w.train(model=with_tensors(w, without_word_embeddings)), ("model", "lacks", "tokens.weight", "copy it again")),
    "weights of another size": (lambda w: w.train(model=w.model(hidden_size=64)), ("[30522, 32] in the file", "[30522, 64]", "config.json")),
    "a vocabulary of another size": (lambda w: w.train(model=w.model(vocab_size=100)), ("[30522, 32] in the file", "[100, 32]")),
    "a model with too many layers": (lambda w: w.train(model=w.model(num_hidden_layers=3)), ("model", "lacks", "blocks.2")),
    "another architecture": (lambda w: w.train(model=w.model(model_type="xlnet")), ("model/config.json", "'xlnet'", "supported: bert")),
    "a configuration without an architecture": (lambda w: w.train(model=w.model(model_type="")), ("model/config.json", "model_type")),
    "a configuration that changes the mathematics": (lambda w: w.train(model=w.model(position_embedding_type="relative_key")), ("model/config.json", "'relative_key'", "'absolute'")),
    "a width that is a word": (lambda w: w.train(model=w.model(hidden_size="big")), ("model/config.json", "hidden_size='big'", "whole number")),
    "a model without heads": (lambda w: w.train(model=w.model(num_attention_heads=0)), ("model/config.json", "num_attention_heads=0", "1 or more")),
    "an unknown activation": (lambda w: w.train(model=w.model(hidden_act="gelux")), ("model/config.json", "'gelux'", "did you mean 'gelu'")),
    "label names in a list": (lambda w: w.train(model=w.model(id2label=["a", "b"])), ("model/config.json", "id2label=['a', 'b']", "dictionary")),
    "a torn configuration": (lambda w: ((w.model() / "config.json").write_text("{"), w.train(model="model"))[1], ("model/config.json", "copy the file again")),
    # -- numbers and names of options
    "an unknown command": (lambda w: ["trian"], ("'trian'", "did you mean 'train'")),
    "an unknown task": (lambda w: ["train", "text-clasification"], ("'text-clasification'", "did you mean 'text-classification'")),
    "no task": (lambda w: ["train"], ("TASK is missing", "text-classification")),
    "an unknown argument": (lambda w: w.train("--learning_rat", "1"), ("--learning_rat;", "did you mean --learning_rate", "--help")),
    "an argument without a value": (lambda w: w.train("--learning_rate"), ("--learning_rate needs a value", "a number")),
    "a negative learning rate": (lambda w: w.train("--learning_rate", "-1"), ("learning_rate=-1", "negative")),
    "a learning rate that is no number": (lambda w: w.train("--learning_rate", "nan"), ("learning_rate='nan'", "5e-05")),
    "a batch of none": (lambda w: w.train("--per_device_train_batch_size", "0"), ("per_device_train_batch_size=0", "1 or more")),
    "a batch larger than the data": (lambda w: w.train("--dataloader_drop_last", "--per_device_train_batch_size", "99"), ("14 rows", "batch_size=99", "smaller")),
    "no epochs": (lambda w: w.train("--max_steps", "0", "--num_train_epochs", "0"), ("num_train_epochs=0", "nothing to train")),
    "a longest input of 0": (lambda w: w.train("--max_length", "0"), ("max_length=0", f"1..{LONGEST}")),
    "a longest input beyond the model": (lambda w: w.train("--max_length", "9999"), ("max_length=9999", f"1..{LONGEST}", "give less")),
    "a longest input without room": (lambda w: w.train("--max_length", "1"), ("max_length=1", "special tokens")),
    "a precision that is misspelled": (lambda w: w.train("--precision", "bf61"), ("'bf61'", "did you mean 'bf16'", "fp32")),
    "two precisions": (lambda w: w.train("--fp16", "--bf16"), ("bf16=True and fp16=True", "give one")),
    "an unknown schedule": (lambda w: w.train("--lr_scheduler_type", "linaer"), ("'linaer'", "did you mean 'linear'")),
    "a beta beyond 1": (lambda w: w.train("--adam_beta1", "1.5"), ("adam_beta1=1.5", "< 1")),
    "a negative seed": (lambda w: w.train("--seed", "-1"), ("seed=-1", "0..")),
    "a seed beyond the generators": (lambda w: w.train("--seed", "9" * 30), ("seed=999", "0..")),
    "a tracker that is not here": (lambda w: w.train("--report_to", "wandb"), ("'wandb'", "tensorboard", "metrics.jsonl")),
    "a metric that is not measured": (lambda w: w.train("--metric_for_best_model", "acuracy"), ("'acuracy'", "did you mean 'accuracy'", "loss, accuracy, f1")),
    "a best model without evaluations": (lambda w: w.train("--eval_strategy", "no", "--load_best_model_at_end"), ("load_best_model_at_end", "eval_strategy")),
    "patience without evaluations": (lambda w: w.train("--eval_strategy", "no", "--early_stopping_patience", "2"), ("EarlyStopping", "eval_strategy")),
    "an unknown key in a YAML file": (lambda w: w.train("--config", w.data("learning_rat: 1\n", "c.yaml")), ("c.yaml", "'learning_rat'", "did you mean 'learning_rate'")),
    "a wrong value in a YAML file": (lambda w: w.train("--config", w.data("learning_rate: fast\n", "c.yaml")), ("learning_rate='fast'", "a number")),
    "a YAML file that is not there": (lambda w: w.train("--config", "gone.yaml"), ("gone.yaml", "give a YAML file")),
    "a folder as the YAML file": (lambda w: w.train("--config", "."), ("not a file", "give a YAML file")),
    "weights as the YAML file": (lambda w: w.train("--config", f"{w.tiny}/{WEIGHTS}"), (WEIGHTS, "give a YAML file")),
    # -- runs
    "a loss that is not a number": (
        lambda w: w.train("--learning_rate", "1e30", "--max_grad_norm", "0", "--max_steps", "9"),
        ("loss is", "at step 2", "rows", "learning_rate (now 1e+30)", "In data.jsonl"),
    ),
    "weights that are not numbers": (lambda w: w.train(model=with_tensors(w, of_nan)), ("loss is nan at step 1", "rows", "In data.jsonl")),
    "an output folder of another run": (
        lambda w: w.train(out=w.run()),
        ("'run'", "text-classification", "step 2", "--resume", "--overwrite_output_dir", "another --output_dir"),
    ),
    "an output folder with a model": (lambda w: w.train(out=str(w.model())), ("'model'", "config.json", "another --output_dir")),
    "the model as the output folder": (lambda w: w.train(model=w.model(), out="model"), ("'model'", "the folder of the model itself")),
    "a file as the output folder": (lambda w: w.train(out=w.data("", "o")), ("'o' is a file", "another --output_dir")),
    "an output folder below a file": (lambda w: w.train(out=w.data("", "o") + "/x"), ("'o' is a file", "another --output_dir")),
    "an output folder whose name is too long": (lambda w: w.train(out="o" * 300), ("too long", "another --output_dir")),
    "a null character": (lambda w: w.train(out="a\0b"), ("null", "another --output_dir")),
    "going on with other data": (lambda w: w.train("--resume", data=w.data(rows(text=lambda i: f"new {i}")), out=w.run()), ("checkpoint-2", "other training data")),
    "going on with another recipe": (lambda w: w.train("--resume", "--learning_rate", "0.5", out=w.run()), ("checkpoint-2", "5e-05 there, 0.5 here")),
    "going on from nothing": (lambda w: w.train("--resume_from_checkpoint", "gone"), ("'gone'", "checkpoint-<step>")),
    # -- evaluate
    "evaluate: no model": (lambda w: ["evaluate"], ("--model is missing",)),
    "evaluate: a model that is not there": (lambda w: w.evaluate(model="gone"), ("'gone'", "check the path")),
    "evaluate: a model without a run and no data": (lambda w: w.evaluate(model=w.tiny), ("config.yaml", "--data")),
    "evaluate: a run whose config.yaml is torn": (lambda w: w.evaluate(model=changed_config(w, ":: {")), ("config.yaml", "--data")),
    "evaluate: a run with an odd config.yaml": (lambda w: w.evaluate("--data", w.data(rows()), model=changed_config(w, "task: text-classification\nmax_length: x\n")), ("max_length='x'",)),
    "evaluate: the data of the run are gone": (lambda w: w.evaluate(model=changed_config(w, "task: text-classification\ndata: gone.jsonl\n")), ("gone.jsonl", "does not exist")),
    "evaluate: a split that is misspelled": (lambda w: w.evaluate("--split", "vaildation"), ("'vaildation'", "train")),
    "evaluate: a label that the model does not know": (lambda w: w.evaluate("--data", w.data(rows(label=lambda i: "plsu"))), ("data.jsonl", "'plsu'", "row 0", "did you mean 'plus'", "minus, plus")),
    "evaluate: a class beyond the model's": (lambda w: w.evaluate("--data", w.data(rows(label=lambda i: i))), ("label 2 in row 2", "0..1", "minus, plus")),
    "evaluate: decimals where classes are expected": (lambda w: w.evaluate("--data", w.data(rows(label=lambda i: i / 2))), ("decimal number", "2 labels", "int64")),
    "evaluate: no labels": (lambda w: w.evaluate("--data", w.data([{"text": "a"}])), ("data.jsonl", "--label_column")),
    "evaluate: hidden labels": (lambda w: w.evaluate("--data", w.data(rows(label=lambda i: -1))), ("data.jsonl", "'label'", "-1", "--split")),
    "evaluate: a data file as the model": (lambda w: w.evaluate("--data", "x.csv", model=w.data(rows())), ("data.jsonl", "is a file")),
    "evaluate: a model that tells no task": (lambda w: w.evaluate("--data", w.data(rows()), model=w.tiny), ("BertModel", "--task")),
    "evaluate: a longest input of 0": (lambda w: w.evaluate("--max_length", "0"), ("max_length=0", f"1..{LONGEST}")),
    "evaluate: a file as the output folder": (lambda w: w.evaluate("--output_dir", w.data("", "o")), ("'o' is a file", "another --output_dir")),
    # -- predict
    "predict: nothing to answer": (lambda w: w.predict(), ("--text", "--data")),
    "predict: two things to answer": (lambda w: w.predict("--text", "a", "--data", "b"), ("--text", "--data")),
    "predict: a model that is not there": (lambda w: w.predict("--text", "a", model="./gone"), ("./gone", "check the path")),
    "predict: a model that tells no task": (lambda w: w.predict("--text", "a", model=w.tiny), ("BertModel", "text-classification")),
    "predict: a wrong column": (lambda w: w.predict("--data", w.data(rows()), "--text_column", "txt"), ("data.jsonl", "'txt'", "text, label")),
    "predict: lists for texts": (lambda w: w.predict("--data", w.data([{"text": ["a", "b"]}]), "--text_column", "text"), ("['a', 'b']", "--text_column")),
    "predict: a longest input of 0": (lambda w: w.predict("--text", "a", "--max_length", "0"), ("max_length=0", f"1..{LONGEST}")),
    "predict: too many at once": (lambda w: w.predict("--text", "a", "--top_k", "-1"), ("top_k=-1", "1 or more")),
    "predict: a folder as the output": (lambda w: w.predict("--text", "a", "--output", "."), ("folder", "file")),
    "predict: an output below a file": (lambda w: w.predict("--text", "a", "--output", w.data("", "o") + "/x"), ("cannot write o/x",)),
    "predict: half a character": (lambda w: w.predict("--text", "\ud800"), ("surrogate", "UTF-8")),
    # -- curves, doctor
    "curves: no run": (lambda w: ["curves"], ("RUN is missing",)),
    "curves: a run that is not there": (lambda w: ["curves", "gone"], ("'gone'", "metrics.jsonl")),
    "curves: a folder without a history": (lambda w: ["curves", w.tiny], ("metrics.jsonl", "run")),
    "curves: a history of something else": (lambda w: ["curves", w.data("[1]\n{}\n", "metrics.jsonl")], ("line 1", "'[1]'")),
    "curves: a history without a record": (lambda w: ["curves", w.data("", "metrics.jsonl")], ("metrics.jsonl", "no records")),
    "curves: a metric that was not measured": (lambda w: ["curves", w.run(), "--metric", "bleu"], ("'bleu'", "accuracy")),
    "curves: a file as the output folder": (lambda w: ["curves", w.run(), "--output_dir", w.data("", "o")], ("'o' is a file",)),
    "doctor: an unknown argument": (lambda w: ["doctor", "--jsn"], ("--jsn", "did you mean --json")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_on_the_command_line_is_one_line_and_code_2(
    world: World, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    words, said = CASES[name]
    given = words(world)
    assert main(given) == 2
    assert_says(one_line(capsys), said)


@pytest.mark.parametrize("content", [b"good\n\xff\xfe\n", b"\x80"])
def test_standard_input_that_is_not_text_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
    assert main(world.predict("--text", "-")) == 2
    assert_says(one_line(capsys), ("standard input", "utf-8"))


def test_a_refused_start_leaves_no_folder_behind(world: World) -> None:
    for words in (world.train(data="gone.csv"), world.train("--text_column", "x"), world.train(model="./gone")):
        assert main(words) == 2
    assert not Path("out").exists()


# ---- what is allowed, and said


def test_empty_texts_are_kept(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    data = world.data(rows(text=lambda i: "" if i % 4 == 0 else f"thing {i}"))
    assert main(world.train(data=data)) == 0
    assert main(world.evaluate("--data", data, "--split", "train", model="out")) == 0
    assert json.loads(Path("out/evaluation.json").read_text())["rows"] == 16
    capsys.readouterr()
    assert main(world.predict("--data", data, model="out")) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 16 and answers[4]["text"] == "" and answers[4]["label"] in ("minus", "plus")


def test_labels_that_are_strings_are_mapped_and_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(world.train()) == 0
    assert "labels of 'label' are strings: mapped to 2 ids in sorted order: minus, plus" in capsys.readouterr().err
    assert json.loads(Path("out/config.json").read_text())["label2id"] == {"minus": 0, "plus": 1}


def test_a_label_that_only_a_held_out_row_has_is_no_mistake(world: World) -> None:
    """Without a validation split some rows are held out by lot; a rare label must not make that an error."""
    for seed in range(3):
        data = world.data(rows(label=lambda i, rare=seed * 5: "rare" if i == rare else "ab"[i % 2]))
        assert main(world.train("--seed", str(seed), "--max_steps", "1", data=data, out=f"out-{seed}")) == 0
        assert set(json.loads(Path(f"out-{seed}/config.json").read_text())["label2id"]) == {"a", "b", "rare"}


def test_a_text_longer_than_the_model_is_cut_and_counted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The tokenizer alone would allow 512 tokens; the model holds fewer."""
    data = world.data(rows(text=lambda i: "word " * (200 if i == 5 else 3)))
    assert main(world.train(data=data)) == 0
    said = capsys.readouterr().err
    assert "1 of 16 texts were truncated" in said and f"the limit is {LONGEST} tokens" in said
    assert main(world.evaluate("--data", data, "--split", "train", model="out")) == 0
    assert "1 of 16 texts were truncated" in capsys.readouterr().err
    assert main(world.predict("--text", "word " * 200, model="out")) == 0
    assert f"longer than {LONGEST} tokens" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_names_the_rows_as_the_file_counts_them(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few rows are held out, so the rows that are trained on have other numbers than those in the file."""
    assert main(world.train(model=with_tensors(world, of_nan))) == 2
    line = one_line(capsys)
    trained = [int(row) for row in line.split("(rows ")[1].split(" of ")[0].split(", ")]
    named = [int(row) for row in line.split("these are rows ")[1].split(", ")]
    splits = load_splits("data.jsonl", None, "train", None, None, 42)
    everything = rows()
    assert len(named) == 8 and named != trained
    assert [everything[row] for row in named] == [splits.train[row] for row in trained]


# ---- a full disk


def checkpoint_steps(world: World, out: str) -> list[str]:
    return world.train(
        "--save_strategy", "steps", "--save_steps", "1", "--max_steps", "3", "--eval_strategy", "no", out=out
    )


def assert_earlier_checkpoint_stays(world: World, capsys: pytest.CaptureFixture[str], out: str) -> None:
    assert_says(one_line(capsys), (f"{out}/checkpoint-2", "free some space"))
    assert newest_valid(Path(out)) == Path(out) / "checkpoint-1" and not verify(Path(out) / "checkpoint-1")


def test_a_disk_that_refuses_more_while_saving_keeps_the_earlier_checkpoint(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = RunFolder.save

    def tight(self: RunFolder, step: int, *rest: Any) -> Path:
        if step == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        return save(self, step, *rest)

    monkeypatch.setattr(RunFolder, "save", tight)
    try:
        assert main(checkpoint_steps(world, "out")) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_earlier_checkpoint_stays(world, capsys, "out")
    monkeypatch.setattr(RunFolder, "save", save)
    assert main([*checkpoint_steps(world, "out"), "--resume"]) == 0
    assert newest_valid(Path("out")) == Path("out/checkpoint-3")


def test_a_real_full_disk_keeps_the_earlier_checkpoint_and_the_run_goes_on_once_there_is_space(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Path("disk").absolute()
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        assert main(checkpoint_steps(world, f"{disk}/out")) == 2
        assert_earlier_checkpoint_stays(world, capsys, f"{disk}/out")
        subprocess.run(["mount", "-o", "remount,size=90m", str(disk)], check=True)
        assert main([*checkpoint_steps(world, f"{disk}/out"), "--resume"]) == 0
        assert newest_valid(disk / "out") == disk / "out" / "checkpoint-3"
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# ---- the Python API


@dataclass
class Things:
    """What the calls below are made with."""

    world: World
    tokenizer: Any
    data: Any
    """Tokenized, labels 0 and 1."""

    def model(self, **options: Any) -> Any:
        return unpad.AutoModelForSequenceClassification.from_pretrained(self.world.tiny, **options)

    def args(self, **options: Any) -> TrainingArguments:
        plain = {"disable_tqdm": True, "draw_curves": False, "max_steps": 1, "save_strategy": "no"}
        return TrainingArguments("out", **{**plain, **options})

    def trainer(self, **options: Any) -> Trainer:
        return Trainer(**{"model": self.model(), "args": self.args(), "train_dataset": self.data, **options})

    def labelled(self, labels: list[Any]) -> Any:
        return self.data.remove_columns("label").add_column("label", labels)

    def ids(self, **columns: Any) -> list[dict[str, Any]]:
        return [{"input_ids": [101, 102], "labels": 0, **columns}]

    def pipe(self, **options: Any) -> Any:
        return unpad.pipeline("text-classification", model=self.world.finished, **options)


@pytest.fixture(scope="module")
def tokenized(places: tuple[str, str]) -> tuple[Any, Any]:
    from datasets import Dataset

    tokenizer = unpad.AutoTokenizer.from_pretrained(places[0])
    found = rows(label=lambda i: i % 2)
    encoded = tokenizer([row["text"] for row in found], truncation=True)
    return tokenizer, Dataset.from_dict({**encoded, "label": [row["label"] for row in found]})


@pytest.fixture
def things(world: World, tokenized: tuple[Any, Any]) -> Things:
    return Things(world, *tokenized)


IDS = torch.full((2, 3), 101)
CALLS: dict[str, tuple[Callable[[Things], Any], tuple[str, ...]]] = {
    # -- arguments
    "a number in quotes": (lambda t: t.args(learning_rate="5e-5"), ("learning_rate='5e-5'", "leave out the quotes")),
    "no learning rate": (lambda t: t.args(learning_rate=None), ("learning_rate=None", "finite number")),
    "an infinite learning rate": (lambda t: t.args(learning_rate=float("inf")), ("learning_rate=inf", "finite")),
    "half an example": (lambda t: t.args(per_device_train_batch_size=2.5), ("per_device_train_batch_size=2.5", "whole")),
    "a share of steps": (lambda t: t.args(warmup_steps=0.1), ("warmup_steps=0.1", "warmup_ratio")),
    "a seed that is a word": (lambda t: t.args(seed="a"), ("seed='a'", "whole number")),
    "yes for True": (lambda t: t.args(bf16="yes"), ("bf16='yes'", "True or False")),
    "no precision": (lambda t: t.args(precision=None), ("precision=None", "auto")),
    "bits for a precision": (lambda t: t.args(precision=16), ("precision=16", "fp16")),
    "no optimizer": (lambda t: t.args(optim=None), ("optim=None", "adamw_torch")),
    "a strategy that is misspelled": (lambda t: t.args(eval_strategy="eopch"), ("'eopch'", "did you mean 'epoch'")),
    "an unknown argument": (lambda t: t.args(learning_rat=1), ("'learning_rat'", "did you mean 'learning_rate'")),
    "old and new spelling": (lambda t: t.args(evaluation_strategy="no", eval_strategy="no"), ("old name", "only one")),
    # -- Trainer
    "no model": (lambda t: Trainer(), ("model=",)),
    "a name for a model": (lambda t: t.trainer(model="bert"), ("'bert'", "from_pretrained")),
    "a dictionary for arguments": (lambda t: t.trainer(args={"a": 1}), ("dict", "TrainingArguments")),
    "an argument of the Trainer that is misspelled": (lambda t: t.trainer(train_data=1), ("'train_data'", "did you mean 'train_dataset'")),
    "a single callback": (lambda t: t.trainer(callbacks=unpad.EarlyStoppingCallback(2)), ("callbacks", "list")),
    "a callback that is none": (lambda t: t.trainer(callbacks=["stop"]), ("'stop'", "TrainerCallback")),
    "a single optimizer": (lambda t: t.trainer(optimizers=torch.optim.SGD([torch.zeros(1)], 0.1)), ("SGD", "pair")),
    "the class of an optimizer": (lambda t: t.trainer(optimizers=(torch.optim.SGD, None)), ("SGD", "class")),
    "a name for a metric": (lambda t: t.trainer(compute_metrics="f1"), ("'f1'", "function")),
    "a name for a collator": (lambda t: t.trainer(data_collator="pad"), ("'pad'", "function")),
    "a tracker that is not here": (lambda t: t.trainer(args=t.args(report_to="tensorbord")), ("did you mean 'tensorboard'",)),
    "evaluations without data": (lambda t: t.trainer(args=t.args(eval_strategy="epoch")).train(), ("eval_dataset=",)),
    "a metric that is not measured": (
        lambda t: t.trainer(args=t.args(eval_strategy="epoch", metric_for_best_model="f1"), eval_dataset=t.data).train(),
        ("'f1'", "loss"),
    ),
    "metrics that are no dictionary": (lambda t: t.trainer(compute_metrics=lambda p: 0.5).evaluate(t.data), ("0.5", "dictionary")),
    "no training data": (lambda t: t.trainer(train_dataset=None).train(), ("train_dataset=",)),
    "no rows": (lambda t: t.trainer(train_dataset=t.data.select([])).train(), ("no rows",)),
    "texts that are not tokenized": (lambda t: t.trainer(train_dataset=rows()).train(), ("'input_ids'", "tokenize")),
    "all splits": (lambda t: t.trainer(train_dataset={"train": t.data}).train(), ("train", "['train']")),
    "a stream": (lambda t: t.trainer(train_dataset=iter(())).train(), ("no length",)),
    "a data frame": (lambda t: t.trainer(train_dataset=t.data.to_pandas()).train(), ("from_pandas",)),
    "a file name for data": (lambda t: t.trainer(train_dataset="data.csv").train(), ("str", "'input_ids'")),
    "no labels": (lambda t: t.trainer(train_dataset=t.data.remove_columns("label")).train(), ("'label' or 'labels'",)),
    "hidden labels": (lambda t: t.trainer(train_dataset=t.labelled([-1] * 16)).train(), ("'label'", "-1")),
    "a class too many": (lambda t: t.trainer(train_dataset=t.labelled([0] * 15 + [2])).train(), ("label 2 in row 15 of 'train'", "0..1", "num_labels=")),
    "decimals for classes": (lambda t: t.trainer(train_dataset=t.labelled([0.5] * 16)).train(), ("0.5 in row 0 of 'train'", "num_labels=1")),
    "a missing label": (lambda t: t.trainer(train_dataset=t.labelled([0, None] * 8)).train(), ("row 1 of 'train'", "filter")),
    "an id beyond the vocabulary": (lambda t: t.trainer(train_dataset=t.ids(input_ids=[99999])).train(), ("99999 in row 0 of 'train'", "30522")),
    "a segment beyond the model's": (lambda t: t.trainer(train_dataset=t.ids(token_type_ids=[0, 5])).train(), ("token_type_ids 5 in row 0", "0..1")),
    "a row longer than the model": (lambda t: t.trainer(train_dataset=t.ids(input_ids=[101] * 65)).train(), ("row 0 of 'train'", "65 tokens", "takes 64", "truncation=True")),
    "decimals for ids": (lambda t: t.trainer(train_dataset=t.ids(input_ids=[1.5])).train(), ("'input_ids'", "whole numbers")),
    "a base model to train": (lambda t: t.trainer(model=unpad.AutoModel.from_pretrained(t.world.tiny)).train(), ("BertModel", "no head", "AutoModelForSequenceClassification")),
    "going on from a number": (lambda t: t.trainer().train(resume_from_checkpoint=3), ("resume_from_checkpoint", "3", "checkpoint-<step>")),
    "nothing to judge on": (lambda t: t.trainer().evaluate(), ("eval_dataset=",)),
    "nothing to predict": (lambda t: t.trainer().predict(None), ("NoneType", "data set")),
    "a model saved over a file": (lambda t: t.trainer().save_model(t.world.data("", "file")), ("file",)),
    # -- from_pretrained and configurations
    "no name": (lambda t: unpad.AutoModel.from_pretrained(None), ("None", "folder")),
    "no name of a tokenizer": (lambda t: unpad.AutoTokenizer.from_pretrained(None), ("None", "folder")),
    "a word for a number of labels": (lambda t: t.model(num_labels="three"), ("num_labels='three'", "whole number")),
    "no labels at all": (lambda t: t.model(num_labels=0), ("num_labels=0", "1 or more")),
    "an option that is misspelled": (lambda t: t.model(numlabels=2), ("'numlabels'", "did you mean 'num_labels'")),
    "a list of label names": (lambda t: t.model(id2label=["a", "b"]), ("['a', 'b']", "dictionary")),
    "label names the wrong way round": (lambda t: t.model(id2label={"a": 0, "b": 1}), ("{'a': 0, 'b': 1}", "{0: 'no', 1: 'yes'}")),
    "a dtype that is none": (lambda t: t.model(dtype="fp16"), ("'fp16'", "float16")),
    "whole numbers for weights": (lambda t: t.model(dtype="int8"), ("'int8'", "float32")),
    "a dropout of a word": (lambda t: t.model(hidden_dropout_prob="x"), ("hidden_dropout_prob", "'x'", "0 <= p < 1")),
    "an activation that is none": (lambda t: t.model(hidden_act="swoosh"), ("'swoosh'", "silu")),
    "another width": (lambda t: t.model(hidden_size=64), ("[30522, 32]", "[30522, 64]")),
    "a dictionary for a configuration": (lambda t: t.model(config={"hidden_size": 32}), ("dict", "BertConfig")),
    "a name for a configuration": (lambda t: unpad.AutoModel.from_config("tiny"), ("'tiny'", "AutoConfig")),
    "a model without a configuration": (lambda t: unpad.BertModel(), ("from_pretrained", "from_config")),
    "no heads": (lambda t: unpad.BertConfig(num_attention_heads=0), ("num_attention_heads=0", "1 or more")),
    "an unknown key": (lambda t: unpad.BertConfig(hiden_size=3), ("'hiden_size'", "did you mean 'hidden_size'")),
    "an unknown key of what is read": (lambda t: unpad.AutoConfig.from_pretrained(t.world.tiny, hiden_size=3), ("'hiden_size'", "did you mean 'hidden_size'")),
    "an unknown family": (lambda t: unpad.AutoConfig.for_model("brt"), ("'brt'", "did you mean 'bert'")),
    # -- calling a model
    "a text for a model": (lambda t: t.model()("hello"), ("str", "return_tensors='pt'")),
    "lists for a model": (lambda t: t.model()(**t.tokenizer("hello")), ("list", "return_tensors='pt'")),
    "an id that no table holds": (lambda t: t.model()(IDS + 99999), ("100100", "0..30521", "tokenizer")),
    "decimal ids": (lambda t: t.model()(IDS.float()), ("float32", "whole numbers")),
    "a mask of another shape": (lambda t: t.model()(IDS, attention_mask=torch.ones(2, 4)), ("[2, 4]", "[2, 3]")),
    "too many labels": (lambda t: t.model()(IDS, labels=torch.zeros(3, dtype=torch.long)), ("[3]", "[2, 3]")),
    "labels in a list": (lambda t: t.model()(IDS, labels=[0, 1]), ("list", "tensor")),
    "a label that no output has": (lambda t: t.model()(IDS, labels=torch.tensor([0, 5])), ("5", "0..1", "num_labels=")),
    "a text longer than the model": (lambda t: t.model()(torch.ones(1, 65, dtype=torch.long)), ("65 tokens", "64", "truncation=True")),
    # -- pipelines
    "an unknown task": (lambda t: unpad.pipeline("txt-classification"), ("'txt-classification'", "did you mean 'text-classification'")),
    "no task and no model": (lambda t: unpad.pipeline(), ("task", "model")),
    "a number for a model": (lambda t: unpad.pipeline("text-classification", model=3), ("int", "folder")),
    "a model with the wrong head": (lambda t: unpad.pipeline("text-classification", model=unpad.AutoModel.from_pretrained(t.world.tiny)), ("BertModel", "AutoModelForSequenceClassification")),
    "an unknown device": (lambda t: t.pipe(device="gpu"), ("'gpu'", "'cuda'")),
    "an option of a pipeline that is unknown": (lambda t: t.pipe(topk=1), ("'topk'", "did you mean 'top_k'")),
    "no text for a pipeline": (lambda t: t.pipe()(["a", None]), ("input 1", "None", "leave it out")),
    "bytes for a pipeline": (lambda t: t.pipe()(b"a"), ("bytes", "decode")),
    "three texts for a pair": (lambda t: t.pipe()([("a", "b", "c")]), ("input 0", "3 items", "text_pair")),
    "a key that is misspelled": (lambda t: t.pipe()({"txt": "a"}), ("'txt'", "'text'")),
    "no best label": (lambda t: t.pipe()("a", top_k=0), ("top_k=0", "1 or more")),
    "a text that must not be cut": (lambda t: t.pipe()("word " * 99, truncation=False), ("input 0", "101 tokens", "64")),
    # -- tokenizers
    "no text": (lambda t: t.tokenizer(None), ("without a text",)),
    "a number for a text": (lambda t: t.tokenizer(["a", 3]), ("row 1", "3 (int)")),
    "batches of different sizes": (lambda t: t.tokenizer(["a"], ["b", "c"]), ("1 rows", "has 2")),
    "an unknown padding": (lambda t: t.tokenizer("a", padding="longset"), ("'longset'", "did you mean 'longest'")),
    "no room for tokens": (lambda t: t.tokenizer("a", truncation=True, max_length=1), ("max_length=1", "special tokens")),
    "a ragged tensor": (lambda t: t.tokenizer(["a", "b c"], return_tensors="pt"), ("padding=True",)),
    "an argument of the tokenizer that is misspelled": (lambda t: t.tokenizer("a", return_tensor="pt"), ("did you mean 'return_tensors'",)),
    "an id that is none": (lambda t: t.tokenizer.decode([-100]), ("-100", "pad_token_id")),
    # -- data and the rest
    "data that are none": (lambda t: unpad.load_dataset(3), ("'int'", "path")),
    "columns of different lengths": (lambda t: unpad.load_dataset({"a": [1], "b": [1, 2]}), ("a 1, b 2",)),
    "rows that are no dictionaries": (lambda t: unpad.load_dataset(["a"]), ("row 0", "dict")),
    "a split that is not there": (lambda t: unpad.load_dataset("helpdesk", split="tset"), ("'tset'", "did you mean 'test'")),
    "an unknown metric": (lambda t: unpad.load_metric("acuracy"), ("'acuracy'", "did you mean 'accuracy'")),
    "no metric": (lambda t: unpad.load_metric(None), ("None", "accuracy")),
    "a number for predictions": (lambda t: unpad.load_metric("accuracy").compute(predictions=3, references=3), ("int", "list")),
    "predictions without references": (lambda t: unpad.load_metric("accuracy").compute(predictions=[1, 2], references=[1]), ("2 predictions", "1 references")),
    "an unknown schedule": (lambda t: unpad.get_scheduler("lin", torch.optim.SGD([torch.zeros(1)], 0.1), 0, 9), ("'lin'", "did you mean 'linear'")),
    "a schedule of nothing": (lambda t: unpad.get_scheduler("linear", None, 0, 9), ("NoneType", "optimizer")),
    "texts in a batch": (lambda t: unpad.DataCollatorWithPadding(t.tokenizer)(["a"]), ("feature 0", "'a'", "dictionary")),
    "an unknown device of the Accelerator": (lambda t: unpad.Accelerator(device="gpu"), ("'gpu'", "'cuda'")),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_mistake_in_python_is_an_unpad_error_of_one_line(things: Things, name: str) -> None:
    call, said = CALLS[name]
    with pytest.raises(UnpadError) as caught:
        call(things)
    line = str(caught.value)
    assert "\n" not in line and "\r" not in line and len(line) < 1000
    assert_says(line, said)


@pytest.mark.parametrize(("given", "kept"), [(8.0, 8), (np.int64(8), 8), (np.float32(8), 8), (True, None), ("8", None)])
def test_a_whole_number_of_any_kind_is_a_whole_number(given: Any, kept: int | None) -> None:
    if kept is None:
        with pytest.raises(UnpadError):
            TrainingArguments("out", save_steps=given)
    else:
        found = TrainingArguments("out", save_steps=given).save_steps
        assert found == kept and type(found) is int
