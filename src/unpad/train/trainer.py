"""The Trainer: fine-tunes, evaluates and predicts with any model whose forward returns a loss; native models without padding.

It owns no arithmetic of its own: batches come from `feed`, steps and precision from the Accelerator, evaluation from
`evaluate`, files from `RunFolder`. What is written here is the order of events.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unpad.checkpoint.files import verify, writing_to
from unpad.compat import ALIASES, modern
from unpad.data.sampler import mixed
from unpad.data.tokens import TokenStore
from unpad.engine.accelerator import Accelerator
from unpad.engine.memory import give_back, keep
from unpad.engine.optim import PreparedOptimizer, adamw
from unpad.engine.schedules import get_scheduler
from unpad.engine.state import read_tree, set_seed, write_tree
from unpad.engine.stop import Stopped, StopRequest
from unpad.errors import ArgumentError, CheckpointError, TrainingError, listing, nearest
from unpad.generate.settings import GenerationConfig
from unpad.notices import say, say_once
from unpad.train.arguments import TrainingArguments
from unpad.train.callbacks import TRACKERS, ProgressCallback, TrainerCallback
from unpad.train.checks import checked_callbacks, checked_functions, checked_pair
from unpad.train.evaluate import (
    InterruptedEvaluationError,
    PredictionOutput,
    answer_collated,
    answer_packed,
    evaluate,
    write,
)
from unpad.train.feed import Feed, StreamFeed, len_of
from unpad.train.frozen import frozen_base
from unpad.train.push import TrainerPushes
from unpad.train.run_folder import HISTORY, RunFolder
from unpad.train.state import TrainerControl, TrainerState
from unpad.train.step import Stepper, flos

RECIPE = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "max_tokens_per_batch", "group_by_length", "learning_rate", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "optim", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "seed",
    "data_seed", "dataloader_drop_last", "freeze", "label_smoothing_factor",
)  # fmt: skip
"""Arguments that decide what step k computes. Others (evaluation, logging, saving) may change between resumes."""


class TrainOutput(NamedTuple):
    """What `Trainer.train` returns."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Trainer(TrainerPushes):
    """Trains `model` on `train_dataset` by `args`.

    Arguments: `model` (native or any `nn.Module` whose forward returns a loss), `args`, `data_collator`, `train_dataset` and
    `eval_dataset` (tokenized `datasets.Dataset` with input_ids and labels, or anything with rows; to learn from, a `TokenStream`
    too), `processing_class` (the tokenizer, saved with the model), `model_init` (makes the model instead of `model`), `compute_metrics` (a function of `EvalPrediction`, or a
    streaming metric), `callbacks`, `optimizers` (optimizer, schedule; None: made from `args`), `preprocess_logits_for_metrics`.
    Raises DataError before the first step when a row does not fit the model.
    """

    def __init__(
        self, model: nn.Module | None = None, args: TrainingArguments | None = None, data_collator: Callable[[Any], Any] | None = None,
        train_dataset: Any = None, eval_dataset: Any = None, processing_class: Any = None, model_init: Callable[[], nn.Module] | None = None,
        compute_metrics: Any = None, callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        optimizers: tuple[Any, Any] = (None, None), preprocess_logits_for_metrics: Callable[[Tensor, Any], Tensor] | None = None, **old: Any,
    ) -> None:  # fmt: skip
        old = modern("Trainer", old)
        processing_class = old.pop("processing_class", processing_class)
        if old:
            known = [name for name in inspect.signature(Trainer).parameters if name != "old"]
            name = next(iter(old))
            raise ArgumentError(f"Trainer has no argument {name!r}{nearest(name, [*known, *ALIASES['Trainer']])}")
        if args is not None and not isinstance(args, TrainingArguments):
            raise ArgumentError(f"args is a {type(args).__name__}; give TrainingArguments(output_dir, ...)")
        self.args = args or TrainingArguments()
        if model is None and model_init is None:
            raise ArgumentError("Trainer needs a model= or model_init=")
        set_seed(self.args.seed)
        self.model: Any = model if model is not None else model_init()  # type: ignore[misc]
        if not isinstance(self.model, nn.Module):
            what = f"{self.model!r:.60} ({type(self.model).__name__})"
            how = "give a model, as AutoModelForSequenceClassification.from_pretrained(...) makes it"
            raise ArgumentError(f"model is {what}; {how}")
        checked_functions(data_collator=data_collator, compute_metrics=compute_metrics)
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.processing_class, self.data_collator = processing_class, data_collator
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self._given_optimizer, self._given_scheduler = checked_pair(optimizers)
        self.callbacks = checked_callbacks(callbacks)
        for name in self.args.report_to or []:
            if name not in (*TRACKERS, "none"):
                raise ArgumentError(
                    f"report_to={name!r} is no tracker here{nearest(name, TRACKERS)}; allowed: {', '.join(TRACKERS)}, none "
                    "(metrics.jsonl and curves are always written)"
                )
            if name != "none":
                self.callbacks.append(TRACKERS[name]())
        self.state, self.control = TrainerState(), TrainerControl()
        self.accelerator = Accelerator(
            self.args.chosen_precision, cpu=self.args.use_cpu, strategy="fsdp" if self.args.fsdp else "auto",
            gradient_checkpointing=self.args.gradient_checkpointing, find_unused_parameters=self.args.ddp_find_unused_parameters,
        )  # fmt: skip
        if not self.accelerator.is_main_process:
            self.callbacks = [c for c in self.callbacks if not isinstance(c, tuple(TRACKERS.values()))]
        elif not self.args.disable_tqdm:
            self.callbacks.append(ProgressCallback())
        self.model.to(self.accelerator.device)
        self.folder = RunFolder(self.args.output_dir)
        self._running: Any = None  # the module that training calls
        self._stop = StopRequest()
        self._stores: dict[int, tuple[Any, TokenStore]] = {}
        self._frozen = frozen_base(self.model, self.args, self.accelerator, self._packs())
        self._begin_sharing()

    @property
    def tokenizer(self) -> Any:
        """The `processing_class`, by its older name."""
        return self.processing_class

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Let a callback (or one of a class) take part from now on."""
        self.callbacks += checked_callbacks([callback])

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Let a callback, or all of a class, take no part any longer."""
        self.callbacks[:] = [c for c in self.callbacks if c is not callback and type(c) is not callback]

    # -- training

    def train(self, resume_from_checkpoint: str | Path | bool | None = None) -> TrainOutput:
        """Train to the end and return (global_step, training_loss, metrics).

        `resume_from_checkpoint`: True continues from the newest valid checkpoint in `output_dir` (or starts when there is none),
        a path from that one; the result is bit for bit that of an uninterrupted run. Raises TrainingError when the loss is not
        finite (names the rows), CheckpointError for damaged checkpoints or a full disk.
        """
        args = self.args
        self._check_evaluation()
        resume = resume_from_checkpoint if resume_from_checkpoint is not None else args.resume_from_checkpoint
        if not resume and self.accelerator.restarted:
            resume = True  # torchrun started the processes again
        feed = self._feed()
        total = args.max_steps if args.max_steps > 0 else feed.total_steps(args.num_train_epochs)  # type: ignore[union-attr]
        recipe = {name: getattr(args, name) for name in RECIPE}
        recipe |= {"max_steps": total, "precision": self.accelerator.precision.name}
        self.state = TrainerState(max_steps=total, fingerprint=feed.fingerprint, recipe=recipe)
        self.control, self._best_is_loaded = TrainerControl(), False
        self.accelerator.world.agree("what they train", {"the training data": feed.fingerprint, **recipe})
        self._smooth(args.label_smoothing_factor)
        try:
            found = self._begin(resume)
            optimizer, scheduler = self._optimizer_and_schedule(total)
            if found is not None:
                self.state = self.folder.load(found, self.accelerator, self.state, self.callbacks)
                self.control.should_training_stop = self.state.stopped_early
                ended = ", where a callback had ended the run" if self.state.stopped_early else ""
                say(f"continuing from {found} at step {self.state.global_step} of {self.state.max_steps}{ended}")
                self._on_main(partial(self.folder.set_aside_after, self.state.global_step))
            self._on_main(partial(self.folder.rewrite_history, self.state.log_history))
            feed.seek(self.state.stream)
            started, first = time.perf_counter(), self.state.global_step
            self._call("on_train_begin")
            give_back()
            keep()
            with self._stop:
                self._run(feed, optimizer, scheduler)
            seconds = time.perf_counter() - started
            self._load_best()
        finally:
            self._smooth(0.0)
            self.folder.end()
            self.accelerator.release_optimizers()
        steps = self.state.global_step - first
        loss = self.state.total_loss / max(self.state.global_step, 1)
        metrics = {
            "train_runtime": round(seconds, 4),
            "train_samples_per_second": round(feed.rows * (self.state.epoch - feed.place(first)[0]) / seconds, 3)
            if steps
            else 0.0,
            "train_steps_per_second": round(steps / seconds, 3),
            "train_tokens_per_second": round(self.state.tokens / seconds, 1) if first == 0 else 0.0,
            "total_flos": flos(self.model, self.state.tokens),
            "train_loss": loss,
            "epoch": round(self.state.epoch, 4),
        }
        self._log(metrics)
        self._call("on_train_end")
        if args.draw_curves:
            self._on_main(self.draw_curves)
        self._finish_pushes()
        return TrainOutput(self.state.global_step, loss, metrics)

    def _check_evaluation(self) -> None:
        """Refuse now what would only fail at the first evaluation, perhaps hours later."""
        args = self.args
        self._writes()
        if args.eval_strategy != "no" and self.eval_dataset is None:
            needs = f"eval_strategy={args.eval_strategy!r} needs an eval_dataset="
            raise ArgumentError(f"{needs}; pass one, or eval_strategy='no'")
        parts = getattr(self.compute_metrics, "parts", None)  # a function's figures are known only after its first call
        known = [] if self.compute_metrics is None else None if parts is None else [part.key for part in parts]
        if args.metric_for_best_model is not None and known is not None and args.eval_strategy != "no":
            words = ["perplexity"] if self._guesses_words else []
            known, name = ["loss", *words, *known], args.best_metric.removeprefix("eval_")
            if name not in known:
                what = f"metric_for_best_model={args.metric_for_best_model!r} is not measured here"
                raise ArgumentError(f"{what}{nearest(name, known)}; there are: {listing(known)}")

    def _smooth(self, share: float) -> None:
        """Let training spread a share of each label over the vocabulary."""
        if share and not (self._packs() and self.model.vocabulary):
            needs = "a model of this library that answers with words, and batches without padding"
            raise ArgumentError(f"label_smoothing_factor={share:g} needs {needs}; leave it out")
        if self._native:
            self.model.label_smoothing = share

    def _begin(self, resume: str | Path | bool | None) -> Path | None:
        """The checkpoint to continue from, with its weights in the model; or None, with the folder ready for a new run."""
        found = self._on_main(lambda: self.folder.find(resume)) if resume else None
        if found is not None:
            self._load_model(found)
            return found
        if not resume:
            self._on_main(lambda: self.folder.begin(self.args.overwrite_output_dir))
        set_seed(self.args.seed)
        if rank := self.accelerator.process_index:  # other dropout masks than those of the main process
            torch.manual_seed(mixed(self.args.seed, rank))
        return None

    def _on_main(self, act: Callable[[], Any]) -> Any:
        return self.accelerator.world.on_main(act)

    def _optimizer_and_schedule(self, total: int) -> tuple[PreparedOptimizer, Any]:
        args = self.args
        self.accelerator.release_optimizers()
        given = self._given_optimizer
        self._running = self.accelerator.wrap(self.model, [given] if given is not None else [])
        plain, betas = given, (args.adam_beta1, args.adam_beta2)
        if plain is None:
            plain = adamw(self.model, args.learning_rate, betas, args.adam_epsilon, args.weight_decay, args.optim)
        schedule = self._given_scheduler or get_scheduler(args.lr_scheduler_type, plain, args.warmup(total), total)
        optimizer, schedule = self.accelerator.prepare_pair(self.model, plain, schedule)
        if self.accelerator.num_processes == 1:
            used = self._used_ids() if given is None else None  # theirs keeps its own parameters
            optimizer.keep_rows(self.model, used)
        return optimizer, schedule

    def _run(self, feed: Feed | StreamFeed, optimizer: PreparedOptimizer, scheduler: Any) -> None:
        state, control, args = self.state, self.control, self.args
        pending: list[tuple[int, Tensor]] = []
        eager = self.accelerator.device.type == "cpu"
        stepper = Stepper(self.accelerator, self._running, optimizer)
        self.model.train()
        optimizer.zero_grad()
        if state.owes_evaluation and state.global_step:
            state.owes_evaluation = False
            epoch, k = feed.place(state.global_step - 1)
            self._decide(epoch_ends=k + 1 == feed.steps(epoch))
            self._evaluate_and_save()
            if state.owes_evaluation:
                self._leave(saved=True)
        while state.global_step < state.max_steps and not control.should_training_stop:
            epoch, k = feed.place(state.global_step)
            in_epoch = feed.steps(epoch)
            if k == 0:
                self._call("on_epoch_begin")
            micros = feed.step(state.global_step)
            state.stream = feed.state()
            if not self.model.training:  # there was an evaluation since the last step, ours or a callback's
                self.model.train()
            for layer in optimizer.rows:  # whatever was done to the model: these rows are what the optimizer trains
                layer.train()
            loss, tokens, stop = stepper.step(micros, feed, self._stop.asked is not None)
            norm = optimizer.clipped_step(args.max_grad_norm)
            learning_rate = scheduler.get_last_lr()[0]
            scheduler.step()
            optimizer.zero_grad()
            pending.append((state.global_step, loss))
            state.global_step += 1
            state.epoch = epoch + (k + 1) / in_epoch
            state.tokens += tokens
            self._decide(epoch_ends=k + 1 == in_epoch)
            if eager or len(pending) >= 20 or control.should_log or control.should_evaluate or control.should_save:
                self._settle(pending, feed)
            self._call("on_step_end", loss=loss, learning_rate=learning_rate)
            if k + 1 == in_epoch:
                self._call("on_epoch_end")
            saved = self._act(norm, learning_rate)
            if stop or state.owes_evaluation or (self._stop.asked is not None and self.accelerator.num_processes == 1):
                self._settle(pending, feed)
                self._leave(saved)
        self._settle(pending, feed)

    def _leave(self, saved: bool) -> None:
        """Save what is not saved yet, and end the process so that it can be started again."""
        if not saved:
            self._save_checkpoint()
        self._leave_pushes()
        say(
            f"asked to stop ({self._stop.asked or 'by another process'}): saved step {self.state.global_step} of {self.state.max_steps} in "
            f"{self.folder.path}; start again with resume_from_checkpoint=True"
        )
        raise Stopped

    def _settle(self, pending: list[tuple[int, Tensor]], feed: Feed | StreamFeed) -> None:
        """Move losses from the device into the state, one by one, and stop at the first that is not finite."""
        if not pending:
            return
        if len(pending) == 1 and self.accelerator.num_processes == 1:
            losses = [pending[0][1].item()]
        else:
            losses = self.accelerator.reduce(torch.stack([loss for _, loss in pending])).tolist()
        for (step, _), value in zip(pending, losses, strict=True):
            if not math.isfinite(value):
                rows = [int(row) for part in feed.rows_of(step) for row in part]
                error = TrainingError(
                    f"the loss is {value} at step {step + 1} (rows {listing(rows)} of the training data); lower learning_rate "
                    f"(now {self.args.learning_rate:g}), look at these rows, or set precision='fp32'. Checkpoints before it are unharmed"
                )
                error.rows = tuple(rows)
                raise error
            self.state.loss_sum += value
            self.state.loss_count += 1
            self.state.total_loss += value
        pending.clear()

    def _decide(self, epoch_ends: bool) -> None:
        """Set the control flags that the strategies ask for at this step."""
        args, step, control = self.args, self.state.global_step, self.control
        last = step >= self.state.max_steps

        def due(strategy: str, every: int) -> bool:
            return (strategy == "steps" and step % every == 0) or (strategy == "epoch" and (epoch_ends or last))

        control.should_log = due(args.logging_strategy, args.logging_steps) or (args.logging_first_step and step == 1)
        every = args.eval_steps or args.logging_steps
        control.should_evaluate = self.eval_dataset is not None and due(args.eval_strategy, every)
        control.should_save = due(args.save_strategy, args.save_steps) or (last and args.save_strategy == "steps")

    def _act(self, norm: Tensor, learning_rate: float) -> bool:
        """Log, evaluate and save, as the control flags ask; whether the step is saved."""
        state, control = self.state, self.control
        if control.should_log and state.loss_count:
            loss, epoch = state.loss_sum / state.loss_count, round(state.epoch, 4)
            self._log({"loss": loss, "grad_norm": float(norm), "learning_rate": learning_rate, "epoch": epoch})
            state.loss_sum, state.loss_count = 0.0, 0
        return self._evaluate_and_save()

    def _evaluate_and_save(self) -> bool:
        control = self.control
        if control.should_evaluate:
            self._may_stop = True
            try:
                metrics = self.evaluate()
            except InterruptedEvaluationError:
                self.state.owes_evaluation = True
                return False
            finally:
                self._may_stop = False
            control.should_save |= self._note_best(metrics) and self.args.load_best_model_at_end
        if control.should_save:
            self._save_checkpoint()
        return control.should_save

    def _note_best(self, metrics: dict[str, float]) -> bool:
        """Remember the evaluation when it is the best so far."""
        name = self.args.best_metric
        if name not in metrics:
            if self.args.metric_for_best_model is None and not self.args.load_best_model_at_end:
                return False
            there = f"the metrics of the evaluation: {listing(metrics)}"
            raise ArgumentError(f"metric_for_best_model={name!r} is not among {there}")
        value, best = metrics[name], self.state.best_metric
        if best is not None and not (value > best if self.args.best_is_greatest else value < best):
            return False
        self.state.best_metric, self.state.best_step = value, self.state.global_step
        if self.args.load_best_model_at_end:
            self.state.best_model_checkpoint = str(self.folder.path / f"checkpoint-{self.state.global_step}")
        return True

    def _save_checkpoint(self) -> None:
        self.state.stopped_early = self.control.should_training_stop
        engine, weights = self.accelerator.state(), self._weights()
        write, step = partial(self._save_model, weights=weights), self.state.global_step
        saved = self._on_main(lambda: self.folder.save(step, write, engine, self.state, self.callbacks, self.args))
        self._push_checkpoint(saved)
        self._call("on_save")

    def _log(self, record: dict[str, Any]) -> None:
        record = {**record, "step": self.state.global_step}
        self.state.log_history.append(record)
        self._on_main(partial(self.folder.log, record))
        self._call("on_log", logs=record)

    def _call(self, event: str, **details: Any) -> None:
        for callback in self.callbacks:
            handles = getattr(type(callback), event) is not getattr(TrainerCallback, event)
            if handles and callback.reads_model and self._native:
                for layer in self.model.row_embeddings():
                    layer.eval()  # its weights are whole, to be read and changed; the next step takes the rows out again
            getattr(callback, event)(self.args, self.state, self.control, model=self.model, **details)

    def _load_best(self) -> None:
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            if problems := verify(Path(best)):
                what = f"the best checkpoint {best} is damaged ({listing(problems, 2)})"
                raise CheckpointError(f"{what}; the model keeps its last weights")
            self._load_model(Path(best))
            self._best_is_loaded = True
            value = f"{self.args.best_metric} {self.state.best_metric:.4f}"
            say(f"loaded the best weights: step {self.state.best_step}, {value}")

    # -- evaluation

    def evaluate(self, eval_dataset: Any = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """Loss and metrics on `eval_dataset` (default: the trainer's), keys prefixed; logged and part of the history."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ArgumentError("evaluate() needs an eval_dataset=, here or in the Trainer")
        metrics = self._answers(dataset, metric_key_prefix, keep_logits=False).metrics
        self._judged[metric_key_prefix] = dataset
        if self.state.global_step:
            metrics["epoch"] = round(self.state.epoch, 4)
        self._on_main(partial(self.folder.path.mkdir, parents=True, exist_ok=True))
        self._log(metrics)
        self._call("on_evaluate", metrics=metrics)
        return metrics

    def predict(self, test_dataset: Any, metric_key_prefix: str = "test") -> PredictionOutput:
        """Logits [N, C] in the order of `test_dataset`, its labels (None where it has none) and metrics."""
        return self._answers(test_dataset, metric_key_prefix, keep_logits=True)

    def _asked_to_stop(self) -> bool:
        return self._may_stop and self._stop.asked is not None

    _may_stop = False
    """Whether the loop waits for an evaluation that it can make later."""
    _generation: GenerationConfig | None = None
    """Settings of generated texts beside the model's own."""

    def _writes(self) -> bool:
        """Whether evaluation judges the texts that the model generates. Raises ArgumentError when it cannot."""
        writes = getattr(self.args, "predict_with_generate", False) or getattr(self.compute_metrics, "generates", False)
        if writes and not (self._native and self.model.labels_of == "target"):
            name = self.model.class_name if self._native else type(self.model).__name__
            wrong = f"generated texts are judged, but a {name} does not answer a text with another"
            raise ArgumentError(f"{wrong}; load the model with AutoModelForSeq2SeqLM")
        return writes

    def _answers(self, dataset: Any, prefix: str, keep_logits: bool) -> PredictionOutput:
        size = len_of(dataset)
        self.model.eval()
        writes, batches = self._writes(), None
        if self._packs():
            store, change = self._store(dataset, prefix), self._change(None)
            if self._frozen is not None and dataset is self.eval_dataset:
                change = self._frozen.filler(store, "eval")
            pack = store.pack if change is None else lambda rows: change(store.pack(rows))
            if self.model.vocabulary and self.compute_metrics is not None and not writes:
                judges = "compute_metrics is not called, loss and perplexity judge them"
                say_once(f"answers over the vocabulary are not kept: {judges}")
            lengths = store.lengths if store.has_labels or not writes else store.lengths[:0]  # no labels, no loss
            answers = answer_packed(self.model, pack, lengths, self.args.eval_max_tokens, self.accelerator)
            batches = (store.pack(np.arange(size)) for _ in range(1))
        else:
            collator: Any = self._collator()
            if self._guesses_words and hasattr(collator, "mask") and collator.seed is None:
                collator = replace(collator, seed=self.args.seed)  # always the same masks
            each = self.args.per_device_eval_batch_size
            answers = answer_collated(self.model, dataset, collator, each, self.accelerator)
            rows = (range(start, min(start + each, size)) for start in range(0, size, each))
            batches = (collator([dataset[i] for i in some]) for some in rows)
        process = self.preprocess_logits_for_metrics
        if process is not None:
            answers = (
                [a if a.logits is None else replace(a, logits=process(a.logits, a.labels)) for a in some]
                for some in answers
            )
        made = partial(write, self.model, batches, self.accelerator, self.processing_class, self._generation)
        found = evaluate(
            answers, size, prefix, self.compute_metrics, keep_logits, self.accelerator.world, made if writes else None,
            self._asked_to_stop,
        )  # fmt: skip
        if self._guesses_words and f"{prefix}_loss" in found.metrics:
            found.metrics[f"{prefix}_perplexity"] = math.exp(min(found.metrics[f"{prefix}_loss"], 700))
        return found

    # -- files

    def save_model(self, output_dir: str | Path | None = None, _internal_call: bool = False) -> None:
        """Write the model (tokenizer, card) to `output_dir`, by default the run's folder, for `from_pretrained`; `push_to_hub` sends the latter."""
        folder, weights = Path(output_dir or self.args.output_dir), self._weights()

        def write() -> None:
            with writing_to(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self._save_model(folder, weights)

        self._on_main(write)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub("Model save")

    def _weights(self) -> dict[str, Tensor] | None:
        """The whole weights on the main process where each process has a part of them; None: the model has them."""
        sharded = self.accelerator.strategy.sharded
        return self.accelerator.strategy.weights(self.model) if sharded else None

    def _save_model(self, folder: Path, weights: dict[str, Tensor] | None = None) -> None:
        self.write_card(folder)  # first: a model that finds none writes one of its own
        if hasattr(self.model, "save_pretrained"):
            self.model.save_pretrained(folder, state_dict=weights)
        else:
            write_tree(folder, "model_state", dict(weights or self.model.state_dict()))
        if hasattr(self.processing_class, "save_pretrained"):
            self.processing_class.save_pretrained(folder)

    def _load_model(self, folder: Path) -> None:
        if self._running is not None and self.accelerator.strategy.sharded:
            whole = self.model.with_weights(folder) if self._native else self._foreign_weights(folder)
            self.accelerator.strategy.set_weights(self.model, whole)
        elif self._native:
            self.model.eval()  # then the weights, and not what an optimizer trains, are what counts
            self.model.load_weights(folder)
        else:
            self.model.load_state_dict(self._foreign_weights(folder))

    def _foreign_weights(self, folder: Path) -> dict[str, Tensor]:
        """All weights of a model of another library, by name; files hold tied ones once."""
        if (folder / "model_state.json").is_file():
            return read_tree(folder, "model_state")
        from safetensors.torch import load_file

        found = load_file(str(folder / "model.safetensors"))
        names = {id(p): name for name, p in self.model.named_parameters(remove_duplicate=False) if name in found}
        tied = {name: names.get(id(p)) for name, p in self.model.named_parameters(remove_duplicate=False)}
        return found | {name: found[kept] for name, kept in tied.items() if name not in found and kept is not None}

    def draw_curves(self) -> list[Path]:
        """Draw curves.png and curves.svg from the run's history and say the diagnosis."""
        from unpad.train.curves import diagnose, draw, read_history

        history = read_history(self.folder.path / HISTORY)
        files = draw(history, self.folder.path, best_step=self.state.best_step, best_metric=self.args.best_metric)
        say(f"curves: {files[0]}. {diagnose(history).paragraph}")
        return files
