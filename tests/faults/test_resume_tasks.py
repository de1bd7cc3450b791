"""Whatever stops a run, of any task: stopped at a step, killed at a write, refused by a full disk or damaged, it ends bit for bit.

A kill leaves the disk as it stands at that moment. So one whole run is watched, its folder is copied whenever something in it has
changed, files half written included, and a fresh Trainer continues each copy. A few real kills show that the copies are what kills leave.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from test_files import CHANGES
from test_resume import TIMES, same_run, same_tree

import unpad
from unpad import CheckpointError, Trainer
from unpad.checkpoint import files
from unpad.checkpoint.files import MANIFEST, checkpoints, newest_valid
from unpad.engine.state import random_state, read_tree
from unpad.train.run_folder import STATE

WORDS, STEPS, NEVER = 40, 12, 100
TINY = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 16,
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_steps": 1, "eval_strategy": "steps",
    "eval_steps": 2, "logging_steps": 3, "learning_rate": 3e-2, "warmup_steps": 3, "load_best_model_at_end": True, "disable_tqdm": True,
    "draw_curves": False, "precision": "fp32", "use_cpu": True,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread_without_syncs() -> Iterator[None]:
    """Syncs cost milliseconds and no kill shows them; their order has a test of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_fsync", lambda fd: None)
        yield
    torch.set_num_threads(threads)


# ---- the runs


class Draws(unpad.TrainerCallback):
    """Draws from every generator after each step, and keeps what came."""

    def __init__(self) -> None:
        self.drawn: list[tuple[float, float]] = []
        self.total = torch.zeros(2)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.drawn.append((random.random(), float(np.random.random())))
        self.total += torch.rand(2)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn, "total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn, self.total = state["drawn"], state["total"]


@functools.cache
def tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        (Path(folder) / "vocab.txt").write_text("\n".join([*special, *(f"w{i}" for i in range(WORDS - len(special)))]))
        return unpad.AutoTokenizer.from_pretrained(folder)


def texts(count: int, seed: int, words: int = WORDS) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(5, words, size=int(rng.integers(2, 12))).tolist() for _ in range(count)]


def callbacks(patience: int, threshold: float) -> list[unpad.TrainerCallback]:
    return [unpad.EarlyStoppingCallback(patience, threshold), Draws()]


def token_classification(
    folder: Path, seed: int = 7, patience: int = NEVER, threshold: float = 0.0, **changes: Any
) -> Trainer:
    """Chosen by accuracy, which often stays as it was."""
    unpad.set_seed(seed)
    data = [{"input_ids": t, "labels": [i % 3 if i % 5 else -100 for i in t]} for t in texts(36, 0)]

    def accuracy(found: Any) -> dict[str, float]:
        asked = found.label_ids != -100
        return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids)[asked].mean())}

    return Trainer(
        unpad.AutoModelForTokenClassification.from_config(unpad.BertConfig(**TINY, num_labels=3)),
        unpad.TrainingArguments(str(folder), **{**SETTINGS, "metric_for_best_model": "accuracy", **changes}),
        train_dataset=data[:24], eval_dataset=data[24:], compute_metrics=accuracy, callbacks=callbacks(patience, threshold),
    )  # fmt: skip


def masked_language_modelling(folder: Path, seed: int = 7, **changes: Any) -> Trainer:
    """Other masks in each of its four epochs; chosen by the perplexity, which soon falls more slowly than is waited for."""
    unpad.set_seed(seed)
    data = [{"input_ids": [2, *t, 3]} for t in texts(36, 1, words=10)]
    return Trainer(
        unpad.AutoModelForMaskedLM.from_config(unpad.BertConfig(**TINY)),
        unpad.TrainingArguments(str(folder), **{**SETTINGS, "metric_for_best_model": "perplexity", **changes}),
        unpad.DataCollatorForLanguageModeling(tokenizer(), mlm_probability=0.3),
        train_dataset=data[:24], eval_dataset=data[24:], processing_class=tokenizer(), callbacks=callbacks(NEVER, 2.0),
    )  # fmt: skip


