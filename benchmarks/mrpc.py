"""Side by side with `transformers` on MRPC and SST-2: speed, memory, start-up and quality, both sides in one run.

    python benchmarks/mrpc.py                 speed, memory and imports (about 10 minutes on 2 cores)
    python benchmarks/mrpc.py train           training throughput only; likewise: evaluate, pipeline, memory, imports
    python benchmarks/mrpc.py quality         3 epochs, 3 seeds, both sides (about 40 minutes)

Segments of the two sides alternate, the median of the segments is printed, and only ratios of one run mean anything. `--data`
names a folder with mrpc/ and sst2/; without it the bundled helpdesk data stand in. The model is the bundled MiniLM.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sides import PRECISIONS, Row, child, interleaved, model_folder, table, train_speed


def load(folder: Path | None) -> Any:
    """Raw train and validation pairs."""
    from unpad import load_dataset

    return load_dataset(str(folder / "mrpc")) if folder else load_dataset("helpdesk/pairs")


def tokenized(folder: Path | None) -> Any:
    """The pairs as both sides train on them; the tokens are equal on both sides."""
    from unpad import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("minilm")
    return load(folder).map(
        lambda e: tokenizer(list(e["sentence1"]), list(e["sentence2"]), truncation=True), batched=True
    )


def our_trainer(data: Any, out: str, precision: str, **more: Any) -> Any:
    import unpad

    unpad.set_seed(more.get("seed", 1))
    model = unpad.AutoModelForSequenceClassification.from_pretrained("minilm", num_labels=2)
    arguments = unpad.TrainingArguments(
        out, precision="fp32" if precision == "fp32" else "auto", disable_tqdm=True, draw_curves=False, save_strategy="no",
        overwrite_output_dir=True, **more,
    )  # fmt: skip
    tokenizer = unpad.AutoTokenizer.from_pretrained("minilm")
    return unpad.Trainer(
        model,
        arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        compute_metrics=judge,
    )


def their_trainer(data: Any, out: str, precision: str, **more: Any) -> Any:
    import transformers

    transformers.set_seed(more.get("seed", 1))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder(), num_labels=2)
    arguments = transformers.TrainingArguments(out, disable_tqdm=True, report_to=[], save_strategy="no", **more)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    return transformers.Trainer(
        model,
        arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        compute_metrics=judge,
    )


def judge(prediction: Any) -> dict[str, float]:
    logits, labels = prediction
    guess = logits.argmax(-1)
    both = int(((guess == 1) & (labels == 1)).sum())
    return {
        "accuracy": float((guess == labels).mean()),
        "f1": 2 * both / max(int((guess == 1).sum() + (labels == 1).sum()), 1),
    }


SIDES: dict[str, Callable[..., Any]] = {"unpad": our_trainer, "transformers": their_trainer}


def train(data: Any, segments: int) -> list[Row]:
    return train_speed(
        "training step", lambda side, out, precision, **more: SIDES[side](data, out, precision, **more), segments
    )


def evaluate(data: Any, segments: int) -> list[Row]:
    rows = []
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as out:
            trainers = {side: make(data, f"{out}/{side}", precision) for side, make in SIDES.items()}

            def segment(side: str, trainers: dict[str, Any] = trainers) -> float:
                started = time.perf_counter()
                trainers[side].evaluate()
                return time.perf_counter() - started

            for side in SIDES:
                segment(side)
            seconds = interleaved(segment, segments)
        rows.append(
            (
                f"evaluation of {len(data['validation'])} pairs, {precision}, s",
                seconds["unpad"],
                seconds["transformers"],
                seconds["transformers"] / seconds["unpad"],
            )
        )
    return rows


def pipelines(folder: Path | None, segments: int) -> list[Row]:
    import transformers

    import unpad

    texts = (
        list(unpad.load_dataset(str(folder / "sst2"))["validation"]["sentence"])
        if folder
        else [r["text"] for s in unpad.load_dataset("helpdesk").values() for r in s][:872]
    )
    with tempfile.TemporaryDirectory() as out:
        model = unpad.AutoModelForSequenceClassification.from_pretrained("minilm", num_labels=2)
        model.save_pretrained(out)
        unpad.AutoTokenizer.from_pretrained("minilm").save_pretrained(out)
        ours = unpad.pipeline("text-classification", model=out)
        full = unpad.pipeline("text-classification", model=out, precision="fp32")
        theirs = transformers.pipeline("text-classification", model=out)
        calls: dict[str, Callable[[], Any]] = {
            "unpad": lambda: ours(texts),
            "unpad fp32": lambda: full(texts),
            "transformers": lambda: theirs(texts),
        }
        for size in (8, 16, 32, 64):
            calls[f"transformers, batch_size={size}"] = lambda size=size: theirs(texts, batch_size=size)
        for name in ("unpad", "unpad fp32"):
            calls[name]()
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(segments):
            for name, call in calls.items():
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    best = min((n for n in median if "batch_size" in n), key=median.__getitem__)
    return [
        (
            f"pipeline on {len(texts)} sentences, defaults, s",
            median["unpad"],
            median["transformers"],
            median["transformers"] / median["unpad"],
        ),
        (
            f"the same against their best ({best.split(', ')[1]}), s",
            median["unpad"],
            median[best],
            median[best] / median["unpad"],
        ),
        (
            "the same with fp32 on both sides, s",
            median["unpad fp32"],
            median[best],
            median[best] / median["unpad fp32"],
        ),
    ]


def memory(folder: Path | None) -> list[Row]:
    """Peak resident memory of a process that trains 60 steps, evaluates and saves, at each side's defaults."""
    rows = {}
    for side, name in (("unpad", "our_trainer"), ("transformers", "their_trainer")):
        code = f"""
import sys, json, tempfile; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import mrpc
data = mrpc.tokenized({f"Path({str(folder)!r})" if folder else None})
with tempfile.TemporaryDirectory() as out:
    trainer = mrpc.{name}(data, out, "defaults", max_steps=60)
    trainer.train(); trainer.evaluate(); trainer.save_model(out + "/final")
peak = [l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]
print(json.dumps({{"peak": int(peak) / 1024}}))
"""
        rows[side] = statistics.median(child(code)["peak"] for _ in range(3))
    return [
        (
            "peak memory of a training process, MiB",
            rows["unpad"],
            rows["transformers"],
            rows["transformers"] / rows["unpad"],
        )
    ]


