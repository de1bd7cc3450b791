"""Side by side with `transformers` on what writes text: translation and a model of code, both from scratch, and email subjects.

    python benchmarks/generation.py translation train --data FOLDER        milliseconds per step (likewise: code)
    python benchmarks/generation.py translation quality --data FOLDER      the recipe to the end, BLEU on the test set (long)
    python benchmarks/generation.py translation write --data FOLDER --model RUN    beam search and evaluation, speed
    python benchmarks/generation.py code quality --data FOLDER --minutes 20    perplexity after the same time on both sides (long)
    python benchmarks/generation.py code memory --data FOLDER              peak memory of training
    python benchmarks/generation.py subjects quality --data FOLDER         ROUGE against the first three sentences

FOLDER holds multi30k/, code_python/ and aeslc/ as parquet. Both sides start from the same weights and read the same token ids; `--side`
runs one of them alone.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sides import NAMES, Row, child, interleaved, row, step_clock, table, train_speed

TRANSLATION = {
    "per_device_train_batch_size": 128, "learning_rate": 7e-4, "lr_scheduler_type": "cosine", "warmup_steps": 800,
    "adam_beta2": 0.98, "label_smoothing_factor": 0.1, "num_train_epochs": 20,
}  # fmt: skip
CODE = {
    "per_device_train_batch_size": 16,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 100,
    "weight_decay": 0.1,
}
BLOCK = 256


@dataclass
class Job:
    """One task: its rows of token ids, which both sides share, and a model with its first weights."""

    name: str
    recipe: dict[str, Any]
    tokenizer: Any
    data: Any
    """Splits with input_ids and labels."""
    texts: Any
    """Splits with the texts: "source" and "target"."""
    model: Any
    folder: Path
    """Model and tokenizer, as `from_pretrained` reads them."""


def job(name: str, data: Path, folder: Path, trained: Path | None = None) -> Job:
    """The rows and the first weights of a job, in `folder`; with the vocabulary of a `trained` model where there is one."""
    import unpad

    unpad.set_seed(1)
    if name == "code":
        raw = unpad.load_dataset(str(data / "code_python"))
        tokenizer = unpad.AutoTokenizer.from_iterator(raw["train"]["content"], kind="byte-bpe", vocab_size=8000)
        config = unpad.AutoConfig.for_model(
            "gpt2", vocab_size=len(tokenizer), n_embd=384, n_layer=4, n_head=6, n_positions=BLOCK,
            bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        rows = {split: chunks(tokenizer, part["content"]) for split, part in raw.items()}
        return made(name, CODE, tokenizer, rows, None, unpad.AutoModelForCausalLM.from_config(config), folder)
    if name == "translation":
        raw = unpad.load_dataset(str(data / "multi30k"))
        texts = {
            split: {"source": [t["en"] for t in part["translation"]], "target": [t["de"] for t in part["translation"]]}
            for split, part in raw.items()
        }
        recipe, size, start = TRANSLATION, 8000, {"dropout": 0.3, "attention_dropout": 0.1}
    else:
        raw = unpad.load_dataset(str(data / "aeslc"))
        texts = {split: {"source": part["body"], "target": part["subject"]} for split, part in raw.items()}
        recipe = {**TRANSLATION, "per_device_train_batch_size": 32, "num_train_epochs": 4}
        size, start = 12000, {"dropout": 0.2}
    both = [*texts["train"]["source"], *texts["train"]["target"]]
    make = unpad.AutoTokenizer.from_iterator
    tokenizer = unpad.AutoTokenizer.from_pretrained(trained) if trained else make(both, kind="unigram", vocab_size=size)
    config = unpad.AutoConfig.for_model(
        "marian", vocab_size=len(tokenizer), d_model=256, encoder_layers=4, decoder_layers=4, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=1024, decoder_ffn_dim=1024, activation_function="relu", scale_embedding=True,
        max_position_embeddings=512, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id, decoder_start_token_id=tokenizer.pad_token_id, **start,
    )  # fmt: skip
    rows = {}
    for split, part in texts.items():
        sides = [tokenizer(part[side], truncation=True, max_length=384)["input_ids"] for side in ("source", "target")]
        rows[split] = dict(zip(("input_ids", "labels"), sides, strict=True))
    return made(name, recipe, tokenizer, rows, texts, unpad.AutoModelForSeq2SeqLM.from_config(config), folder)


def made(name: str, recipe: Any, tokenizer: Any, rows: Any, texts: Any, model: Any, folder: Path) -> Job:
    from datasets import Dataset, DatasetDict

    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    data = DatasetDict({split: Dataset.from_dict(columns) for split, columns in rows.items()})
    print(f"{name}: {model.class_name}, {model.num_parameters() / 1e6:.1f}M parameters, {len(tokenizer)} tokens")
    return Job(name, recipe, tokenizer, data, texts, model, folder)


def chunks(tokenizer: Any, texts: list[str]) -> dict[str, list[list[int]]]:
    """All texts, an end token after each, cut into blocks, as the course does it: the same rows for both sides."""
    ids = [i for text in tokenizer(texts)["input_ids"] for i in (*text, tokenizer.eos_token_id)]
    rows = [ids[i : i + BLOCK] for i in range(0, len(ids) - BLOCK + 1, BLOCK)]
    return {"input_ids": rows, "labels": rows}


# ---- the two sides ----


def trainer(work: Job, side: str, out: str, precision: str = "defaults", **more: Any) -> Any:
    more = {"seed": 1, **work.recipe, **more}
    train, writes = work.data["train"], work.name != "code"
    if side == "unpad":
        import unpad

        unpad.set_seed(more["seed"])
        auto = unpad.AutoModelForSeq2SeqLM if writes else unpad.AutoModelForCausalLM
        kind = unpad.Seq2SeqTrainingArguments if writes else unpad.TrainingArguments
        arguments = kind(
            out, precision="fp32" if precision == "fp32" else "auto", disable_tqdm=True, draw_curves=False,
            save_strategy="no", overwrite_output_dir=True, **more,
        )  # fmt: skip
        model = auto.from_pretrained(work.folder)
        run = unpad.Seq2SeqTrainer if writes else unpad.Trainer
        return run(model, arguments, train_dataset=train, processing_class=work.tokenizer)
    import transformers

    transformers.set_seed(more["seed"])
    auto = transformers.AutoModelForSeq2SeqLM if writes else transformers.AutoModelForCausalLM
    kind = transformers.Seq2SeqTrainingArguments if writes else transformers.TrainingArguments
    arguments = kind(out, disable_tqdm=True, report_to=[], save_strategy="no", **more)
    model, tokenizer = auto.from_pretrained(work.folder), their_tokenizer(work)
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, model) if writes else transformers.default_data_collator
    run = transformers.Seq2SeqTrainer if writes else transformers.Trainer
    return run(model, arguments, collator, train_dataset=train, processing_class=tokenizer)


def their_tokenizer(work: Job) -> Any:
    import transformers

    own = work.tokenizer
    return transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(work.folder / "tokenizer.json"), pad_token=own.pad_token, eos_token=own.eos_token
    )


def written(work: Job, model: Any, side: str, split: str, beams: int, size: int = 32) -> list[str]:
    """What a model writes for a split; theirs in padded batches of `size`."""
    sources = work.data[split]["input_ids"]
    limit = {"num_beams": beams, "max_new_tokens": 64 if work.name == "translation" else 24}
    if side == "unpad":
        from unpad.generate.loop import generate_rows

        found = generate_rows(model, sources=[np.asarray(s) for s in sources], **limit)
        ids: list[Any] = [texts[0] for texts in found]
    else:
        import torch

        ids = []
        for start in range(0, len(sources), size):
            batch = their_tokenizer(work).pad({"input_ids": sources[start : start + size]}, return_tensors="pt")
            with torch.no_grad():
                ids += list(model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], **limit))
    return work.tokenizer.batch_decode([np.asarray(row).tolist() for row in ids], skip_special_tokens=True)


def judged(work: Job, model: Any, side: str) -> dict[str, float]:
    """The figures of a trained model; the same code for both sides."""
    model.eval()
    if work.name == "code":
        return {"perplexity": perplexity(work, model)}
    from unpad.metrics import load_metric

    references = work.texts["test"]["target"]
    found = written(work, model, side, "test", 4)
    for source, answer, truth in list(zip(work.texts["test"]["source"], found, references, strict=True))[:3]:
        print(f"  {source[:80]!r} -> {answer!r} ({truth!r})")
    if work.name == "subjects":
        from unpad.metrics.rouge import lead

        rouge = load_metric("rouge")
        ours = rouge.compute(predictions=found, references=references, use_stemmer=True)
        first = [lead(text) for text in work.texts["test"]["source"]]
        base = rouge.compute(predictions=first, references=references, use_stemmer=True)
        return {**{k: 100 * v for k, v in ours.items()}, **{f"lead-3 {k}": 100 * v for k, v in base.items()}}
    bleu = load_metric("sacrebleu").compute(predictions=found, references=[[t] for t in references])
    print(bleu["signature"])
    return {"BLEU": bleu["score"]}


def perplexity(work: Job, model: Any) -> float:
    import torch

    total, count = 0.0, 0
    rows = torch.tensor(work.data["validation"]["input_ids"])
    with torch.inference_mode():
        for part in rows.split(16):
            total += float(model(input_ids=part, labels=part).loss) * part[:, 1:].numel()
            count += part[:, 1:].numel()
    return math.exp(total / count)


# ---- what is measured ----


def quality(
    work: Job, sides: list[str], minutes: float, steps: int, keep: Path | None, more: dict[str, Any]
) -> list[Row]:
    found: dict[str, dict[str, float]] = {}
    for side in sides:
        with tempfile.TemporaryDirectory() as out:
            run = trainer(work, side, out, logging_steps=100, **more)
            run.add_callback(stopwatch(side, minutes, steps)) if side != "unpad" else run.callbacks.append(
                stopwatch(side, minutes, steps)
            )
            started = time.perf_counter()
            run.train()
            seconds = time.perf_counter() - started
            losses = [(r["step"], round(r["loss"], 3)) for r in run.state.log_history if "loss" in r]
            if keep is not None and side == "unpad":
                run.save_model(str(keep))
            found[side] = {**judged(work, run.model, side), "steps": run.state.global_step, "training, s": seconds}
        print(
            json.dumps(
                {"job": work.name, "side": side, **more, **found[side], "losses": losses[:: max(1, len(losses) // 20)]}
            ),
            flush=True,
        )
    if len(sides) < 2:
        return []
    return [row(key, {side: found[side][key] for side in NAMES}) for key in found["unpad"]]


def stopwatch(side: str, minutes: float, steps: int) -> Any:
    """Ends a training after so many minutes or steps, with the schedule of the whole; 0: never."""
    clock, started = step_clock(side), time.perf_counter()

    def on_step_end(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if (minutes and time.perf_counter() - started > 60 * minutes) or state.global_step == steps:
            control.should_training_stop = True

    clock.on_step_end = on_step_end
    return clock


def write(work: Job, model: Path, segments: int) -> list[Row]:
    """Beam search over the test set, and an evaluation that generates."""
    import transformers

    import unpad

    ours = unpad.AutoModelForSeq2SeqLM.from_pretrained(model)
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(model).eval()
    models, texts, rows = {"unpad": ours, "transformers": theirs}, {}, []
    for beams in (4, 1):

        def segment(side: str, beams: int = beams) -> float:
            started = time.perf_counter()
            texts[side] = written(work, models[side], side, "test", beams)
            return time.perf_counter() - started

        rows.append(row(f"{len(work.data['test'])} sentences, {beams} beams, s", interleaved(segment, segments)))
        same = np.mean([a == b for a, b in zip(*texts.values(), strict=True)])
        print(f"{beams} beams: {same:.1%} of the texts are the same")
    runs = {}
    with tempfile.TemporaryDirectory() as out:
        more = {"predict_with_generate": True, "generation_max_length": 64}
        for side in NAMES:
            runs[side] = trainer(work, side, f"{out}/{side}", **more)
            runs[side].model = models[side]
            runs[side].compute_metrics = lambda answers: {
                "rows": float(len(answers[0]))
            }  # without one theirs only takes the loss

        def evaluate(side: str) -> float:
            started = time.perf_counter()
            runs[side].evaluate(work.data["test"])
            return time.perf_counter() - started

        rows.append(row("evaluation that generates (each side's defaults), s", interleaved(evaluate, segments)))
    return rows


def memory(name: str, data: Path, sides: tuple[str, ...] = NAMES, runs: int = 1) -> list[Row]:
    """Peak resident memory, MiB, of fresh processes that train 30 steps; the median of `runs` of them."""
    peaks = {}
    for side in sides:
        line = f"""