def translation(folder: Path, seed: int = 7, **changes: Any) -> Trainer:
    """All four dropouts of an encoder-decoder, label smoothing, a token budget; chosen by the texts that it generates."""
    unpad.set_seed(seed)
    config = unpad.AutoConfig.for_model(
        "bart", vocab_size=WORDS, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=16, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=None, init_std=0.3,
    )  # fmt: skip
    data = [{"input_ids": [*t, 3], "labels": [*t[::-1], 3]} for t in texts(36, 2, words=10)]
    settings = {
        "per_device_train_batch_size": 8, "max_tokens_per_batch": 50, "label_smoothing_factor": 0.1, "learning_rate": 1e-2,
        "predict_with_generate": True, "metric_for_best_model": "same",
    }  # fmt: skip

    def same(found: Any) -> dict[str, float]:
        width = min(found.predictions.shape[1] - 1, found.label_ids.shape[1])
        return {"same": float((found.predictions[:, 1 : width + 1] == found.label_ids[:, :width]).mean())}

    return unpad.Seq2SeqTrainer(
        unpad.AutoModelForSeq2SeqLM.from_config(config),
        unpad.Seq2SeqTrainingArguments(str(folder), **{**SETTINGS, **settings, **changes}),
        train_dataset=data[:24], eval_dataset=data[24:], processing_class=tokenizer(), compute_metrics=same,
        callbacks=callbacks(NEVER, 0.0),
    )  # fmt: skip


TASKS = (token_classification, masked_language_modelling, translation)
Make = Callable[..., Trainer]
Whole = Callable[..., tuple[Path, dict[str, Any]]]


def finished(run: Trainer) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint if there is one; what a caller sees then, without what a clock decides."""
    output = run.train(resume_from_checkpoint=True)
    drawn = random_state()
    run.save_model()
    state = dataclasses.asdict(run.state)
    state["best_model_checkpoint"] = Path(state["best_model_checkpoint"] or "").name
    state["log_history"] = [{k: v for k, v in r.items() if not k.endswith(TIMES)} for r in state["log_history"]]
    return {
        "step": output.global_step, "loss": output.training_loss, "random": drawn, "state": state,
        "callbacks": [callback.state_dict() for callback in run.callbacks],
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The folder and the end of a run that nothing interrupts, with every checkpoint kept; each run is made once."""

    @functools.cache
    def run(make: Make, **changes: Any) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("whole") / "run"
        return folder, finished(make(folder, **changes))

    return run


def up_to(step: int, of: Path, folder: Path) -> Path:
    """A run's folder as it was when `checkpoint-<step>` was the newest one."""
    for checkpoint in checkpoints(of):
        if int(checkpoint.name.removeprefix("checkpoint-")) <= step:
            shutil.copytree(checkpoint, folder / checkpoint.name)
    return folder


# ---- stopped at a step


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("make", TASKS, ids=lambda make: make.__name__)
def test_a_run_of_each_task_continued_from_any_step_ends_the_same(
    whole: Whole, tmp_path: Path, make: Make, step: int
) -> None:
    reference, end = whole(make)
    run = make(up_to(step, reference, tmp_path / "run"), seed=step + 100)  # other weights than the run began with
    unpad.set_seed(step)
    same_tree(end, finished(run))
    same_run(reference, tmp_path / "run", STEPS)


@pytest.mark.parametrize("make", TASKS, ids=lambda make: make.__name__)
def test_these_runs_have_something_to_lose(whole: Whole, make: Make) -> None:
    """Several epochs, sums in the middle of a log line, a best evaluation that changes and evaluations that are none."""
    reference, end = whole(make)
    trees = [read_tree(checkpoint, STATE) for checkpoint in checkpoints(reference)]
    assert len(trees) == STEPS and end["state"]["epoch"] > 2
    waited = [dict(tree["callbacks"])["EarlyStoppingCallback"]["waited"] for tree in trees]
    assert max(waited) > 0 and len({tree["trainer"]["best_step"] for tree in trees}) > 2
    assert {tree["trainer"]["loss_count"] for tree in trees} == {0, 1, 2}


@pytest.mark.parametrize("make", TASKS, ids=lambda make: make.__name__)
def test_these_models_drop_at_random(tmp_path: Path, make: Make) -> None:
    model = make(tmp_path).model.train()
    ids = torch.arange(5, 15).view(1, -1)
    losses = {float(model(input_ids=ids, labels=ids % 3).loss.detach()) for _ in range(4)}
    assert len(losses) == 4


STOPPING: dict[str, Any] = {"patience": 3, "threshold": 1e9}  # after the first evaluation nothing counts as better


@pytest.mark.parametrize("step", range(1, 8))
def test_patience_runs_out_at_the_same_step(whole: Whole, tmp_path: Path, step: int) -> None:
    reference, end = whole(token_classification, **STOPPING)
    assert end["step"] == 8
    run = token_classification(up_to(step, reference, tmp_path / "run"), **STOPPING)
    same_tree(end, finished(run))
    same_run(reference, tmp_path / "run", 8)