def imports() -> list[Row]:
    """Wall time of import statements in fresh interpreters, start of Python not counted."""

    def seconds(statement: str) -> float:
        return child(
            f"import time, json; t = time.perf_counter()\n{statement}\nprint(json.dumps({{'s': time.perf_counter() - t}}))"
        )["s"]

    pairs = {
        "import, s": ("import unpad", "import transformers"),
        "import Trainer and pipeline, s": (
            "from unpad import Trainer, pipeline",
            "from transformers import Trainer, pipeline",
        ),
    }
    rows = []
    for name, statements in pairs.items():
        for statement in statements:
            seconds(statement)
        times = [[seconds(statement) for statement in statements] for _ in range(5)]
        ours, theirs = (statistics.median(t[i] for t in times) for i in (0, 1))
        rows.append((name, ours, theirs, theirs / ours))
    return rows


def quality(data: Any, seeds: int) -> list[Row]:
    """Accuracy and F1 on validation after 3 epochs, batch 8, learning rate 5e-5, each side's defaults; mean over seeds.

    A seed stands for the same initial head, and both sides learn from the same batches in the same order: which rows come last moves a
    result by more than a point. Their own sampler gives epoch e of seed s the order of epoch e + 1 of seed s - 1, so that neighbouring seeds
    of theirs are not independent.
    """
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for seed in range(1, seeds + 1):
        batches: list[list[int]] = []
        for side, make in SIDES.items():
            with tempfile.TemporaryDirectory() as out:
                trainer = make(data, out, "defaults", seed=seed)
                if side == "unpad":
                    feed = trainer._feed()
                    batches = [rows.tolist() for step in range(feed.total_steps(3)) for rows in feed.rows_of(step)]
                else:
                    trainer.args.max_steps = len(batches)
                    trainer.get_train_dataloader = lambda trainer=trainer, order=batches: in_order(trainer, order)
                trainer.train()
                result = trainer.evaluate()
            found[side].append(result)
            shown = {k: result[k] for k in ("eval_loss", "eval_accuracy", "eval_f1")}
            print(json.dumps({"side": side, "seed": seed, **shown}), flush=True)
    rows = []
    for name in ("eval_accuracy", "eval_f1"):
        ours, theirs = (100 * statistics.mean(r[name] for r in found[side]) for side in SIDES)
        rows.append((f"{name}, mean of {seeds} seeds, points (last column: difference)", ours, theirs, ours - theirs))
    return rows


def in_order(trainer: Any, batches: list[list[int]]) -> Any:
    from torch.utils.data import DataLoader

    rows = trainer._remove_unused_columns(trainer.train_dataset, "training")
    return DataLoader(rows, batch_sampler=batches, collate_fn=trainer.data_collator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "what",
        nargs="?",
        default="all",
        choices=["all", "train", "evaluate", "pipeline", "memory", "imports", "quality"],
    )
    parser.add_argument("--data", type=Path, help="folder with mrpc/ and sst2/ (parquet)")
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows: list[Row] = []
    if options.what in ("all", "imports"):
        rows += imports()
    if options.what in ("all", "memory"):
        rows += memory(options.data)
    if options.what in ("all", "train"):
        rows += train(tokenized(options.data), options.segments)
    if options.what in ("all", "evaluate"):
        rows += evaluate(tokenized(options.data), options.segments)
    if options.what in ("all", "pipeline"):
        rows += pipelines(options.data, options.segments)
    if options.what == "quality":
        rows += quality(tokenized(options.data), options.seeds)
    table(rows)


if __name__ == "__main__":
    main()
