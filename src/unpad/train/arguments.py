"""`TrainingArguments`: every number that shapes a training run, with its unit and default.

The command line and YAML files read the same fields; the text under each field is its help.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from unpad.compat import ALIASES, modern
from unpad.engine import OPTIMIZERS, one_of
from unpad.engine.precision import PRECISIONS
from unpad.engine.schedules import SCHEDULES
from unpad.errors import ArgumentError, nearest
from unpad.notices import say_once

_STRATEGIES = ("no", "steps", "epoch")
_ALLOWED = {
    "eval_strategy": _STRATEGIES, "logging_strategy": _STRATEGIES, "save_strategy": _STRATEGIES, "lr_scheduler_type": SCHEDULES,
    "optim": OPTIMIZERS, "precision": (*PRECISIONS, "no"), "freeze": ("base",), "fsdp": ("", "full_shard"),
    "hub_strategy": ("end", "every_save", "checkpoint", "all_checkpoints"),
}  # fmt: skip
_MEANT = {
    **{f"{what}_strategy": {"False": "no", "step": "steps"} for what in ("eval", "logging", "save")},
    "fsdp": {"False": "", "True": "full_shard", "full_shard auto_wrap": "full_shard"},
}
_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "logging_steps", "save_steps",
      "eval_max_tokens", "eval_steps"), lambda x: x >= 1, "be 1 or more"),
    (("save_total_limit",), lambda x: x >= 1, "be 1 or more; use save_strategy='no' to keep none"),
    (("learning_rate", "weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps", "max_tokens_per_batch", "num_train_epochs"),
     lambda x: x >= 0, "not be negative"),
    (("adam_beta1", "adam_beta2", "label_smoothing_factor"), lambda x: 0 <= x < 1, "lie in 0 <= x < 1"),
    (("warmup_ratio",), lambda x: 0 <= x <= 1, "lie in 0..1"),
    (("seed", "data_seed"), lambda x: 0 <= x < 2**63, "lie in 0..2**63 - 1"),
)  # fmt: skip
"""Arguments, what their values have to fulfil, and how to say it."""
_LATER = ("deepspeed", "torch_compile", "use_mps_device")
# Known in the field, without meaning here: what they steer does not exist or is always right.
_WITHOUT_EFFECT = (
    "dataloader_pin_memory", "fp16_opt_level", "half_precision_backend", "local_rank", "log_level",
    "eval_accumulation_steps", "logging_nan_inf_filter", "include_for_metrics", "hub_always_push",
    "save_safetensors", "full_determinism", "tf32", "dataloader_num_workers", "remove_unused_columns", "sortish_sampler",
)  # fmt: skip


@dataclass
class TrainingArguments:
    """The arguments of a training run. Defaults are those of the field's standard Trainer where it has the argument."""

    output_dir: str = "trainer_output"
    """Folder of the run: checkpoints, metrics.jsonl, curves, the final model."""
    overwrite_output_dir: bool = False
    """Remove the checkpoints and history of an earlier run in output_dir; otherwise they are moved aside."""
    num_train_epochs: float = 3.0
    """Passes over the training data; may be a fraction."""
    max_steps: int = -1
    """Optimizer steps of the whole training; overrides num_train_epochs when positive."""
    per_device_train_batch_size: int = 8
    """Examples per device and micro-batch."""
    per_device_eval_batch_size: int = 8
    """Examples per device in evaluation with a collator or model of the caller's; native models use eval_max_tokens."""
    gradient_accumulation_steps: int = 1
    """Micro-batches per optimizer step; the loss is that of the whole global batch."""
    max_tokens_per_batch: int = 0
    """Token budget of a training micro-batch, with similar lengths together; 0: count examples instead."""
    eval_max_tokens: int = 4096
    """Token budget of an evaluation or prediction batch of a native model."""
    group_by_length: bool = False
    """Put examples of similar length into the same batch. Of little use here, as padding is never computed."""
    learning_rate: float = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.0
    """AdamW decay of all weights except biases and norms."""
    adam_beta1: float = 0.9
    """AdamW decay rate of the first moment."""
    adam_beta2: float = 0.999
    """AdamW decay rate of the second moment."""
    adam_epsilon: float = 1e-8
    """AdamW epsilon."""
    max_grad_norm: float = 1.0
    """Largest L2 norm of the gradient; 0: no clipping."""
    optim: str = "adamw_torch_fused"
    """Optimizer: adamw_torch_fused or adamw_torch."""
    lr_scheduler_type: str = "linear"
    """Learning-rate schedule: linear, cosine, constant or constant_with_warmup."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    warmup_ratio: float = 0.0
    """The same as a share of all steps; used when warmup_steps is 0."""
    precision: str = "auto"
    """Number format of matrix products: auto (bf16 where the hardware has it, else fp32), fp32, bf16 or fp16."""
    bf16: bool = False
    """The same as precision="bf16"."""
    fp16: bool = False
    """The same as precision="fp16" (GPUs; a CPU takes "auto" instead and says so)."""
    eval_strategy: str = "no"
    """When to evaluate: "no", every eval_steps ("steps") or after each epoch ("epoch")."""
    eval_steps: int | None = None
    """Optimizer steps between evaluations under "steps"; None: logging_steps."""
    logging_strategy: str = "steps"
    """When to log the training loss: "no", "steps" or "epoch"."""
    logging_steps: int = 500
    """Optimizer steps between two log lines; the loss is the mean over them."""
    logging_first_step: bool = False
    """Also log the first step."""
    save_strategy: str = "steps"
    """When to write a checkpoint: "no", every save_steps ("steps") or after each epoch ("epoch")."""
    save_steps: int = 500
    """Optimizer steps between checkpoints under "steps"."""
    save_total_limit: int | None = None
    """Newest checkpoints that are kept, beside the best one; None: all."""
    load_best_model_at_end: bool = False
    """End with the weights of the best evaluation; a checkpoint is then saved whenever an evaluation is the best so far."""
    metric_for_best_model: str | None = None
    """Metric that judges it, with or without "eval_"; None: the loss."""
    greater_is_better: bool | None = None
    """Whether a larger metric is better; None: unless the metric is a loss."""
    freeze: str | None = None
    """"base": only the head learns; the pretrained part, in evaluation mode, gives its vectors once, and they are kept in output_dir."""
    seed: int = 42
    """Seed of weights, dropout and data order."""
    data_seed: int | None = None
    """Seed of the data order alone; None: seed."""
    dataloader_drop_last: bool = False
    """Leave out the last batch of an epoch when it is not full."""
    resume_from_checkpoint: str | None = None
    """Checkpoint folder to continue from, or "True" for the newest valid one in output_dir."""
    label_names: list[str] | None = None
    """Columns that hold labels: any of label, labels, label_ids (None: these)."""
    use_cpu: bool = False
    """Stay on the CPU even where there is a GPU."""
    disable_tqdm: bool = False
    """No progress bar."""
    report_to: list[str] | None = None
    """Trackers: "tensorboard" (extra `trackers`), "none". metrics.jsonl and curves are always written."""
    run_name: str | None = None
    """Name of the run in trackers."""

    fsdp: str = ""
    """"full_shard": with several processes each keeps a part of every weight (FSDP2); "": each keeps them all (DDP)."""
    gradient_checkpointing: bool = False
    """Keep only what enters each block and compute the rest again in the backward pass: less memory, about a third more time."""
    ddp_find_unused_parameters: bool = False
    """Let some parameters take no part in a step, with several processes and models of other libraries."""
    label_smoothing_factor: float = 0.0
    """Share of each label that the loss of training spreads over the vocabulary, of models that answer with words."""
    draw_curves: bool = True
    """Draw curves.png and curves.svg when training ends."""

    push_to_hub: bool = False
    """Send the model to a Hub: whenever hub_strategy says so, and when save_model is called."""
    hub_model_id: str | None = None
    """Repository on the Hub, "owner/name", or "name" for the owner of the token; None: the name of output_dir."""
    hub_strategy: str = "every_save"
    """What is sent: the model with each save_model ("end"), also with each checkpoint ("every_save"), and beside it the newest checkpoint
    as last-checkpoint ("checkpoint") or every one ("all_checkpoints")."""
    hub_token: str | None = dataclasses.field(default=None, repr=False)
    """Token that may write there; None: that of HF_TOKEN or `unpad login`. It is written to no file of the run."""
    hub_private_repo: bool | None = None
    """Whether a repository that is made is private; None: as the Hub decides."""
    hub_revision: str | None = None
    """Branch that is sent to; None: the main one."""

    def __post_init__(self) -> None:
        self.output_dir = "trainer_output" if self.output_dir is None else str(self.output_dir)
        for field in dataclasses.fields(self):
            setattr(self, field.name, _typed(field.name, str(field.type), getattr(self, field.name)))
        for name in ("eval_strategy", "logging_strategy", "save_strategy", "lr_scheduler_type", "hub_strategy", "fsdp"):
            value = str(getattr(getattr(self, name), "value", getattr(self, name)))
            setattr(self, name, _MEANT.get(name, {}).get(value, value))
        for name, allowed in _ALLOWED.items():
            if name != "freeze" or self.freeze is not None:
                one_of(name, getattr(self, name), allowed)
        if self.bf16 and self.fp16:
            raise ArgumentError("bf16=True and fp16=True contradict each other; give one, or precision='auto'")
        for names, holds, must in _RANGES:
            for name in names:
                if (value := getattr(self, name)) is not None and not holds(value):
                    raise ArgumentError(f"{name}={value} must {must}")
        if self.max_steps <= 0 and self.num_train_epochs == 0:
            raise ArgumentError("num_train_epochs=0 and no max_steps: there is nothing to train")
        for name in self.label_names or []:
            if name not in ("label", "labels", "label_ids"):
                how = f"rename the column: dataset.rename_column({name!r}, 'labels')"
                raise ArgumentError(f"label_names: {name!r} is not label, labels or label_ids; {how}")
        if self.load_best_model_at_end and self.eval_strategy == "no":
            raise ArgumentError("load_best_model_at_end=True needs evaluations; set eval_strategy='epoch' or 'steps'")

    @property
    def chosen_precision(self) -> str:
        """What `precision`, `bf16` and `fp16` say together."""
        return "bf16" if self.bf16 else "fp16" if self.fp16 else self.precision

    @property
    def best_metric(self) -> str:
        """Key of the metric that judges checkpoints, with "eval_"."""
        name = self.metric_for_best_model or "loss"
        return name if name.startswith("eval_") else f"eval_{name}"

    @property
    def best_is_greatest(self) -> bool:
        """Whether larger values of `best_metric` are better."""
        known = self.greater_is_better
        return not self.best_metric.endswith(("loss", "perplexity")) if known is None else known

    def warmup(self, total: int) -> int:
        """Warm-up steps of a training of `total` steps."""
        return self.warmup_steps or math.ceil(total * self.warmup_ratio)

    def to_dict(self) -> dict[str, Any]:
        """The arguments by name, for files: without `hub_token`."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "hub_token"}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2) + "\n"