def test_a_run_that_was_stopped_early_does_not_go_on(whole: Whole, tmp_path: Path) -> None:
    reference, end = whole(token_classification, **STOPPING)
    run = token_classification(up_to(8, reference, tmp_path / "run"), **STOPPING)
    same_tree(end, finished(run))
    same_run(reference, tmp_path / "run", 8)


class Counts(unpad.TrainerCallback):
    """Counts what it is told of."""

    def __init__(self) -> None:
        self.counts = {"epoch_begin": 0, "step": 0, "log": 0, "evaluation": 0, "epoch_end": 0}

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.counts["epoch_begin"] += 1

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.counts["step"] += 1

    def on_log(self, *_: Any, **__: Any) -> None:
        self.counts["log"] += 1

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        self.counts["evaluation"] += 1

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.counts["epoch_end"] += 1

    def state_dict(self) -> dict[str, Any]:
        return dict(self.counts)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.counts = dict(state)


def counting(folder: Path, resume: bool) -> dict[str, int]:
    """What a callback counts in four steps, of which three are an epoch."""
    run, counter = token_classification(folder, max_steps=4), Counts()
    run.callbacks.append(counter)
    run.train(resume_from_checkpoint=resume)
    return counter.counts


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_callback_is_told_of_each_event_once(tmp_path: Path, step: int) -> None:
    expected = counting(tmp_path / "whole", resume=False)
    assert counting(up_to(step, tmp_path / "whole", tmp_path / "run"), resume=True) == expected


def test_two_callbacks_of_one_kind_keep_a_state_each(tmp_path: Path) -> None:
    def two(folder: Path) -> Trainer:
        run = token_classification(folder, max_steps=6)
        run.callbacks.append(unpad.EarlyStoppingCallback(NEVER, 1e9))
        return run

    end = finished(two(tmp_path / "whole"))
    assert end["callbacks"][0] != end["callbacks"][-1]
    same_tree(end, finished(two(up_to(6, tmp_path / "whole", tmp_path / "run"))))