import sys, json, tempfile; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import generation
with tempfile.TemporaryDirectory() as out:
    work = generation.job({name!r}, Path({str(data)!r}), Path(out) / "first")
    generation.trainer(work, {side!r}, out, max_steps=30).train()
peak = [l for l in open("/proc/self/status") if l.startswith("VmHWM")][0].split()[1]
print(json.dumps({{"peak": int(peak) / 1024}}))
"""
        peaks[side] = statistics.median(child(line)["peak"] for _ in range(runs))
    return [
        (
            f"{name}: peak memory of a training process, MiB (ours / theirs)",
            peaks["unpad"],
            peaks["transformers"],
            peaks["unpad"] / peaks["transformers"],
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", choices=["translation", "code", "subjects"])
    parser.add_argument("what", nargs="?", default="train", choices=["train", "quality", "write", "memory"])
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets (parquet)")
    parser.add_argument("--segments", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0, help="end the training of quality after so many minutes")
    parser.add_argument("--steps", type=int, default=0, help="end the training of quality after so many steps")
    parser.add_argument("--num_train_epochs", type=float)
    parser.add_argument("--side", choices=NAMES, help="one side alone (quality)")
    parser.add_argument("--keep", type=Path, help="save our trained model there (quality)")
    parser.add_argument("--model", type=Path, help="a model that --keep saved (write)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = job(options.job, options.data, Path(folder), options.model)
        if options.what == "train":
            make = lambda side, out, precision, **more: trainer(work, side, out, precision, **more)  # noqa: E731
            rows = train_speed(f"{options.job}: training step", make, options.segments)
        elif options.what == "memory":
            rows = memory(options.job, options.data, runs=options.segments)
        elif options.what == "write":
            rows = write(work, options.model or work.folder, options.segments)
        else:
            more = {} if options.num_train_epochs is None else {"num_train_epochs": options.num_train_epochs}
            sides = [options.side] if options.side else list(NAMES)
            rows = quality(work, sides, options.minutes, options.steps, options.keep, more)
    table(rows)


if __name__ == "__main__":
    main()
