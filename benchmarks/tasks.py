"""Side by side with `transformers` on named entities, masked language modelling and question answering, in one run.

    python benchmarks/tasks.py ner --data FOLDER            speed of training and pipeline, memory (likewise: mlm, qa)
    python benchmarks/tasks.py ner quality --data FOLDER    the issue's recipe on both sides (long)
    python benchmarks/tasks.py mlm flat --data FOLDER       memory of evaluating 100 and 10,000 chunks

FOLDER holds conll2003/, imdb/, policyqa/ and xquad/ as parquet. Both sides get the same tokenized rows of the bundled MiniLM and are
judged by the same functions. `--side` runs one of them alone.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sides import NAMES, Row, child, interleaved, model_folder, row, table, train_speed

CHUNK, CHUNKS = 128, 10_000


@dataclass
class Job:
    """One task: what both sides learn from, and how they are judged."""

    task: str
    recipe: dict[str, Any]
    prepared: Any
    tests: dict[str, tuple[Any, Any]]
    """Name -> (prepared rows, notes) to judge on."""
    inputs: list[Any]
    """Inputs of the pipeline."""


def job(name: str, data: Path) -> Job:
    from datasets import DatasetDict

    import unpad
    from unpad.tasks import task

    tokenizer = unpad.AutoTokenizer.from_pretrained("minilm")
    found = {"ner": "token-classification", "mlm": "fill-mask", "qa": "question-answering"}[name]
    kind = task(found)

    def prepared(raw: Any, **settings: Any) -> Any:
        return kind.prepare(raw, tokenizer, kind.columns(raw, labelled=True, **columns), **settings)

    columns: dict[str, str] = {}
    if name == "ner":
        columns = {"label": "ner_tags"}
        raw = unpad.load_dataset(str(data / "conll2003"))
        names = json.loads((data / "conll2003" / "labels.json").read_text())["ner_tags"]
        raw = named(DatasetDict({k: raw[k] for k in ("train", "validation")}), "ner_tags", names)
        done = prepared(raw, max_length=128)
        texts = [" ".join(row["tokens"]) for row in raw["validation"].select(range(1000))]
        return Job(
            found,
            {"learning_rate": 2e-5, "num_train_epochs": 3},
            done,
            {"validation": (done.data["validation"], None)},
            texts,
        )
    if name == "mlm":
        raw = unpad.load_dataset(str(data / "imdb"))
        raw = DatasetDict({k: raw[k].shuffle(seed=1).select(range(n)) for k, n in (("train", 6000), ("test", 1200))})
        done = prepared(raw, chunk_size=CHUNK)
        done.data["train"] = done.data["train"].select(range(min(CHUNKS, len(done.data["train"]))))
        words = [text.split()[:40] for text in raw["test"]["text"][:1000]]
        texts = [" ".join([*w[: len(w) // 2], "[MASK]", *w[len(w) // 2 + 1 :]]) for w in words]
        recipe = {"learning_rate": 5e-5, "num_train_epochs": 1}
        return Job(found, recipe, done, {"test": (done.data["test"].select(range(1000)), None)}, texts)
    raw = unpad.load_dataset(str(data / "policyqa"))
    raw = DatasetDict({k: raw[k] for k in ("train", "validation")})
    done = prepared(raw, max_length=384, stride=128)
    other = unpad.load_dataset("parquet", data_files={"test": str(data / "xquad" / "en.parquet")})
    judged = prepared(DatasetDict({"test": other["test"]}), max_length=384, stride=128)
    asked = [{"question": r["question"], "context": r["context"]} for r in other["test"].select(range(1000))]
    tests = {
        "policyqa": (done.data["validation"], done.notes["validation"]),
        "xquad": (judged.data["test"], judged.notes["test"]),
    }
    return Job(found, {"learning_rate": 3e-5, "num_train_epochs": 2}, done, tests, asked)


def named(raw: Any, column: str, names: list[str]) -> Any:
    from datasets import ClassLabel, Sequence

    return type(raw)({k: part.cast_column(column, Sequence(ClassLabel(names=names))) for k, part in raw.items()})


# ---- the two sides ----


def trainer(work: Job, side: str, out: str, precision: str = "defaults", **more: Any) -> Any:
    more = {"seed": 1, **work.recipe, **more}
    columns = ["input_ids", "token_type_ids", "labels", "start_positions", "end_positions"]
    train = work.prepared.data["train"]
    if side == "unpad":
        import unpad
        from unpad.tasks import task

        unpad.set_seed(more["seed"])
        kind, tokenizer = task(work.task), unpad.AutoTokenizer.from_pretrained("minilm")
        model = getattr(unpad, kind.auto_class).from_pretrained("minilm", **work.prepared.model_options)
        arguments = unpad.TrainingArguments(
            out, precision="fp32" if precision == "fp32" else "auto", disable_tqdm=True, draw_curves=False,
            save_strategy="no", overwrite_output_dir=True, **more,
        )  # fmt: skip
        return unpad.Trainer(
            model, arguments, kind.collator(tokenizer), train_dataset=train, processing_class=tokenizer
        )
    import transformers

    transformers.set_seed(more["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    classes = {"token-classification": ("TokenClassification", transformers.DataCollatorForTokenClassification),
               "fill-mask": ("MaskedLM", transformers.DataCollatorForLanguageModeling),
               "question-answering": ("QuestionAnswering", transformers.DataCollatorWithPadding)}  # fmt: skip
    auto, collator = classes[work.task]
    options = {k: v for k, v in work.prepared.model_options.items() if k != "problem_type"}
    model = getattr(transformers, f"AutoModelFor{auto}").from_pretrained(model_folder(), **options)
    arguments = transformers.TrainingArguments(out, disable_tqdm=True, report_to=[], save_strategy="no", **more)
    train = train.select_columns([c for c in columns if c in train.column_names])
    return transformers.Trainer(model, arguments, collator(tokenizer), train_dataset=train, processing_class=tokenizer)


def judged(work: Job, made: Any, side: str) -> dict[str, float]:
    """The figures of a trained model; the same code for both sides."""
    import torch

    from unpad.tasks import task

    out: dict[str, float] = {}
    for name, (rows, notes) in work.tests.items():
        if work.task == "fill-mask":
            out["perplexity"] = perplexity(work, made, side)
            continue
        columns = [
            c
            for c in ("input_ids", "token_type_ids", "labels", "start_positions", "end_positions")
            if c in rows.column_names
        ]
        found = made.predict(rows.select_columns(columns))
        logits, labels = found.predictions, found.label_ids
        if isinstance(logits, tuple):
            logits, labels = np.stack(logits, -1), None if labels is None else np.stack(labels, -1)
        config = made.model.config
        judge = task(work.task).metrics(_ours(config), notes)
        given = {"rows": np.arange(len(logits))} if judge.by_row else {}
        judge.add_batch(predictions=judge.reduce(torch.from_numpy(logits)).numpy(), references=labels, **given)
        out.update(
            {f"{name} {key}": value for key, value in judge.compute().items() if "_" not in key or key == "exact_match"}
        )
    return out


def _ours(config: Any) -> Any:
    from unpad import AutoConfig

    return AutoConfig.for_model(config.model_type, id2label=dict(config.id2label))


def perplexity(work: Job, made: Any, side: str) -> float:
    """Over fixed masks, the same on both sides: every chunk masked once by our collator, judged by the model itself."""
    import torch

    from unpad import AutoTokenizer
    from unpad.data.tokens import TokenStore
    from unpad.tasks import task

    rows, _ = work.tests["test"]
    store = TokenStore.from_dataset(rows, labels_of="token")
    collator = task(work.task).collator(AutoTokenizer.from_pretrained("minilm"))
    model, total, count = made.model.eval(), 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(store), 16):
            batch = collator.mask(store.pack(range(start, min(start + 16, len(store)))), seed=7, epoch=None)
            if side == "unpad":
                output = model(batch)
                total, count = total + float(output.loss_sum), count + int(output.loss_count)
            else:
                ids, labels = batch.pad(batch.input_ids), batch.pad(batch.labels, fill=-100)
                masked = int((labels != -100).sum())
                output = model(input_ids=ids, attention_mask=batch.pad(torch.ones_like(batch.input_ids)), labels=labels)
                total, count = total + float(output.loss) * masked, count + masked
    return math.exp(total / count)


# ---- what is measured ----


def quality(work: Job, sides: list[str], more: dict[str, Any]) -> list[Row]:
    found: dict[str, dict[str, float]] = {}
    for side in sides:
        with tempfile.TemporaryDirectory() as out:
            made = trainer(work, side, out, **more)
            before = {f"{k} before": v for k, v in judged(work, made, side).items()} if work.task == "fill-mask" else {}
            started = time.perf_counter()
            made.train()
            seconds = time.perf_counter() - started
            found[side] = {**before, **judged(work, made, side), "training, s": seconds}
        print(json.dumps({"task": work.task, "side": side, **more, **found[side]}), flush=True)
    if len(sides) < 2:
        return []
    return [row(key, {side: found[side][key] for side in NAMES}) for key in found["unpad"]]


def pipelines(work: Job, segments: int) -> list[Row]:
    import transformers

    import unpad
    from unpad.tasks import task

    with tempfile.TemporaryDirectory() as out:
        model = getattr(unpad, task(work.task).auto_class).from_pretrained("minilm", **work.prepared.model_options)
        model.save_pretrained(out)
        unpad.AutoTokenizer.from_pretrained("minilm").save_pretrained(out)
        asked = work.inputs
        ours = unpad.pipeline(work.task, model=out)
        if work.task not in transformers.pipelines.SUPPORTED_TASKS:  # 5.23 has none for question answering any more
            print(f"transformers has no pipeline for {work.task}: nothing to compare with")
            return []
        theirs = transformers.pipeline(work.task, model=out)
        calls: dict[str, Callable[[], Any]] = {"unpad": lambda: ours(asked), "transformers": lambda: theirs(asked)}
        calls["unpad"]()

        def segment(side: str) -> float:
            started = time.perf_counter()
            calls[side]()
            return time.perf_counter() - started

        seconds = interleaved(segment, segments)
    return [row(f"{work.task} pipeline on {len(asked)} inputs, defaults, s", seconds)]


def memory(name: str, data: Path, code: str, sides: tuple[str, ...] = NAMES, runs: int = 1) -> dict[str, float]:
    """Peak resident memory, MiB, of fresh processes that run `code`; the median of `runs` of them."""
    peaks = {}
    for side in sides:
        line = f"""