class Keeps(unpad.TrainerCallback):
    """Has one value as its state."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


@pytest.mark.parametrize(
    "value",
    [
        {"best": 0.1 + 0.2, 3: None, "names": ["é", True, -(2**70)]},
        (torch.tensor(1e-30, dtype=torch.float64), torch.ones(2, 3, dtype=torch.bool), torch.zeros(0)),
        np.array([2**64 - 1, 7], dtype=np.uint64),
        np.array([0.25, 1.5]),
    ],
    ids=["plain", "tensors", "integers", "floats"],
)
def test_the_state_of_a_callback_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    for kept in (value, None):  # saved by the first run, read by the second
        run, callback = token_classification(tmp_path, max_steps=1, load_best_model_at_end=False), Keeps(kept)
        run.callbacks[:] = [callback]
        run.train(resume_from_checkpoint=True)
        same_tree(value, callback.value)


# ---- killed at a write


@contextmanager
def watched(moment: Callable[[str], None]) -> Iterator[None]:
    """Call `moment` "before" and "after" everything by which a run changes the disk, and in the "middle" of each write."""

    def around(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            moment("before")
            result = real(*args, **named)
            moment("after")
            return result

        return call

    def halves(path: str | Path, data: bytes) -> None:
        moment("before")
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            moment("middle")
            file.write(data[len(data) // 2 :])
        moment("after")

    def write(fd: int, data: bytes) -> None:
        moment("before")
        real_write(fd, data[: len(data) // 2])
        moment("middle")
        real_write(fd, data[len(data) // 2 :])
        moment("after")

    def save_file(tensors: Any, path: str, metadata: Any = None) -> None:
        try:
            halves(path, safetensors.torch.save(tensors, metadata))
        except OSError as error:  # as the library says it
            raise safetensors.SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None

    def write_text(path: Path, data: str, encoding: str | None = None) -> None:
        halves(path, data.encode(encoding or "utf-8"))

    real_write = files._write
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(files, name, around(getattr(files, name)))
        patch.setattr(files, "_write", write)
        patch.setattr(safetensors.torch, "save_file", save_file)
        patch.setattr(Path, "write_text", write_text)
        patch.setattr(Path, "write_bytes", halves)
        patch.setattr(os, "replace", around(os.replace))
        yield


Content = dict[str, bytes | None]


def content(folder: Path) -> Content:
    """Every file below a folder; None is a folder."""
    found = sorted(folder.rglob("*")) if folder.exists() else []
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in found}


def put(folder: Path, found: Content) -> Path:
    folder.mkdir()
    for name, data in found.items():
        (folder / name).mkdir() if data is None else (folder / name).write_bytes(data)
    return folder


SHORT: dict[str, Any] = {
    "max_steps": 4, "save_steps": 2, "save_total_limit": 1, "gradient_accumulation_steps": 1, "metric_for_best_model": "loss",
    "predict_with_generate": False,
}  # fmt: skip
"""Two checkpoints, the second of which replaces the first."""


def short(folder: Path) -> Trainer:
    return translation(folder, **SHORT)


@dataclasses.dataclass
class Watched:
    """A whole run, what its folder looked like whenever something had changed, and which of these looks each moment had."""

    folder: Path
    end: dict[str, Any]
    looks: list[Content]
    moments: list[int]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched") / "run"
    looks: list[Content] = []
    moments: list[int] = []

    def look(_: str) -> None:
        found = content(folder)
        if not looks or looks[-1] != found:
            looks.append(found)
        moments.append(len(looks) - 1)

    run = short(folder)
    with watched(look):
        end = finished(run)
    return Watched(folder, end, looks, moments)


def test_every_file_of_a_checkpoint_is_seen_half_written(seen: Watched) -> None:
    """So the tests below know all ways in which a run writes."""
    assert [p.name for p in checkpoints(seen.folder)] == ["checkpoint-4"]
    for place, whole in ((".checkpoint-4.staging", seen.folder / "checkpoint-4"), (".", seen.folder)):
        for file in (p for p in whole.iterdir() if p.is_file() and p.name != ".lock"):
            torn = re.compile(
                rf"{'' if place == '.' else re.escape(place) + '/'}\.?{re.escape(file.name)}(\.part|\.tmp)?"
            )
            sizes = {
                len(data)
                for look in seen.looks
                for name, data in look.items()
                if data is not None and torn.fullmatch(name)
            }
            assert any(0 < size < file.stat().st_size for size in sizes), f"{place}/{file.name}"


def test_a_kill_at_any_moment_of_a_run_loses_nothing(
    seen: Watched, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = 0
    for number, look in enumerate(seen.looks):
        folder = put(tmp_path / f"run-{number}", look)
        print("killed where the folder held", *look)  # shown when the test fails
        with caplog.at_level("INFO", logger="unpad"):
            same_tree(seen.end, finished(short(folder)))
        same_run(seen.folder, folder, 4)
        found = re.search(r"checkpoint-\d at step (\d)", caplog.text)
        step = int(found[1]) if found else 0
        assert step >= saved, "what was saved once stays saved"
        saved = step
        assert "damaged" not in caplog.text
        caplog.clear()
        left = {p.name for p in folder.iterdir()} - {p.name for p in seen.folder.iterdir()}
        assert left <= {"checkpoint-2"}, "a kill between saving and pruning may leave one more"
        shutil.rmtree(folder)
    assert saved == 4 and len(seen.looks) > 60


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8, 0.95])
def test_a_real_kill_leaves_what_was_seen_at_that_moment(seen: Watched, tmp_path: Path, share: float) -> None:
    folder, at = tmp_path / "run", int(share * len(seen.moments))
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            left = iter(range(at))

            def kill(_: str) -> None:
                if next(left, None) is None:
                    os.kill(os.getpid(), signal.SIGKILL)

            with watched(kill):
                finished(short(folder))
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert content(folder).keys() == seen.looks[seen.moments[at]].keys()
    same_tree(seen.end, finished(short(folder)))
    same_run(seen.folder, folder, 4)


# ---- a full disk


class Full:
    """A disk that refuses from the write number `room` on; counts the writes."""

    def __init__(self, room: int) -> None:
        self.room, self.writes = room, 0

    def __call__(self, moment: str) -> None:
        self.writes += moment == "middle"
        if moment == "middle" and self.writes > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refused(error: BaseException, where: Path) -> None:
    """It is the one line that says that the disk is full."""
    assert isinstance(error, CheckpointError)
    text = str(error)
    assert "\n" not in text and str(where) in text and os.strerror(errno.ENOSPC) in text and "free some space" in text


def hidden(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.name.startswith(".")} - {".lock"}


def test_a_disk_that_is_full_at_any_write_of_a_run_keeps_what_was_saved(seen: Watched, tmp_path: Path) -> None:
    """The Trainer whose disk was full goes on once there is space."""
    half = next(look for look in seen.looks if "checkpoint-2" in look)
    kept = []
    for room in range(1000):
        folder, disk = put(tmp_path / f"run-{room}", half), Full(room)
        run = short(folder)
        try:
            with watched(disk):
                run.train(resume_from_checkpoint=True)
        except Exception as error:
            refused(error, folder)
        else:
            break
        assert not hidden(folder)
        newest = newest_valid(folder)
        assert newest is not None
        kept.append(newest.name)
        same_tree(seen.end, finished(run))
        same_run(seen.folder, folder, 4)
        shutil.rmtree(folder)
    assert disk.writes == room and set(kept) == {"checkpoint-2", "checkpoint-4"} and kept == sorted(kept)
    files_of_a_checkpoint = len(list((seen.folder / "checkpoint-4").iterdir()))
    assert kept.count("checkpoint-2") > files_of_a_checkpoint


@pytest.mark.parametrize("make", [token_classification, short], ids=["token_classification", "translation"])
def test_a_full_disk_under_the_final_model_is_one_line_and_spares_the_earlier_one(tmp_path: Path, make: Make) -> None:
    run = make(tmp_path / "run")
    run.save_model()
    earlier = content(tmp_path / "run")
    for room in range(1000):
        disk = Full(room)
        try:
            with watched(disk):
                run.save_model()
        except Exception as error:
            refused(error, tmp_path / "run")
        else:
            break
        left = content(tmp_path / "run")
        assert {name: left[name] for name in earlier} == earlier
    assert disk.writes == room > 1


def test_a_real_disk_that_fills_up_again_and_again_only_delays_a_run(seen: Watched, tmp_path: Path) -> None:
    disk, size = tmp_path / "disk", 16
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    found: set[int] = set()
    try:
        while True:
            run = short(disk / "run")
            try:
                end = finished(run)
                break
            except Exception as error:
                refused(error, disk / "run")
            newest = newest_valid(disk / "run")
            found.add(int(newest.name.removeprefix("checkpoint-")) if newest else 0)
            assert newest is not None or found == {0}, "what was saved once stays saved"
            size += 12
            subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
        same_tree(seen.end, end)
        same_run(seen.folder, disk / "run", 4)
        assert found >= {0, 2}, "it was full before each of the two checkpoints"
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # tensors that were read may still be mapped


# ---- damage


def cut(path: Path) -> None:
    """Leave the first half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip], ids=lambda damage: damage.__name__)
