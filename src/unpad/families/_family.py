"""What an architecture family is: facts about its files, from which loading and saving are both derived.

A family maps its `config.json` to `ModelConfig` fields and its weight names to ours. Each weight rule is written once and is
invertible, so reading and writing cannot drift apart. No family has code of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unpad.config import FIELDS, ModelConfig, label_changes, layer_changes, nested
from unpad.core.heads import HEADS, HeadSpec
from unpad.core.layers import activation
from unpad.errors import ArgumentError, CheckpointError, nearest


@dataclass(frozen=True)
class Rule:
    """One or several of their modules (or parameters) <-> one of ours; several are stacked along dimension 0, in order.

    `{i}` and `{j}` in names stand for the numbers of a block, and of one inside a shared block.
    """

    theirs: tuple[str, ...]
    ours: str
    transposed: bool = False
    """Their matrices stand inputs first, [in, out] (GPT-2)."""
    by_heads: bool = False
    """They are queries, keys and values, in the sizes of `ModelConfig.qkv_widths`; else all have the same size."""
    lone_row: bool = False
    """Theirs is [1, n] where ours is [n] (biases of BART's vocabulary)."""
    where: str | None = None
    """Field of `ModelConfig` that is true of models with these names; else a later rule tells them (T5's gated feed-forward)."""

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """Ours from theirs, in order."""
        if self.lone_row:
            parts = [part.reshape(-1) for part in parts]
        if self.transposed:
            parts = [part.t() if part.dim() == 2 else part for part in parts]
        return parts[0] if len(parts) == 1 else torch.cat(list(parts))

    def write(self, parameter: Tensor, config: ModelConfig) -> list[Tensor]:
        """The inverse of `read`: views where that is possible."""
        parts = [parameter]
        if len(self.theirs) > 1:
            equal = [parameter.shape[0] // len(self.theirs)] * len(self.theirs)
            parts = list(parameter.split(list(config.qkv_widths) if self.by_heads else equal))
        if self.transposed:
            parts = [part.t() if part.dim() == 2 else part for part in parts]
        return [part[None] for part in parts] if self.lone_row else parts

    def matches(self, name: str) -> tuple[str, ...] | None:
        """Their names for our parameter `name`, or None when this rule is not about it."""
        pattern = re.sub(r"\\{([ij])\\}", r"(?P<\1>\\d+)", re.escape(self.ours))
        found = re.fullmatch(pattern + r"(?P<rest>\..+)?", name)
        if found is None:
            return None
        numbers = found.groupdict()
        rest = numbers.pop("rest") or ""
        return tuple(their.format(**numbers) + rest for their in self.theirs)


def rename(theirs: str, ours: str, **facts: Any) -> Rule:
    """The same tensors under another name."""
    return Rule((theirs,), ours, **facts)


def stack(theirs: Sequence[str], ours: str, **facts: Any) -> Rule:
    """Several of their tensors are consecutive rows of one of ours."""
    return Rule(tuple(theirs), ours, **facts)


@dataclass(frozen=True)
class FamilyHead:
    """A head of a family: how it is built, and its weights under their full names in a checkpoint."""

    spec: HeadSpec
    keys: Sequence[Rule]
    base_prefix: str | None = None
    """What stands before base weights where it is not the family's `base_prefix`."""


def same(*names: str) -> dict[str, str]:
    """Keys of config.json under the names that fields of ModelConfig have."""
    return {name: name for name in names}


def head(keys: Sequence[Rule], base_prefix: str | None = None, **spec: Any) -> FamilyHead:
    """A family's head from its weight rules and the facts of its `HeadSpec`."""
    return FamilyHead(HeadSpec(**spec), keys, base_prefix)


def vocabulary(*keys: Rule, **spec: Any) -> FamilyHead:
    """A head that reads the vocabulary out at each token."""
    return head(keys, reads="each", drop=None, output="vocabulary", **spec)


def words(dense: str, norm: str, bias: str, activation: str | None = None) -> FamilyHead:
    """A masked LM head: a dense layer, its activation (None: that of the blocks) and norm, then the vocabulary."""
    keys = rename(dense, "head.dense"), rename(norm, "head.norm"), rename(bias, "head.bias")
    return vocabulary(*keys, dense=True, activation=activation, norm=True)


# What most families have.
SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "ffn_width",
    "max_position_embeddings": "max_positions",
}
CLASSIFIER = rename("classifier", "head.classifier")
BASE = head([], drop=None, output=None)
TOKENS = head([CLASSIFIER], reads="each")
SPANS = head([rename("qa_outputs", "head.classifier")], reads="each", drop=None, output=2)


def pooled(pooler: str, words: FamilyHead) -> dict[str, FamilyHead]:
    """The heads of a family that has a dense layer on the first token, `pooler`, in front of classes and choices."""
    dense = rename(pooler, "head.dense")
    return {
        "base": head([dense], dense=True, output=None),
        "sequence-classification": head([dense, CLASSIFIER], dense=True),
        "token-classification": TOKENS,
        "question-answering": SPANS,
        "multiple-choice": head([dense, CLASSIFIER], dense=True, output=1),
        "masked-lm": words,
    }


@dataclass(frozen=True)
class Family:
    """The facts of one architecture family."""

    model_type: str
    """`model_type` in config.json."""
    prefix: str
    """First part of its class names: "Bert" in BertForSequenceClassification."""
    fields: Mapping[str, str]
    """Key of config.json -> field of ModelConfig. "a.b" is a key inside an object; a field with an older and a newer key is
    read from the last that is there and written under each."""
    defaults: Mapping[str, Any]
    """Field of ModelConfig -> value when config.json does not name it (the family's published base model), where it is not the field's own."""
    keys: Sequence[Rule]
    """Weights of the base model, without the base prefix."""
    base_prefix: str
    """What stands before base weights in a checkpoint that has a head ("bert.")."""
    heads: Mapping[str, FamilyHead]
    """Head name -> how the family builds it. "base" is the bare model."""
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Keys of config.json that would change the mathematics -> the values under which nothing changes."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """Weight name of a tied copy -> that of the weight itself, which is read from the copy where the file has no other. Of an untied model
    they are no copies."""
    suffixes: Mapping[str, str] = field(default_factory=dict)
    """Head -> last part of the family's class name where it is its own ("LMHeadModel")."""
    dropped: tuple[str, ...] = (r"(.+\.)?embeddings\.position_ids",)
    """Patterns of their weight names that hold no parameters (buffers of old versions)."""

    def config(self, **values: Any) -> ModelConfig:
        """A configuration from the family's key names (or our field names), with its defaults for the rest."""
        values = label_changes(values)
        fields = {name: values.pop(name) for name in list(values) if name in FIELDS and name != "names"}
        fields.update({self.fields[key]: values.pop(key) for key in list(values) if key in self.fields})
        if values:
            key = next(iter(values))
            known = [*self.fields, "num_labels", "id2label", "label2id", "problem_type"]
            raise ArgumentError(f"{self.prefix}Config has no {key!r}{nearest(key, known)}; known: {', '.join(known)}")
        fields = layer_changes(fields)
        if fields.get("decoder_layers", 0) is None:
            del fields["decoder_layers"]  # null stands for the default (T5)
        config = ModelConfig(**{**self.defaults, **fields, "model_type": self.model_type, "names": self.fields})
        activation(config.activation)  # refuses an unknown one
        return config

    def read_config(self, raw: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
        """The configuration in a parsed `config.json`; a key that we cannot honour is refused by name."""
        for key, allowed in self.only.items():
            given, value = nested(raw, key)
            if given and value not in allowed:
                raise CheckpointError(
                    f"{where}: {key}={value!r} changes the computation and is not supported for {self.model_type}; "
                    f"supported: {', '.join(map(repr, allowed))}"
                )
        labels = {k: raw[k] for k in ("num_labels", "id2label", "label2id") if raw.get(k) is not None}
        if "id2label" in labels:
            labels = {"id2label": labels["id2label"]}
        found = {key: nested(raw, key) for key in self.fields}
        values = {key: value for key, (given, value) in found.items() if given}
        ours = {*self.fields, "num_labels", "id2label", "label2id", "model_type", "architectures", "problem_type"}
        return self.config(**values, **labels).replace(
            extra={key: value for key, value in raw.items() if key not in ours},
            architectures=tuple(raw.get("architectures") or ()),
            problem_type=raw.get("problem_type"),
        )

    def class_name(self, head: str) -> str:
        """The Hugging Face name of the family's model with this head."""
        return self.prefix + self.suffixes.get(head, HEADS[head].suffix)

    def rule(self, ours: str, head: str, config: ModelConfig) -> tuple[Rule, tuple[str, ...]]:
        """The rule about our parameter `ours`, and the names of its tensors in a checkpoint with `head`, base prefix included."""
        for rule in self.keys:
            if (names := rule.matches(ours)) and (rule.where is None or getattr(config, rule.where)):
                own = self.heads[head].base_prefix or self.base_prefix
                return rule, tuple(("" if head == "base" else own) + n for n in names)
        for rule in self.heads[head].keys:
            if names := rule.matches(ours):
                return rule, tuple(n.removeprefix(self.base_prefix) if head == "base" else n for n in names)
        raise AssertionError(f"family {self.model_type} has no rule for {ours}")

    def copies_of(self, tied: bool) -> dict[str, str]:
        """`copies` as they are in a model whose vocabulary is or is not read out with the token embedding."""
        rules = [rule for h in self.heads.values() for rule in h.keys if rule.ours == "head.table"]
        tables = {f"{name}.weight" for rule in rules for name in rule.theirs}
        return {copy: name for copy, name in self.copies.items() if tied or copy not in tables}

    def bare(self, name: str) -> str:
        """A weight name without the base prefix, whichever head it was saved with."""
        prefixes = {self.base_prefix, *(h.base_prefix for h in self.heads.values() if h.base_prefix)}
        return next((name[len(prefix) :] for prefix in prefixes if prefix and name.startswith(prefix)), name)

    def normal_name(self, name: str) -> str:
        """A weight name as found in a file, in today's spelling (checkpoints born in TensorFlow say gamma and beta)."""
        return re.sub(r"\.beta$", ".bias", re.sub(r"\.gamma$", ".weight", name))

    def is_dropped(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.dropped)
