"""What a Trainer shares: the card of its model, its repository on a Hub, and what is sent there while it trains.

Uploads go on in the background and never end a training: one that fails is said, and the next save sends what is missing.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from unpad import __version__
from unpad.checkpoint.card import (
    CARD,
    CardFacts,
    DataFacts,
    card_on_hub,
    hub_id,
    model_card,
    model_facts,
    replaceable,
    unchanged,
    write_card,
)
from unpad.checkpoint.files import MANIFEST, atomic_write, checkpoints, writing_to
from unpad.errors import ArgumentError, HubError, nearest
from unpad.hub.push import TRAINING_FILES, Upload, Uploads, check_rights, commit, create, files_of
from unpad.notices import say, say_once
from unpad.train.data import TrainerData
from unpad.train.run_folder import HISTORY
from unpad.train.state import TrainerState

FAIR = 10.0
"""Seconds that a run which was asked to stop gives to uploads that are under way."""
PICTURE = "curves.png"
_ABOUT = (
    "language", "license", "tags", "model_name", "finetuned_from", "tasks", "dataset_tags", "dataset", "dataset_args",
)  # fmt: skip
_ASKED_FOR = ("learning_rate", "per_device_train_batch_size", "seed")
"""Arguments that a card tells even where they are the defaults."""
_OPTIMIZER = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "optim")
_SCHEDULE = ("lr_scheduler_type", "warmup_steps", "warmup_ratio")
_BESIDE_RECIPE = ("num_train_epochs", "load_best_model_at_end", "metric_for_best_model", "max_tokens_per_batch")
_READERS = ("csv", "json", "parquet", "text", "arrow", "pandas", "generator", "sql", "xml")
"""Names that `datasets` gives to data without one."""


class TrainerPushes(TrainerData):
    """The part of a Trainer that shares its model."""

    state: TrainerState
    hub_model_id: str | None = None
    """Id of the repository; None until something is to be sent."""
    card: dict[str, Any]
    """What the card says beside what the Trainer knows: arguments of `create_model_card`."""
    _on_main: Callable[[Callable[[], Any]], Any]
    save_model: Callable[..., None]
    _best_is_loaded = False
    _uploads: Uploads | None = None  # of the main process
    _keeps_card = False  # the repository, one of its own

    def _begin_sharing(self) -> None:
        """Take note of what is known only now; with `push_to_hub` find out whether the repository can be written to."""
        self.card, self._judged, self._sent = {}, {}, {}
        self._since, self._pairs = time.time(), has_pairs(self.train_dataset)
        report = getattr(self.processing_class, "truncation_report", None)
        found = report() if callable(report) else None
        self._cut = None if found is None else (found.truncated, found.texts, found.share)
        if self.args.push_to_hub:
            self._connect()

    # -- the card

    _judged: dict[str, Any]
    _pairs: bool
    _sent: dict[str, Upload]
    _since: float
    _cut: tuple[int, int, float] | None

    def create_model_card(
        self, language: str | list[str] | None = None, license: str | None = None, tags: str | list[str] | None = None,
        model_name: str | None = None, finetuned_from: str | None = None, tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None, dataset: str | list[str] | None = None, dataset_args: str | list[str] | None = None,
    ) -> None:  # fmt: skip
        """Write README.md into `output_dir`; a card that a person wrote or changed stays as it is.

        What is given is told by all later cards of this Trainer, too: codes of languages and of a license, further tags, the name, what it
        was fine-tuned from, its task, ids of its data on the Hub (`dataset_tags`), their name and configuration.
        """
        given = (language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args)
        self.card |= {name: value for name, value in zip(_ABOUT, given, strict=True) if value is not None}
        self._on_main(lambda: self.write_card(Path(self.args.output_dir)))

    def write_card(self, folder: Path) -> None:
        """Write the card into a folder. Of many processes the main one calls this."""
        run = Path(self.args.output_dir)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if not replaceable(folder):
            say_once(f"{folder / CARD} was not made by unpad, or changed since, and stays as it is")
        elif not replaceable(run):
            atomic_write(folder / CARD, (run / CARD).read_bytes())
        else:
            write_card(folder, model_card(self._facts(folder)))

    def _facts(self, folder: Path) -> CardFacts:
        """What this Trainer knows of its model, for a card in `folder`."""
        about, state, model = self.card, self.state, self.model
        name = self.hub_model_id or Path(os.path.abspath(self.args.output_dir)).name
        known: dict[str, Any]
        if self._native:
            known = model_facts(model)
        else:
            theirs = type(model).__module__.partition(".")[0] == "transformers"
            known = {"class_name": type(model).__name__, "library": "transformers" if theirs else "pytorch"}
            known["parameters"] = sum(p.numel() for p in model.parameters())
            base = getattr(model, "name_or_path", None) or None
            known |= {"base": hub_id(base) or (base and Path(base).name), "base_id": hub_id(base)}
        if "finetuned_from" in about:
            known |= {"base": about["finetuned_from"], "base_id": hub_id(about["finetuned_from"])}
        train = None
        if state.global_step:
            train = self._data(self.train_dataset)
            best = self._best_is_loaded and state.best_step is not None
            known |= {
                "history": state.log_history, "step": state.best_step if best else state.global_step, "epochs": state.epoch,
                "last_step": state.global_step, "total_steps": 0 if state.stopped_early else state.max_steps,
                "chosen_by": self.args.best_metric if best else None, "recipe": self._recipe(),
                "precision": state.recipe.get("precision"), "hardware": self._hardware(),
            }  # fmt: skip
        judged = {} if self.eval_dataset is None else {"eval": self.eval_dataset}
        judged = {prefix: self._data(data, prefix) for prefix, data in {**judged, **self._judged}.items()}
        drawn = folder / PICTURE
        return CardFacts(
            name=about.get("model_name") or name.rpartition("/")[2],
            load=self.hub_model_id or name,
            task=next(iter(_listed(about.get("tasks"))), None),
            pairs=self._pairs,
            language=_listed(about.get("language")),
            license=about.get("license"),
            tags=_listed(about.get("tags")),
            datasets=_listed(about.get("dataset_tags")) or ([train.hub_id] if train and train.hub_id else []),
            train=train,
            judged=judged,
            cut=self._cut,
            picture=PICTURE if drawn.is_file() and drawn.stat().st_mtime >= self._since else None,
            versions={
                "Python": platform.python_version(),
                "unpad": __version__,
                **{name: version(name) for name in ("torch", "tokenizers", "datasets")},
            },
            **known,
        )

    def _data(self, dataset: Any, prefix: str = "eval") -> DataFacts:
        """What is known of a data set; `prefix` is that of the metrics it gives."""
        found, train = data_facts(dataset), data_facts(self.train_dataset)
        told: dict[str, Any] = {"split": found.split or (None if prefix == "eval" else prefix)}
        same = (found.name, found.config) == (train.name, train.config)  # nothing says that they are of another source
        if dataset is self.train_dataset or (same and (found.name or prefix == "eval")):
            names, configs = _listed(self.card.get("dataset")), _listed(self.card.get("dataset_args"))
            ids = _listed(self.card.get("dataset_tags"))
            told |= {"name": ", ".join(names or ids), "config": ", ".join(configs)}
            told["hub_id"] = ids[0] if len(ids) == 1 else None
        store = self._stores.get(id(dataset))
        if store is not None and store[0] is dataset:
            told |= {"rows": len(store[1]), "tokens": store[1].tokens, "longest": int(store[1].lengths.max())}
        return dataclasses.replace(found, **{key: value for key, value in told.items() if value})

    def _recipe(self) -> dict[str, Any]:
        """The arguments of the run that differ from their defaults, and those that people always ask for."""
        args = self.args
        values = {**self.state.recipe, **{name: getattr(args, name) for name in _BESIDE_RECIPE}}
        given = {"optimizer": (self._given_optimizer, _OPTIMIZER), "schedule": (self._given_scheduler, _SCHEDULE)}
        told: dict[str, Any] = {}
        for what, (theirs, replaced) in given.items():
            if theirs is not None:
                values = {name: value for name, value in values.items() if name not in replaced}
                told[what] = f"{type(theirs).__name__}, made by the script"
        usual = {f.name: f.default for f in dataclasses.fields(args)}
        if args.max_steps > 0:
            values.pop("num_train_epochs")
        differ = {k: v for k, v in values.items() if k in _ASKED_FOR or v != usual.get(k)}
        differ = {k: v for k, v in differ.items() if k not in ("precision", "max_steps")}  # told beside
        return {**differ, **told}

    _given_optimizer: Any
    _given_scheduler: Any
    eval_dataset: Any

    def _hardware(self) -> str:
        device, count = self.accelerator.device, self.accelerator.num_processes
        name = f"{device.type.upper()} {platform.machine()}"
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        return name if count == 1 else f"{count} processes, {name}"

    # -- the Hub

    def _connect(self, token: str | None = None, private: bool | None = None) -> None:
        """Make sure that the repository is there and that the token may write. Raises HubError."""
        args = self.args
        token = args.hub_token if token is None else token
        private = args.hub_private_repo if private is None else private
        name = args.hub_model_id or Path(os.path.abspath(args.output_dir)).name

        def prepare() -> str:
            full = check_rights(name, token=token, private=private)
            there = card_on_hub(full, token, args.hub_revision)
            self._keeps_card = there is not None and not unchanged(there)
            if self._keeps_card:
                say(f"{full} has a {CARD} that was not made by unpad, or changed since, and keeps it")
            self._uploads = Uploads(full, token, args.hub_revision, private=private)
            return full

        self.hub_model_id = self._on_main(prepare)

    def push_to_hub(
        self, commit_message: str | None = "End of training", blocking: bool = True, token: str | None = None, revision: str | None = None,
        private: bool | None = None, **card: Any,
    ) -> Any:  # fmt: skip
        """Save the model into `output_dir` and send that folder, without checkpoints, as one commit.

        `card` are arguments of `create_model_card`. Returns the commit, or with `blocking=False` at once an `Upload`; None on other
        processes than the main one. Raises HubError, which says how to send the folder later.
        """
        for name in card:
            if name not in _ABOUT:
                near = nearest(name, _ABOUT)
                raise ArgumentError(f"push_to_hub has no argument {name!r}{near}; of the card: {', '.join(_ABOUT)}")
        self.card |= {name: value for name, value in card.items() if value is not None}
        if self.hub_model_id is None:
            self._connect(token, private)
        self.save_model(_internal_call=True)
        found: list[Any] = []
        self._on_main(lambda: found.append(self._push(commit_message or "End of training", blocking, token, revision)))
        return found[0] if found else None

    def _push(self, message: str, blocking: bool, token: str | None, revision: str | None) -> Any:
        uploads, folder, repo_id = self._uploads, Path(self.args.output_dir), self.hub_model_id
        assert uploads is not None and repo_id is not None
        where: dict[str, Any] = {"token": token or self.args.hub_token, "revision": revision or self.args.hub_revision}
        uploads.left = False
        if blocking:
            self._wait(uploads)
        files = self._without_kept(files_of(folder, list(TRAINING_FILES)))  # as a list: nothing is said of what stays
        try:
            if not blocking:
                return uploads.put(folder, message, files=files, **where)
            return commit(files, (), create(repo_id, "model", None, where["token"]), message=message, **where)
        except HubError as error:
            raise HubError(f"{error}; the model is whole in {folder}: {_again(folder, repo_id)}") from None

    def _without_kept(self, files: dict[str, Path]) -> dict[str, Path]:
        """The files without a card where the repository keeps its own."""
        return {name: path for name, path in files.items() if not (self._keeps_card and name == CARD)}

    def _wait(self, uploads: Uploads) -> HubError | None:
        """Wait for what is under way; the error of the last upload, which is said already."""
        if not uploads.done:
            say(f"waiting until {self.hub_model_id} has what was saved")
        try:
            uploads.wait()
        except HubError as error:
            return error
        return None

    def _push_checkpoint(self, saved: Path) -> None:
        """Send a checkpoint in the background, as `hub_strategy` asks. Never raises for what a Hub or a disk refuses."""
        args, uploads = self.args, self._uploads
        if uploads is None or not args.push_to_hub or args.hub_strategy == "end":
            return
        run, whole = Path(args.output_dir), args.hub_strategy == "all_checkpoints"
        files = files_of(saved, [*TRAINING_FILES, MANIFEST, "training_args.json"])
        files |= {name: run / name for name in (HISTORY,) if (run / name).is_file()}
        owed = [path for path in checkpoints(run) if self._is_owed(path.name)] if whole else []
        sent = {path.name: path for path in owed} if whole else {}
        if args.hub_strategy == "checkpoint":
            sent = {"last-checkpoint": saved}
        for name, folder in sent.items():
            files |= {f"{name}/{path}": file for path, file in files_of(folder, ()).items()}
        now = f"epoch {int(self.state.epoch)}" if args.save_strategy == "epoch" else f"step {self.state.global_step}"
        uploads.left = False
        try:
            message = f"Training in progress, {now}"
            upload = uploads.put(saved, message, keep_only_newest=not whole, files=self._without_kept(files))
        except (HubError, OSError) as error:
            what = f"checkpoint-{self.state.global_step} is not sent to {self.hub_model_id}"
            say(f"{what} ({error}); the next save tries again")
            return
        self._sent |= dict.fromkeys(sent, upload)

    def _is_owed(self, name: str) -> bool:
        """Whether a checkpoint is not on the Hub and not on its way."""
        upload = self._sent.get(name)
        return upload is None or (upload.is_done and upload.commit is None)

    def _finish_pushes(self) -> None:
        """After the last step: wait, send again what has failed, and say what to do when that fails, too."""
        uploads = self._uploads
        if uploads is None or not self.args.push_to_hub or self.hub_model_id is None:
            return
        if self.args.hub_strategy == "end":
            say(f"hub_strategy='end': {self.hub_model_id} gets the model with save_model() or push_to_hub()")
            return
        error, saved = self._wait(uploads), checkpoints(Path(self.args.output_dir))
        if error is not None and saved:
            self._push_checkpoint(saved[-1])
            error = self._wait(uploads)
        if error is not None and saved:
            lacks = f"{self.hub_model_id} does not have the end of this run ({error})"
            say(f"{lacks}: {_again(saved[-1], self.hub_model_id)}")

    def _leave_pushes(self) -> None:
        """Give uploads a moment; the process then ends without them."""
        uploads = self._uploads
        if uploads is None:
            return
        end = time.monotonic() + FAIR
        while not uploads.done and time.monotonic() < end:
            time.sleep(0.02)
        if not uploads.done:
            uploads.left = True
            say(f"{self.hub_model_id} does not have all yet; the next save sends it")


def data_facts(dataset: Any) -> DataFacts:
    """What a `datasets.Dataset` (or anything with rows) tells about itself."""
    info, split = getattr(dataset, "info", None), getattr(dataset, "split", None)
    sources = getattr(info, "download_checksums", None) or {}
    ids = [found[1] for url in sources if (found := re.match(r"hf://datasets/([^@]+)@", str(url)))]
    name, config = getattr(info, "dataset_name", None), getattr(info, "config_name", None)
    name = None if name in _READERS else name
    rows = None
    with suppress(TypeError):
        rows = len(dataset)
    return DataFacts(
        name=ids[0] if ids else name,
        hub_id=ids[0] if ids else None,
        config=config if (name or ids) and config and not str(config).startswith("default") else None,
        split=None if split is None else str(split),
        rows=rows,
    )


def has_pairs(dataset: Any) -> bool:
    """Whether the first rows of a data set have a second text, as far as token types tell."""
    if "token_type_ids" not in (getattr(dataset, "column_names", None) or ()):
        return False
    rows = dataset.with_format(None)[:4]["token_type_ids"]  # without a transform, which may draw random numbers
    return bool(rows) and all(1 in row for row in rows)


def _listed(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else [str(one) for one in value]


def _again(folder: Path, repo_id: str) -> str:
    return f"run unpad push {shlex.quote(str(folder))} {repo_id}"
