"""Spellings of the past that still work, in a few tables. The code that takes keywords asks `modern` to translate them.

What no longer exists is refused in one line that gives today's spelling; what steers nothing here is accepted, and that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unpad.errors import ArgumentError
from unpad.notices import say_once

ALIASES: dict[str, dict[str, str]] = {
    "TrainingArguments": {
        "evaluation_strategy": "eval_strategy",
        "per_gpu_train_batch_size": "per_device_train_batch_size",
        "per_gpu_eval_batch_size": "per_device_eval_batch_size",
        "no_cuda": "use_cpu",
        "train_batch_size": "per_device_train_batch_size",
        "eval_batch_size": "per_device_eval_batch_size",
        "push_to_hub_model_id": "hub_model_id",
        "push_to_hub_token": "hub_token",
    },
    "Trainer": {"tokenizer": "processing_class"},
    "from_pretrained": {"use_auth_token": "token"},
    "load_dataset": {"use_auth_token": "token"},
}
"""Where a keyword is taken -> old spelling -> today's, of the same value."""

CHANGED: dict[str, dict[str, Callable[[Any], dict[str, Any]]]] = {
    "TrainingArguments": {
        "evaluate_during_training": lambda on: {"eval_strategy": "steps" if on else "no"},
        "optim": lambda name: {"optim": "adamw_torch" if getattr(name, "value", name) == "adamw_hf" else name},
    },
    "tokenizer": {
        "is_pretokenized": lambda on: {"is_split_into_words": on},
        "pad_to_max_length": lambda on: {"padding": "max_length"} if on else {},
        "truncation_strategy": lambda how: {"truncation": how},
    },
    "pipeline": {
        "grouped_entities": lambda on: {"aggregation_strategy": "simple" if on else "none"},
        "multi_class": lambda on: {"multi_label": on},
    },
}
"""Where -> old spelling -> from its value to today's keywords."""

IDLE: dict[str, tuple[str, ...]] = {
    "TrainingArguments": (
        "accelerator_config", "auto_find_batch_size", "average_tokens_across_devices", "bf16_full_eval", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_timeout", "debug",
        "dispatch_batches", "do_eval", "do_predict", "do_train", "fp16_backend", "fp16_full_eval", "fsdp_config",
        "gradient_checkpointing_kwargs", "ignore_data_skip", "include_num_input_tokens_seen", "include_tokens_per_second", "jit_mode_eval",
        "length_column_name", "log_level_replica", "log_on_each_node", "logging_dir", "mp_parameters", "past_index",
        "prediction_loss_only", "restore_callback_states_from_checkpoint", "save_on_each_node", "save_only_model",
        "skip_memory_metrics", "split_batches", "torch_empty_cache_steps", "tpu_metrics_debug", "tpu_num_cores", "use_ipex",
        "use_legacy_prediction_loop", "use_liger_kernel", "xpu_backend",
    ),
    "Trainer": ("prediction_loss_only",),
    "from_pretrained": ("resume_download",),
    "load_metric": (
        "cache_dir", "download_config", "download_mode", "experiment_id", "keep_in_memory", "module_type", "process_id", "revision",
        "script_version", "trust_remote_code",
    ),
}  # fmt: skip
"""Where -> keywords that change nothing here: what they steer does not exist, or is always so."""

REFUSED: dict[str, dict[str, str]] = {
    "TrainingArguments": {
        "adafactor": "is not supported; leave it out, the optimizer is AdamW (optim='adamw_torch')",
        "eval_delay": "is not supported; leave it out, or set eval_steps=",
        "eval_on_start": "is not supported; call trainer.evaluate() before trainer.train()",
        "include_inputs_for_metrics": "is not supported; read the inputs from the data set that is evaluated",
        "lr_scheduler_kwargs": "is not supported; pass Trainer(optimizers=(optimizer, schedule)) with a schedule of your own",
        "neftune_noise_alpha": "is not supported; leave it out",
        "push_to_hub_organization": "is not taken any more; write hub_model_id='organization/name'",
        "sharded_ddp": "is not taken any more; write fsdp='full_shard'",
    },
    "Trainer": {
        "compute_loss_func": "is not supported; return the loss from the model's forward",
        "optimizer_cls_and_kwargs": "is not supported; write optimizers=(optimizer, schedule)",
    },
    "from_pretrained": {
        "from_flax": "is not supported; save the weights as safetensors",
        "from_tf": "is not supported; save the weights as safetensors",
        "output_attentions": "is not supported; leave it out",
        "output_hidden_states": "is not supported; leave it out: AutoModel gives the last hidden state",
    },
    "pipeline": {
        "ignore_subwords": "is not taken any more; write aggregation_strategy='first'",
        "return_all_scores": "is not taken any more; write top_k=None, which gives the scores of all labels, best first",
    },
}
"""Where -> keyword -> what is said of it unless it is off (False, None, 0 or empty)."""

