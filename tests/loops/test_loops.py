"""Training loops that people write themselves: each script trains, judges and saves, with two processes as with one."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import unpad

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"

TWO_PROCESSES = True
"""Whether the scripts are also run with two processes."""


class Loop(NamedTuple):
    """What a script starts from and what it gives."""

    model_type: str
    auto: str
    steps: int
    metrics: set[str]
    tolerance: float = 0.0
    """Relative difference that two processes may make to the metrics. The loop for masked words takes the mean of what
    each process has as its mean, which is not the mean over all words."""


LOOPS = {
    "classification": Loop("bert", "AutoModelForSequenceClassification", 60, {"accuracy", "f1"}),
    "ner": Loop("bert", "AutoModelForTokenClassification", 50, {"precision", "recall", "f1", "accuracy"}),
    "masked_lm": Loop("distilbert", "AutoModelForMaskedLM", 15, {"perplexity"}, 0.03),
    "translation": Loop("marian", "AutoModelForSeq2SeqLM", 60, {"score", "counts", "totals", "sys_len", "ref_len"}),
    "summarization": Loop("mt5", "AutoModelForSeq2SeqLM", 50, {"rouge1", "rouge2", "rougeL", "rougeLsum"}),
}

SHAPES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 96, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.05,
    },
    "distilbert": {
        "dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 48, "max_position_embeddings": 64,
        "dropout": 0.0, "attention_dropout": 0.0, "initializer_range": 0.05,
    },
    "marian": {
        "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128,
        "max_position_embeddings": 64, "dropout": 0.0, "init_std": 0.05,
    },
    "mt5": {
        "d_model": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 2, "d_kv": 32, "d_ff": 48,
        "dropout_rate": 0.0, "initializer_factor": 0.2,
    },
}  # fmt: skip
"""Small models without dropout: its masks would differ between one process and two."""

MENU = [
    "Open Close Print Copy Rename Show the file folder window page image list table password message",
    "Ouvrir Fermer Imprimer Copier Renommer Montrer le la image fichier fenêtre page liste tableau mot passe dossier",
]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with a random small model and its tokenizer per family."""
    folder = tmp_path_factory.mktemp("models")
    tickets = unpad.load_dataset("helpdesk")["train"].select(range(300))
    texts = [*tickets["text"], *tickets["subject"], *MENU * 20]
    for model_type, shape in SHAPES.items():
        torch.manual_seed(0)
        model, tokenizer = unpad.from_scratch(model_type, texts, vocab_size=400, **shape)
        if model.can_generate:
            model.generation_config.max_new_tokens = 12
        model.save_pretrained(folder / model_type)
        tokenizer.save_pretrained(folder / model_type)
    return folder


def arguments(name: str, models: Path, out: Path, *more: str) -> list[str]:
    return [str(HERE / f"{name}.py"), "--model", str(models / LOOPS[name].model_type), "--output_dir", str(out), *more]


def run_here(monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a script prints in its last line, and the names that it leaves behind."""
    monkeypatch.setattr(sys, "argv", argv)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):  # progress bars
        names = runpy.run_path(argv[0], run_name="__main__")
    return json.loads(printed.getvalue().splitlines()[-1]), names


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_learns_judges_and_saves_what_it_trained(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = LOOPS[name]
    found, names = run_here(monkeypatch, arguments(name, models, tmp_path))
    losses = found["losses"]
    assert len(losses) == loop.steps
    assert sum(losses[-5:]) < 0.97 * sum(losses[:5])
    assert found["metrics"].keys() == loop.metrics
    if name == "ner":
        assert found["metrics"]["accuracy"] > 0.5, "most words are no name"
    if name == "translation":
        references = [pair["fr"] for pair in names["split_datasets"]["validation"]["translation"]]
        assert found["metrics"]["ref_len"] == sum(len(text.split()) for text in references)

    loaded = getattr(unpad, loop.auto).from_pretrained(tmp_path)
    assert not loaded.load_report.new
    trained = names["model"].state_dict()
    assert all(torch.equal(value, trained[key]) for key, value in loaded.state_dict().items())
    assert unpad.AutoTokenizer.from_pretrained(tmp_path).get_vocab() == names["tokenizer"].get_vocab()


@pytest.mark.skipif(not TWO_PROCESSES, reason="TWO_PROCESSES is off")
@pytest.mark.parametrize("name", LOOPS)
def test_two_processes_take_the_steps_of_one(
    name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, exact = LOOPS[name], ("--mixed_precision", "fp32")
    alone, _ = run_here(monkeypatch, arguments(name, models, tmp_path / "one", *exact))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, *arguments(name, models, tmp_path / "two", *exact)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(SRC)},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(done.stdout.splitlines()) == 1, "the main process alone prints"
    together = json.loads(done.stdout)
    assert together["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    if loop.tolerance:
        assert together["metrics"] == pytest.approx(alone["metrics"], rel=loop.tolerance)
    else:
        assert together["metrics"] == alone["metrics"]
    assert not getattr(unpad, loop.auto).from_pretrained(tmp_path / "two").load_report.new


class Accelerator:
    """One as a process that is not the main one has it."""

    is_main_process = False

    def save(self, value: Any, path: Path) -> None:
        raise AssertionError("weights are written by the model itself")


def test_a_process_that_is_not_the_main_one_writes_no_model(models: Path, tmp_path: Path) -> None:
    model = unpad.AutoModelForMaskedLM.from_pretrained(models / "distilbert")
    model.save_pretrained(tmp_path / "other", save_function=Accelerator().save)
    model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()
    model.save_pretrained(tmp_path / "main", save_function=unpad.Accelerator().save)
    assert (tmp_path / "main" / "model.safetensors").is_file()


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_needs_nothing_but_unpad_and_torch_and_does_not_count_processes(name: str) -> None:
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {module.split(".")[0] for module in imported} - sys.stdlib_module_names
    assert outside <= {"unpad", "torch", "numpy", "tqdm"}
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "prepare" in used
    assert used.isdisjoint({"num_processes", "process_index", "local_process_index", "distributed", "environ"})
