"""The names people know: `AutoModel...`, `Bert...`, `AutoConfig`, `BertConfig`. Each is a (family, head) pair, not a class of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch

from unpad.checkpoint.load import has_own_table, load_weights, read_config
from unpad.config import FIELDS, TOKENS, ModelConfig
from unpad.core.heads import HEADS
from unpad.core.transformer import initialise
from unpad.errors import ArgumentError, listing, nearest
from unpad.families import FAMILIES, Family, family
from unpad.generate.settings import FILE as GENERATION
from unpad.generate.settings import GenerationConfig, listed
from unpad.hub.pull import CONFIG_FILES, resolve, split_options
from unpad.hub.pull import OPTIONS as HUB_OPTIONS
from unpad.models.model import Model
from unpad.notices import say, say_once

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_READ = ("pad_token_id", "decoder_start_token_id")
"""Tokens that the decoder of an encoder-decoder reads in any training."""
_LABELS = ("num_labels", "id2label", "label2id")
_IGNORED = ("trust_remote_code", "use_safetensors", "low_cpu_mem_usage", "device_map", "attn_implementation")


class ModelClass:
    """A way to make models of one head: of any family (`AutoModelForSequenceClassification`) or of one (`BertModel`)."""

    def __init__(self, name: str, head: str, model_type: str | None = None) -> None:
        self.__name__, self.head, self.model_type = name, head, model_type

    def __call__(self, config: ModelConfig | None = None) -> Model:
        """A model with new random weights."""
        if self.model_type is None or config is None:
            name = self.__name__
            raise ArgumentError(f"{name} is made with {name}.from_pretrained(...) or .from_config(...)")
        return self.from_config(config)

    def from_config(self, config: ModelConfig) -> Model:
        """A model with new random weights drawn from PyTorch's generator."""
        kind = self._family(_checked(config).model_type, "the configuration")
        check_tokens(config, _READ if config.is_encoder_decoder else ())
        model = Model(config, kind, self.head)
        model.reset_parameters()
        return model.eval()

    def from_pretrained(
        self,
        name: str | Path,
        *,
        config: ModelConfig | None = None,
        ignore_mismatched_sizes: bool = False,
        dtype: Any = None,
        **options: Any,
    ) -> Model:
        """Load a model from a folder or a Hub id.

        Changes to the configuration are keyword arguments (`num_labels=3`, `id2label=`, `label2id=`, `hidden_dropout_prob=0.2`).
        A head that the checkpoint lacks is drawn anew and named in one line. `dtype` is the dtype of the parameters
        (default fp32). Of a Hub id, `revision=` is a branch, tag or commit, `token=` a token, True (that of this machine) or False
        (none); `cache_dir=`, `local_files_only=`, `force_download=` and `subfolder=` say where files are. The model is returned in
        evaluation mode. Raises CheckpointError for missing, damaged or foreign files.
        """
        if options.get("trust_remote_code"):
            raise ArgumentError("trust_remote_code=True is not supported: no code is ever loaded with a model")
        hub, options = split_options(options)
        dtype = _dtype(options.pop("torch_dtype", None) if dtype is None else dtype)
        for key in _IGNORED:
            options.pop(key, None)
        folder = resolve(name, **hub)
        read, kind = read_config(folder)
        kind = self._family(kind.model_type, str(folder))
        named = read if config is None else _checked(config)
        if config is None and not options.keys().isdisjoint(_LABELS):
            named = named.replace(problem_type=None)
        known = [*named.names, *_LABELS, "problem_type", "config", "dtype", *HUB_OPTIONS]
        if odd := next((key for key in options if key not in known and key not in FIELDS), None):
            raise ArgumentError(f"from_pretrained takes no argument {odd!r}{nearest(odd, known)}")
        named = named.replace(**options)
        check_tokens(named, {*options, *(_READ if named.is_encoder_decoder else ())})
        if named.tied and HEADS[self.head].vocabulary and has_own_table(folder, kind):
            named = named.replace(tied=False)
        with torch.device("meta"):
            model = Model(named, kind, self.head)
        # as `to_empty`, which would load sympy: half a second
        model._apply(lambda t: torch.empty(t.shape, dtype=t.dtype, device="cpu"))
        report = load_weights(model, folder, kind, self.head, resize_head=ignore_mismatched_sizes)
        if report.new:
            initialise(model, named, report.new)
            say(f"{model.class_name} from {name}: new head, to be trained: {listing(report.new)}")
        if report.unexpected:
            say(f"{model.class_name} from {name}: not used from the file: {listing(report.unexpected, 4)}")
        model.load_report, model.name_or_path = report, str(name)
        if model.can_generate and (folder / GENERATION).is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        if dtype is not None:
            model.to(dtype)
        return model.eval()

    def _family(self, model_type: str, where: str) -> Family:
        if self.model_type is not None and model_type != self.model_type:
            raise ArgumentError(
                f"{self.__name__} cannot hold a {model_type} model ({where}); use the Auto class or the {model_type} class"
            )
        kind = family(model_type, where)
        if self.head not in kind.heads:
            raise ArgumentError(
                f"{self.__name__}: {model_type} models have no such head; they have {', '.join(kind.heads)}"
            )
        return kind

    def __instancecheck__(self, value: Any) -> bool:
        if not isinstance(value, Model) or value.head_name != self.head:
            return False
        return self.model_type in (None, value.config.model_type)

    def __repr__(self) -> str:
        return f"<model class {self.__name__}>"