_TOKENIZERS = (
    "Albert", "Bart", "Barthez", "Bert", "CTRL", "DebertaV2", "DistilBert", "Electra", "GPT2", "Llama", "MBart", "MBart50", "MT5",
    "Marian", "OpenAIGPT", "Qwen2", "Roberta", "T5", "XLMRoberta", "XLNet",
)  # fmt: skip
NAMES: dict[str, str] = {
    **{f"{family}Tokenizer{speed}": "AutoTokenizer" for family in _TOKENIZERS for speed in ("", "Fast")},
    "PreTrainedConfig": "ModelConfig",
    "PreTrainedTokenizer": "Tokenizer",
    "PreTrainedTokenizerBase": "Tokenizer",
    "PreTrainedTokenizerFast": "Tokenizer",
    "PretrainedConfig": "ModelConfig",
}
"""Name that people import -> the public name that does its work."""

_SCHEDULE = "get_scheduler({!r}, optimizer, num_warmup_steps=..., num_training_steps=...)"
GONE: dict[str, str] = {
    "AutoModelWithLMHead": "AutoModelForCausalLM, AutoModelForMaskedLM or AutoModelForSeq2SeqLM",
    "BertAdam": "AdamW",
    "EvaluationStrategy": "eval_strategy='epoch'",
    "IntervalStrategy": "eval_strategy='epoch'",
    "get_constant_schedule": "get_scheduler('constant', optimizer)",
    "get_constant_schedule_with_warmup": _SCHEDULE.format("constant_with_warmup"),
    "get_cosine_schedule_with_warmup": _SCHEDULE.format("cosine"),
    "get_linear_schedule_with_warmup": _SCHEDULE.format("linear"),
    "list_metrics": "evaluate.list_evaluation_modules()",
    **{
        name: f"from datasets import {name}"
        for name in ("ClassLabel", "Features", "Sequence", "Value", "concatenate_datasets", "load_from_disk")
    },
}
"""Name that people import -> what they write today."""


def modern(where: str, given: dict[str, Any]) -> dict[str, Any]:
    """`given` with old spellings replaced and idle ones left out.

    Raises ArgumentError for what is not taken any more, and when a value comes under both names.
    """
    renamed, changed, refused = ALIASES.get(where, {}), CHANGED.get(where, {}), REFUSED.get(where, {})
    out: dict[str, Any] = {}
    for name, value in given.items():
        if name in refused:
            if value:
                raise ArgumentError(f"{where}: {name}={value!r:.60} {refused[name]}")
            continue
        if name in IDLE.get(where, ()):
            if value is not None:
                say_once(f"{where}: {name} has no effect here")
            continue
        for new, meant in (changed[name](value) if name in changed else {renamed.get(name, name): value}).items():
            if new in out or (new != name and new in given):
                raise ArgumentError(f"{where}: {name}= is the old name of {new}=; give only one of them")
            out[new] = meant
    return out


def AdamW(  # noqa: N802
    params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, weight_decay: float = 0.0,
    correct_bias: bool = True, no_deprecation_warning: bool = False,
) -> Any:  # fmt: skip
    """`torch.optim.AdamW` under its older name, with the defaults that scripts of that time count on.

    These are eps=1e-6 and no decay, where PyTorch has 1e-8 and 0.01; lr=1e-3 is that of both. `no_deprecation_warning` means nothing.
    Steps are PyTorch's own: eps is added after the correction of both moments, and the decay is taken off before the step.
    Raises ArgumentError for correct_bias=False, which PyTorch does not have.
    """
    import torch

    if not correct_bias:
        raise ArgumentError("AdamW: correct_bias=False is not supported; leave it out; let the learning rate warm up")
    return torch.optim.AdamW(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