def test_a_newest_checkpoint_with_a_damaged_file_is_named_and_passed_over(
    whole: Whole, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    reference, end = whole(masked_language_modelling)
    names = sorted(p.name for p in (reference / "checkpoint-12").iterdir())
    assert {"model.safetensors", "tokenizer.json", f"{STATE}.json", f"{STATE}.safetensors", MANIFEST} < set(names)
    for name in names:
        folder = tmp_path / name
        for step in (end["state"]["best_step"], 11, 12):
            shutil.copytree(reference / f"checkpoint-{step}", folder / f"checkpoint-{step}", dirs_exist_ok=True)
        damage(folder / "checkpoint-12" / name)
        with caplog.at_level("INFO", logger="unpad"):
            same_tree(end, finished(masked_language_modelling(folder)))
        same_run(reference, folder, STEPS)
        assert re.search(rf"checkpoint-12 is damaged \({name}: .*\): going back to checkpoint-11", caplog.text)
        assert "checkpoint-11 at step 11" in caplog.text
        caplog.clear()


class Killed(BaseException):
    """Ends a run at once."""


class KilledAt(unpad.TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize("damage", [cut, flip])
def test_after_falling_back_a_run_keeps_what_it_saves(
    whole: Whole, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """Of a run that keeps the best checkpoint and the newest one, and whose newest one is damaged."""
    reference, _ = whole(token_classification)
    for step in (4, 12):
        shutil.copytree(reference / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    damage(tmp_path / "checkpoint-12" / "model.safetensors")
    run = token_classification(tmp_path, save_total_limit=2)
    run.callbacks.append(KilledAt(8))
    with pytest.raises(Killed):
        run.train(resume_from_checkpoint=True)
    newest = newest_valid(tmp_path)
    assert newest is not None and newest.name == "checkpoint-7"