def _checked(config: Any) -> ModelConfig:
    if not isinstance(config, ModelConfig):
        raise ArgumentError(
            f"config is {config!r:.40} ({type(config).__name__}); give a configuration, as AutoConfig.from_pretrained or BertConfig make it"
        )
    return config


def _dtype(given: Any) -> torch.dtype | None:
    """The dtype of parameters by object or name; None for "auto" and None (they stay fp32)."""
    if given is None or (isinstance(given, str) and given == "auto"):
        return None
    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ArgumentError(
            f"dtype={given!r} is no type of weights{nearest(given, _DTYPES)}; allowed: {', '.join(_DTYPES)}, or None for fp32"
        )
    return found


def family_config(kind: Family, values: Mapping[str, Any]) -> ModelConfig:
    """The family's configuration with these values; those that nothing reads are kept, and said."""
    idle = {key: values[key] for key in _idle(kind) if key in values}
    made = kind.config(**{key: value for key, value in values.items() if key not in idle})
    for key, value in idle.items():
        say_once(f"{key}={value!r} has no effect; n_positions={made.max_positions} is what bounds a text")
    return dataclasses.replace(made, extra={**made.extra, **idle}) if idle else made


def _idle(kind: Family) -> tuple[str, ...]:
    """Keys that old configurations of the family have and nothing reads."""
    return ("n_ctx",) if "n_positions" in kind.fields else ()


def check_tokens(config: ModelConfig, names: Container[str]) -> None:
    """ArgumentError for one of the `TOKENS` among `names` that the vocabulary does not have."""
    for name in TOKENS:
        outside = [i for i in listed(getattr(config, name)) if i is not None and not 0 <= i < config.vocab_size]
        if outside and name in names:
            raise ArgumentError(
                f"{name}={outside[0]} is no token of the vocabulary, which has 0..{config.vocab_size - 1}; give one of them"
            )


class ConfigClass:
    """Makes configurations: of the family that a checkpoint names (`AutoConfig`) or of a given one (`BertConfig`)."""

    def __init__(self, name: str, model_type: str | None = None) -> None:
        self.__name__, self.model_type = name, model_type

    def __call__(self, **values: Any) -> ModelConfig:
        """The family's published base configuration with changes by key (`hidden_size=128`)."""
        if self.model_type is None:
            raise ArgumentError("AutoConfig is made with .from_pretrained(...) or .for_model('bert', ...)")
        return self.for_model(self.model_type, **values)

    def for_model(self, model_type: str, **values: Any) -> ModelConfig:
        """The configuration of a family by its model_type."""
        made = family_config(family(model_type, "AutoConfig.for_model"), values)
        check_tokens(made, values)
        return made

    def from_pretrained(self, name: str | Path, **options: Any) -> ModelConfig:
        """Read `config.json` from a folder or a Hub id (`revision=`, `token=`, ... as models take them); other keyword arguments
        change the values, also those that only the file knows."""
        hub, options = split_options(options)
        config, kind = read_config(resolve(name, files=CONFIG_FILES, **hub))
        known = {*config.extra, *_idle(kind)} - kind.only.keys()
        kept = {key: options.pop(key) for key in list(options) if key in known}
        if kept:
            say(f"kept in the configuration, but no part of the network: {listing(kept)}")
        made = config.replace(**options)
        check_tokens(made, options)
        return dataclasses.replace(made, extra={**config.extra, **kept})

    def __instancecheck__(self, value: Any) -> bool:
        return isinstance(value, ModelConfig) and self.model_type in (None, value.model_type)


AutoConfig = ConfigClass("AutoConfig")
AutoModel = ModelClass("AutoModel", "base")
AutoModelForCausalLM = ModelClass("AutoModelForCausalLM", "causal-lm")
AutoModelForMaskedLM = ModelClass("AutoModelForMaskedLM", "masked-lm")
AutoModelForMultipleChoice = ModelClass("AutoModelForMultipleChoice", "multiple-choice")
AutoModelForPreTraining = ModelClass("AutoModelForPreTraining", "pre-training")
AutoModelForQuestionAnswering = ModelClass("AutoModelForQuestionAnswering", "question-answering")
AutoModelForSeq2SeqLM = ModelClass("AutoModelForSeq2SeqLM", "conditional-generation")
AutoModelForSequenceClassification = ModelClass("AutoModelForSequenceClassification", "sequence-classification")
AutoModelForTokenClassification = ModelClass("AutoModelForTokenClassification", "token-classification")


def __getattr__(name: str) -> Any:
    """`BertModel`, `BertConfig`, ...: every family's names, made from its facts."""
    for model_type in FAMILIES:
        kind = family(model_type)
        if name == f"{kind.prefix}Config":
            return ConfigClass(name, model_type)
        for head in kind.heads:
            if name == kind.class_name(head):
                return ModelClass(name, head, model_type)
    raise AttributeError(name)
