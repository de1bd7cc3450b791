"""The public surface: every promised name is there, importing the package costs nothing, old spellings lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import unpad
from unpad.compat import ALIASES, modern
from unpad.errors import ArgumentError
from unpad.hub.pull import OPTIONS

SRC = Path(__file__).resolve().parents[2] / "src"
HEAVY = (
    "torch",
    "datasets",
    "matplotlib",
    "transformers",
    "numpy",
    "pyarrow",
    "jsonargparse",
    "tokenizers",
    "torch._dynamo",
)


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter has loaded after `code`."""
    line = f"import sys\nsys.path.insert(0, {str(SRC)!r})\n{code}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    return set(ast_list(done.stdout.splitlines()[-1]))


def ast_list(text: str) -> list[str]:
    import ast

    return list(ast.literal_eval(text))


@pytest.mark.parametrize("name", sorted(unpad.PUBLIC))
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(unpad, name) is not None


def test_every_public_name_is_listed_once_and_in_dir() -> None:
    assert set(unpad.PUBLIC) <= set(dir(unpad))
    assert sorted(unpad.__all__) == sorted({*unpad.PUBLIC, "__version__"})


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Trainr"):
        unpad.Trainr  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import unpad") == set()


def test_importing_an_error_loads_nothing_heavy() -> None:
    assert loaded_after("from unpad import UnpadError") == set()


def test_training_does_not_load_plots() -> None:
    assert "matplotlib" not in loaded_after("from unpad import Trainer, TrainingArguments")


def test_training_does_not_wait_for_a_compiler_that_it_does_not_use(tmp_path: Path) -> None:
    code = f"""
from datasets import Dataset
import unpad
config = unpad.AutoConfig.for_model("bert", vocab_size=30, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
data = Dataset.from_dict({{"input_ids": [[2, 5, 3]] * 8, "label": [0, 1] * 4}})
args = unpad.TrainingArguments({str(tmp_path)!r}, max_steps=2, save_strategy="steps", save_steps=1, draw_curves=False, disable_tqdm=True)
run = unpad.Trainer(unpad.AutoModelForSequenceClassification.from_config(config), args, train_dataset=data, eval_dataset=data)
run.train()
run.evaluate()
run.train(resume_from_checkpoint=True)
unpad.AutoModelForSequenceClassification.from_pretrained({str(tmp_path / "checkpoint-1")!r})"""
    assert "torch._dynamo" not in loaded_after(code)


def test_old_spellings_point_at_arguments_that_exist() -> None:
    known = {
        "TrainingArguments": {f.name for f in dataclasses.fields(unpad.TrainingArguments)},
        "Trainer": set(inspect.signature(unpad.Trainer.__init__).parameters),
        "from_pretrained": set(OPTIONS),
        "load_dataset": set(OPTIONS),
    }
    for where, table in ALIASES.items():
        assert set(table.values()) <= known[where]
        assert not set(table) & known[where], "an old spelling must not hide a name of today"


def test_an_old_spelling_means_the_same_as_the_new_one() -> None:
    old = unpad.TrainingArguments(evaluation_strategy="epoch", per_gpu_train_batch_size=3, no_cuda=True)
    new = unpad.TrainingArguments(eval_strategy="epoch", per_device_train_batch_size=3, use_cpu=True)
    assert old == new


def test_both_spellings_at_once_are_refused() -> None:
    with pytest.raises(ArgumentError, match="eval_strategy"):
        modern("TrainingArguments", {"eval_strategy": "no", "evaluation_strategy": "epoch"})
