"""`unpad evaluate --model RUN`: judge a model on a split; prints the metrics and writes them to `evaluation.json`.

What is not given is taken from the run's config.yaml: task, data, columns, longest input, and the rows it held out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpad.cli._options import Command, options_of
from unpad.errors import ArgumentError, DataError, listing

FILE = "evaluation.json"


@dataclass
class EvaluateOptions:
    """Which model is judged on what."""

    model: str | None = None
    """Folder of a run or of a model, or a Hub id."""
    task: str | None = None
    """What the model does, e.g. text-classification; null: that of the run, or told by the model's head."""
    data: str | None = None
    """Data set: a file, a folder, "helpdesk/pairs", or a Hub id; null: that of the run."""
    data_name: str | None = None
    """Configuration of the data set, where it has several."""
    split: str | None = None
    """Split to judge on; "test[:100]" takes a part. null: the rows that the run was judged on, or the only split of other data."""
    text_column: str | None = None
    """Column of the text; null: that of the run, or found by name."""
    text_pair_column: str | None = None
    """Column of the second text of a pair; null: that of the run, or found by name."""
    label_column: str | None = None
    """Column of the labels; null: that of the run, or found by name."""
    empty_targets: str | None = None
    """Texts with a source and a target: "drop" leaves out rows that lack one; null: as in the run, or "error"."""
    max_length: int | None = None
    """Longest input in tokens; null: that of the run, or what the model can hold."""
    num_beams: int | None = None
    """Hypotheses that beam search follows, where texts are written; null: the model's own, or 1."""
    max_new_tokens: int | None = None
    """Tokens that are written at most; null: the model's own."""
    eval_max_tokens: int = 4096
    """Token budget of a batch."""
    precision: str = "auto"
    """Number format of matrix products: auto, fp32, bf16 or fp16."""
    use_cpu: bool = False
    """Stay on the CPU even where there is a GPU."""
    output_dir: str | None = None
    """Folder for evaluation.json; null: the model's folder, or the current one for a Hub id."""


def command() -> Command:
    about = "Judge a model on a split of a data set. What is not given is taken from the run's config.yaml."
    return Command("evaluate", about, {"options": options_of(EvaluateOptions)})


def run(argv: Sequence[str]) -> int:
    options = command().parse(argv)
    if options["model"] is None:
        raise ArgumentError("unpad evaluate: --model is missing; give the folder of a run, of a model, or a Hub id")
    from unpad.cli._run import read_config, refuse_no_folder

    if options["output_dir"] is not None:
        refuse_no_folder(Path(options["output_dir"]))
    kept = read_config(options["model"])
    if options["data"] is None and "data" not in kept:
        what = f"{options['model']!r} is not the folder of a run (there is no config.yaml in it)"
        raise ArgumentError(f"unpad evaluate: {what}; check the path, or give --data for a model from elsewhere")
    options["data"], own = options["data"] or kept["data"], options["data"] in (None, kept.get("data"))
    return _evaluate(options, kept, own)


def columns_of(options: Mapping[str, Any], kept: Mapping[str, Any], dataset: Any) -> dict[str, Any]:
    """The columns to use: those given, else those of the run where the data have them (another file may call them otherwise)."""
    names = {name for split in dataset.values() for name in split.column_names}
    chosen = {}
    for key in ("text", "text_pair", "label"):
        old = kept.get(f"{key}_column")
        chosen[key] = options.get(f"{key}_column") or (old if old in names else None)
    return chosen


