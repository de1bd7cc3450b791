"""`pipeline(...)`: from texts to answers in one call.

The class and the loading of models are in `_pipeline`; importing this package costs nothing.
"""

from __future__ import annotations

from typing import Any

MAX_TOKENS = 8192
"""Tokens per batch: enough that matrix products run at full speed, few enough that memory stays small."""


def pipeline(
    task: str | None = None,
    model: Any = None,
    tokenizer: Any = None,
    *,
    device: Any = None,
    precision: str = "auto",
    max_tokens: int = MAX_TOKENS,
    **options: Any,
) -> Any:
    """A `Pipeline`: an object that is called with a text, a pair, a list, a generator or a data set.

    Args:
        task: its name or an alias, e.g. `"text-classification"`, `"sentiment-analysis"` or `"translation_en_to_fr"`; None: told by the
            model's head.
        model: a folder, a Hub id or a loaded model; None: the task's default model.
        tokenizer: a folder, a Hub id or a loaded tokenizer; None: the one that lies beside the model.
        device: `"cpu"`, `"cuda:1"`, a number of a GPU (-1: the CPU); None: that of a loaded model, else a GPU if there is one.
        precision: `"auto"`, `"fp32"`, `"bf16"` or `"fp16"`, see `unpad.engine.precision`.
        max_tokens: tokens per batch.
        options: of the task (`top_k`, `function_to_apply`), of the tokenizer (`truncation`, `max_length`), which a call may set
            too, and of loading (`revision`, `token`, `cache_dir`, `local_files_only`, `dtype`, `model_kwargs`). Where the model
            writes its answers, the fields of `GenerationConfig` too, `max_length` among them (`max_source_length` is that of inputs).
            `batch_size`, `num_workers`, `padding`, `framework` and `use_fast` are accepted and change nothing.

    Raises:
        ArgumentError: an unknown task or option, or a model that cannot do the task.
        CheckpointError: the model or the tokenizer is missing or cannot be read.
    """
    from unpad.pipelines._pipeline import build

    return build(task, model, tokenizer, device=device, precision=precision, max_tokens=max_tokens, **options)


def __getattr__(name: str) -> Any:
    if name == "Pipeline":
        from unpad.pipelines._pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["MAX_TOKENS", "Pipeline", "pipeline"]