def _typed(name: str, kind: str, value: Any) -> Any:
    """`value` as the field's annotation `kind` wants it. Scripts read numbers from files and pass them as text, or pass 8.0 for 8."""
    kind, _, optional = kind.partition(" | ")
    if value is None and optional:
        return None
    hint = "; leave out the quotes" if isinstance(value, str) else ""
    if kind in ("float", "int"):
        number = isinstance(value, Real) and not isinstance(value, bool)
        if kind == "float" and not (number and math.isfinite(value)):
            raise ArgumentError(f"{name}={value!r} must be a finite number{hint}")
        if kind == "int" and not (number and float(value).is_integer()):
            hint = "; a share of all steps is given by warmup_ratio" if name == "warmup_steps" and number else hint
            raise ArgumentError(f"{name}={value!r} must be a whole number{hint}")
        return int(value) if kind == "int" else value
    if kind == "bool" and not (isinstance(value, Real) and value in (0, 1)):
        raise ArgumentError(f"{name}={value!r} must be True or False{hint}")
    if kind == "list[str]":
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise ArgumentError(f"{name}={value!r} must be a text or a list of texts")
        return list(value)
    return bool(value) if kind == "bool" else value


def accept_old_spellings(kind: type[TrainingArguments]) -> None:
    """Let the constructor take old names, say which arguments have no effect, and name the nearest of an unknown one."""
    plain = kind.__init__
    known = [f.name for f in dataclasses.fields(kind)]

    @functools.wraps(plain)
    def init(self: TrainingArguments, *args: Any, **given: Any) -> None:
        given = modern("TrainingArguments", given)
        for name in _LATER:
            if given.pop(name, None):
                raise ArgumentError(f"TrainingArguments: {name} is not supported in this version; leave it out")
        for name in _WITHOUT_EFFECT:
            if given.pop(name, None) is not None:
                say_once(f"TrainingArguments: {name} has no effect here")
        for name in given:
            if name not in known:
                near = nearest(name, [*known, *ALIASES["TrainingArguments"]])
                raise ArgumentError(f"{kind.__name__} has no argument {name!r}{near}")
        plain(self, *args, **given)

    kind.__init__ = init  # type: ignore[method-assign]


accept_old_spellings(TrainingArguments)