def _evaluate(options: dict[str, Any], kept: dict[str, Any], own: bool) -> int:
    """Judge; `own`: on the data of the run."""
    import tempfile

    from unpad.cli._data import longest_input, naming, set_writing, tokenizer_for
    from unpad.cli._report import shown_metrics
    from unpad.models import auto
    from unpad.train.arguments import TrainingArguments
    from unpad.train.trainer import Trainer

    task = _task(options["task"] or kept.get("task"), options["model"])
    options["task"] = task.name
    split, name = _split(options, kept, own)
    from datasets import DatasetDict

    raw = DatasetDict({"test": split})
    model = getattr(auto, task.auto_class).from_pretrained(options["model"])
    set_writing(model, task, options)
    tokenizer = tokenizer_for(task, options["model"])
    most = kept.get("max_length") if options["max_length"] is None else options["max_length"]
    longest = longest_input(most, options["model"], model.config, tokenizer)
    with naming(options["data"]):
        columns = task.columns(raw, **columns_of(options, kept, raw), labelled=True)
        asked = {**kept, "empty_targets": options["empty_targets"] or kept.get("empty_targets")}
        settings = {name: asked[name] for name in task.settings if asked.get(name) is not None}
        more = {"max_length": longest, "label_names": _names(model.config)}
        more |= {"config": model.config} if task.generates else {}
        prepared = task.prepare(raw, tokenizer, columns, **more, **settings)
        if task.classes and prepared.num_labels is None:
            hidden = f"all labels in {columns.label!r} of {name!r} are hidden (-1 or missing)"
            raise DataError(f"{hidden}; give a --split, or --data, that has them")
    data = prepared.data["test"]
    with tempfile.TemporaryDirectory() as scratch:  # the history of the run is not to be touched
        args = TrainingArguments(
            output_dir=scratch, eval_max_tokens=options["eval_max_tokens"], precision=options["precision"],
            use_cpu=options["use_cpu"], disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            model, args, task.collator(tokenizer, **settings), processing_class=tokenizer,
            compute_metrics=task.metrics(model.config, prepared.notes.get("test")),
        )  # fmt: skip
        record = trainer.evaluate(data)
    if not shown_metrics(record):
        wrong = f"{options['data']}: {name} has no labels to judge by (hidden or missing)"
        raise DataError(f"{wrong}; give a --split, or --data, that has them")
    return _report(options, name, len(split), record)


def _split(options: dict[str, Any], kept: dict[str, Any], own: bool) -> tuple[Any, str]:
    """The rows to judge on and their name."""
    from unpad.cli._data import load_split, load_splits

    data, data_name = options["data"], options["data_name"]
    if own:
        data_name = data_name or kept.get("data_name")
        if options["split"] is None and "train_split" in kept:
            chosen = ("train_split", "eval_split", "eval_data", "seed")
            splits = load_splits(data, data_name, **{key: kept[key] for key in chosen})
            if splits.eval is not None:
                return splits.eval, splits.eval_name
    if options["split"] is not None:
        return load_split(data, data_name, options["split"]), options["split"]
    from unpad.data.load import load_dataset

    raw: Any = load_dataset(data, data_name)
    if len(raw) > 1 and "validation" not in raw:
        raise ArgumentError(f"unpad evaluate: {data!r} has several splits; give --split, one of: {listing(raw)}")
    only = "validation" if "validation" in raw else next(iter(raw))
    return raw[only], only


def _task(name: str | None, model: str) -> Any:
    """The task called `name`, or the one that the model's head is for."""
    from unpad.core.heads import HEADS
    from unpad.models.auto import AutoConfig
    from unpad.tasks import task, task_of

    if name is not None:
        return task(name)
    classes = AutoConfig.from_pretrained(model).architectures
    endings = {kind.suffix: head for head, kind in HEADS.items() if head != "base"}
    found = [task_of(head) for ending, head in endings.items() if any(c.endswith(ending) for c in classes)]
    if not found or found[0] is None:
        heads = listing(classes) or "no architecture"
        raise ArgumentError(f"unpad evaluate: {model!r} does not say what it is for ({heads}); give --task")
    return found[0]


def _names(config: Any) -> list[str] | None:
    """The model's label names, by which the data's labels are numbered; None when it only has numbers."""
    names = list(config.id2label.values())
    return None if names == [f"LABEL_{i}" for i in range(len(names))] else names


def _report(options: dict[str, Any], split: str, rows: int, record: dict[str, float]) -> int:
    from rich.console import Console

    from unpad import __version__
    from unpad.checkpoint.files import atomic_write, writing_to
    from unpad.cli._report import metric_table, shown_metrics

    folder = Path(options["output_dir"] or (options["model"] if Path(options["model"]).is_dir() else "."))
    metrics = shown_metrics(record)
    content: dict[str, Any] = {name: options[name] for name in ("model", "task", "data")}
    content |= {"split": split, "rows": rows, "metrics": metrics}
    content |= {"seconds": record.get("eval_runtime"), "unpad": __version__}
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    out = Console(highlight=False, soft_wrap=True)
    out.print()
    metric_table(out, [], metrics, f"{split} of {content['data']} ({rows} rows)")
    out.print(f"written to   {folder / FILE}", markup=False)
    return 0
