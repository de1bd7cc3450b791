"""The folder of a run: its history file, its checkpoints, and what becomes of an earlier run that is found there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unpad.checkpoint import files
from unpad.engine.accelerator import Accelerator
from unpad.engine.state import read_tree, write_tree
from unpad.errors import CheckpointError, TrainingError, listing
from unpad.notices import say
from unpad.train.arguments import TrainingArguments
from unpad.train.callbacks import TrainerCallback
from unpad.train.state import TrainerState

HISTORY = "metrics.jsonl"
STATE = "training_state"


class RunFolder:
    """Reads and writes everything below `output_dir` during training."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock: Any = None

    # -- start

    def begin(self, overwrite: bool) -> None:
        """Make the folder ready for a new run: an earlier run's files are removed on `overwrite`, else moved aside."""
        self._make()
        earlier = [*files.checkpoints(self.path), *(p for p in (self.path / HISTORY,) if p.exists())]
        if earlier and overwrite:
            for path in earlier:
                files.remove_folder(path) if path.is_dir() else path.unlink()
            say(f"{self.path}: removed the {len(earlier)} files of an earlier run (overwrite_output_dir=True)")
        elif earlier:
            aside = self._set_aside(earlier)
            more = f"; continue it with resume_from_checkpoint={str(aside)!r}" if earlier[0].name != HISTORY else ""
            what = "an earlier run" if more else f"the {HISTORY} of a run or an evaluation"
            say(f"{self.path} holds {what}: moved to {aside}{more}")

    def set_aside_after(self, step: int) -> None:
        """Move checkpoints of later steps than `step`, from which the run goes on, aside: damaged ones, or those of another future."""
        later = [path for path in files.checkpoints(self.path) if int(path.name.removeprefix("checkpoint-")) > step]
        if later:
            say(f"{listing(path.name for path in later)} of {self.path} moved to {self._set_aside(later)}")

    def _set_aside(self, paths: Sequence[Path]) -> Path:
        number = 1
        while (aside := self.path / f"earlier-{number}").exists():
            number += 1
        with files.writing_to(aside):
            aside.mkdir()
            for path in paths:
                path.rename(aside / path.name)
        return aside

    def _make(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock_out_others()
            files.recover(self.path)
        except OSError as error:
            what = f"output_dir {self.path} cannot be used ({error.strerror})"
            raise CheckpointError(f"{what}; choose a folder that can be written") from None

    def _lock_out_others(self) -> None:
        """Two processes in one run folder would take each other's half-written checkpoints for leftovers of a kill."""
        try:
            import fcntl
        except ImportError:  # Windows has no advisory locks of this kind
            return
        if self._lock is None:
            self._lock = (self.path / ".lock").open("a")  # the system releases it, however the process ends
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            how = "wait for it, stop it, or choose another output_dir"
            raise TrainingError(f"another process is training in {self.path}; {how}") from None

    def end(self) -> None:
        """Let other processes use the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def find(self, resume: str | Path | bool) -> Path | None:
        """The checkpoint to continue from: the given folder, the newest valid one below a given run folder, or (True) below this.

        None when this run has no checkpoint yet. Raises CheckpointError when a given folder is damaged or none.
        """
        self._make()
        if resume is True or str(resume).lower() == "true":
            found = files.newest_valid(self.path)
            if found is None and files.checkpoints(self.path):
                how = "start anew with overwrite_output_dir=True"
                raise CheckpointError(f"{self.path}: every checkpoint is damaged; {how}")
            if found is None:
                say(f"{self.path} has no checkpoint yet: starting at step 0")
            return found
        given = Path(str(resume))
        if given.is_dir() and (given / f"{STATE}.json").is_file():
            if problems := files.verify(given):
                how = "use resume_from_checkpoint=True for the newest valid one"
                raise CheckpointError(f"{given} is damaged ({listing(problems, 2)}); {how}")
            return given
        if given.is_dir() and files.checkpoints(given):
            return files.newest_valid(given)
        wrong = f"resume_from_checkpoint={str(given)!r} is not a checkpoint of a training run"
        raise CheckpointError(f"{wrong}; give a folder checkpoint-<step>, a run folder, or True")

    # -- history

    def rewrite_history(self, history: Sequence[dict[str, Any]]) -> None:
        """Set the history file to exactly `history`: lines after the checkpoint that a run continues from did not happen."""
        files.atomic_write(self.path / HISTORY, "".join(json.dumps(record) + "\n" for record in history))

    def log(self, record: dict[str, Any]) -> None:
        """Append one record, durably."""
        files.append_line(self.path / HISTORY, json.dumps(record))

    # -- checkpoints

    def save(
        self,
        step: int,
        save_model: Any,
        engine_state: dict[str, Any],
        state: TrainerState,
        callbacks: Sequence[TrainerCallback],
        args: TrainingArguments,
    ) -> Path:
        """Write `checkpoint-<step>`: weights, engine state, position, history and callbacks; then drop what exceeds the limit."""
        final = self.path / f"checkpoint-{step}"
        with files.staged_folder(final) as staging:
            save_model(staging)
            position = dataclasses.asdict(state)
            if state.best_model_checkpoint:  # a name, not a path: the folder of the run may be moved
                position["best_model_checkpoint"] = Path(state.best_model_checkpoint).name
            theirs = [[type(c).__name__, c.state_dict()] for c in callbacks]
            write_tree(staging, STATE, {"engine": engine_state, "trainer": position, "callbacks": theirs})
            (staging / "training_args.json").write_text(args.to_json(), encoding="utf-8")
        if args.save_total_limit is not None:
            best = [Path(state.best_model_checkpoint)] if state.best_model_checkpoint else []
            files.prune(self.path, args.save_total_limit, protect=best)
        return final

    def load(
        self, folder: Path, engine: Accelerator, fresh: TrainerState, callbacks: Sequence[TrainerCallback]
    ) -> TrainerState:
        """Set engine and callbacks to the state in `folder` and return the run's position.

        `fresh` is the state that this run would start with: the checkpoint must be of the same data and recipe, else
        TrainingError names what differs.
        """
        tree = read_tree(folder, STATE)
        state = TrainerState(**tree["trainer"])
        if state.fingerprint != fresh.fingerprint:
            how = "give the same data, or start a new run in another output_dir"
            raise TrainingError(f"{folder} is of a run on other training data; {how}")
        there, here = state.recipe, fresh.recipe
        if differing := [f"{k}: {there.get(k)!r} there, {v!r} here" for k, v in here.items() if there.get(k) != v]:
            how = "give the same arguments, or another output_dir"
            raise TrainingError(f"{folder} is of another run ({listing(differing, 3)}); {how}")
        engine.restore(tree["engine"])
        saved = list(tree["callbacks"])
        for callback in callbacks:  # several of one class stand in the order in which they were given
            place = next((i for i, (name, _) in enumerate(saved) if name == type(callback).__name__), None)
            if place is not None:
                callback.load_state_dict(saved.pop(place)[1])
        state.max_steps = fresh.max_steps
        if state.best_model_checkpoint:
            state.best_model_checkpoint = str(folder.parent / state.best_model_checkpoint)
        return state