import sys, json, tempfile; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import tasks
work = tasks.job({name!r}, Path({str(data)!r}))
with tempfile.TemporaryDirectory() as out:
    made = tasks.trainer(work, {side!r}, out, max_steps=30)
    {code}
peak = [l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]
print(json.dumps({{"peak": int(peak) / 1024}}))
"""
        peaks[side] = statistics.median(child(line)["peak"] for _ in range(runs))
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["ner", "mlm", "qa"])
    parser.add_argument(
        "what", nargs="?", default="speed", choices=["speed", "train", "pipeline", "memory", "quality", "flat"]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets (parquet)")
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max_steps", type=int, default=-1, help="stop the training of quality after so many steps")
    parser.add_argument("--side", choices=NAMES, help="one side alone (quality)")
    options = parser.parse_args()
    rows: list[Row] = []
    if options.what in ("speed", "memory"):
        name = f"{options.task}: peak memory of a training process, MiB"
        rows.append(row(name, memory(options.task, options.data, "made.train()", runs=options.segments)))
    if options.what == "flat":
        peaks = []
        for count in (100, CHUNKS):
            code = f"made.evaluate(work.prepared.data['train'].select(range({count})))"
            peaks.append(memory(options.task, options.data, code, ("unpad",))["unpad"])
        print(f"evaluating 100 chunks: {peaks[0]:.0f} MiB; {CHUNKS} chunks: {peaks[1]:.0f} MiB")
        return
    work = job(options.task, options.data)
    if options.what in ("speed", "train"):
        make = lambda side, out, precision, **more: trainer(work, side, out, precision, **more)  # noqa: E731
        rows += train_speed(f"{options.task}: training step", make, options.segments)
    if options.what in ("speed", "pipeline"):
        rows += pipelines(work, options.segments)
    if options.what == "quality":
        rows += quality(
            work,
            [options.side] if options.side else list(NAMES),
            {"seed": options.seed, "max_steps": options.max_steps},
        )
    table(rows)


if __name__ == "__main__":
    main()
