"""unpad: fine-tune, evaluate and use transformer models for NLP without ever computing on padding.

Names are loaded when first used, so that `import unpad` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.6.0"

PUBLIC: dict[str, str] = {
    # text
    "AutoTokenizer": "unpad.text.tokenizer",
    "Tokenizer": "unpad.text.tokenizer",
    "BatchEncoding": "unpad.text.encoding",
    # data
    "load_dataset": "unpad.data.load",
    "Dataset": "unpad.data.load",
    "DatasetDict": "unpad.data.load",
    "DataCollatorWithPadding": "unpad.data.collators",
    "DataCollatorForTokenClassification": "unpad.data.collators",
    "DataCollatorForLanguageModeling": "unpad.data.collators",
    "DataCollatorForWholeWordMask": "unpad.data.collators",
    "DataCollatorForMultipleChoice": "unpad.data.collators",
    "DataCollatorForSeq2Seq": "unpad.data.collators",
    "PackingCollator": "unpad.data.collators",
    "default_data_collator": "unpad.data.collators",
    "PackedBatch": "unpad.batch",
    "TokenStore": "unpad.data.tokens",
    "TokenStream": "unpad.data.stream",
    "show": "unpad.data.show",
    "documents_to_rows": "unpad.data.chunks",
    "token_weights": "unpad.data.chunks",
    # models
    "ModelConfig": "unpad.config",
    "AutoConfig": "unpad.models.auto",
    "AutoModel": "unpad.models.auto",
    "AutoModelForCausalLM": "unpad.models.auto",
    "AutoModelForMaskedLM": "unpad.models.auto",
    "AutoModelForMultipleChoice": "unpad.models.auto",
    "AutoModelForPreTraining": "unpad.models.auto",
    "AutoModelForQuestionAnswering": "unpad.models.auto",
    "AutoModelForSeq2SeqLM": "unpad.models.auto",
    "AutoModelForSequenceClassification": "unpad.models.auto",
    "AutoModelForTokenClassification": "unpad.models.auto",
    "from_scratch": "unpad.models.scratch",
    # training
    "Accelerator": "unpad.engine.accelerator",
    "notebook_launcher": "unpad.engine.launch",
    "skip_first_batches": "unpad.engine.loader",
    "get_scheduler": "unpad.engine.schedules",
    "AdamW": "unpad.compat",
    "set_seed": "unpad.engine.state",
    "TrainingArguments": "unpad.train.arguments",
    "Trainer": "unpad.train.trainer",
    "TrainerCallback": "unpad.train.callbacks",
    "EarlyStoppingCallback": "unpad.train.callbacks",
    "EvalPrediction": "unpad.train.evaluate",
    "Seq2SeqTrainer": "unpad.train.seq2seq",
    "Seq2SeqTrainingArguments": "unpad.train.seq2seq",
    "GenerationConfig": "unpad.generate.settings",
    "TextStreamer": "unpad.generate.streamers",
    "TextIteratorStreamer": "unpad.generate.streamers",
    # judging and using
    "load_metric": "unpad.metrics",
    "pipeline": "unpad.pipelines",
    # accounts and pushing
    "login": "unpad.hub.account",
    "notebook_login": "unpad.hub.account",
    "logout": "unpad.hub.account",
    "whoami": "unpad.hub.account",
    "get_full_repo_name": "unpad.hub.account",
    "push_folder": "unpad.hub.push",
    "Repository": "unpad.hub.repository",
    # errors
    "UnpadError": "unpad.errors",
    "ArgumentError": "unpad.errors",
    "DataError": "unpad.errors",
    "CheckpointError": "unpad.errors",
    "HubError": "unpad.errors",
    "TrainingError": "unpad.errors",
}
"""Public name -> module that holds it."""

__all__ = [*PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    from unpad.compat import GONE, NAMES

    if name in GONE:  # an AttributeError would reach `from unpad import ...` without its text
        raise ImportError(f"unpad has no {name}; write {GONE[name]}")
    asked, name = name, NAMES.get(name, name)
    # the families' own names, BertConfig or BertForMaskedLM, are made by the families
    of_family = name[:1].isupper() and ("For" in name or name.endswith(("Model", "Config")))
    if name not in PUBLIC and not of_family:
        raise AttributeError(f"unpad has no {name!r}")
    try:
        value = getattr(import_module(PUBLIC.get(name, "unpad.models.auto")), name)
    except AttributeError:
        raise AttributeError(f"unpad has no {name!r}") from None
    globals()[asked] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
