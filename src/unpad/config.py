"""What a model is, as one flat frozen value: every number that shapes the computation, and the names of its labels.

A field exists only while a shipped family needs it. Field names are ours; a family's table maps them to and from the
keys of its `config.json`, and those keys are readable here as attributes too (`config.hidden_size`). Keys that we do
not know are kept in `extra` and written back unchanged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from unpad.errors import ArgumentError, CheckpointError, nearest


@dataclass(frozen=True, repr=False)
class ModelConfig:
    """The facts of one model. Build it with a family (`BertConfig(...)`) or read it with `AutoConfig.from_pretrained`."""

    model_type: str
    """Family name, as in `config.json` ("bert")."""
    vocab_size: int
    """Rows of the token embedding."""
    width: int
    """D: width of the hidden states."""
    layers: int
    """Number of transformer blocks."""
    heads: int
    """N: attention heads; the head width H is width / heads."""
    ffn_width: int
    """Width of the feed-forward layer inside a block."""
    activation: str
    """Activation of the feed-forward layer: one of core.layers.ACTIVATIONS."""
    max_positions: int
    """Longest sequence that the position table can hold, in tokens."""
    token_types: int
    """Number of segment embeddings (0: the family has none)."""
    norm_eps: float
    """Epsilon of the layer norms."""
    dropout: float
    """Dropout probability of embeddings, attention output and feed-forward output."""
    attention_dropout: float
    """Dropout probability of attention weights."""
    classifier_dropout: float | None
    """Dropout probability before the classifier; None: the same as `dropout`."""
    initializer_range: float
    """Standard deviation of the normal distribution that new weights are drawn from."""
    pad_token_id: int | None
    """Id whose embedding row is zero at initialisation; it never enters the computation."""
    id2label: Mapping[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    """Names of the labels in the order of the classifier's outputs."""
    problem_type: str | None = None
    """"single_label_classification", "multi_label_classification", "regression", or None: told from labels at first use."""
    architectures: tuple[str, ...] = ()
    """Class names under `architectures` of the `config.json` it was read from."""
    names: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Key of the family's `config.json` -> field name here. Comes from the family, not from the file."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `config.json` that change nothing in the computation here; written back as they were."""

    def __post_init__(self) -> None:
        key = {
            name: theirs for theirs, name in self.names.items()
        }  # messages name what stands in config.json
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ArgumentError(
                    f"{key.get(name, name)}={value!r} must be a whole number, {least} or more"
                )
            object.__setattr__(self, name, int(value))  # JSON knows no numpy numbers
        if self.pad_token_id is not None and not isinstance(self.pad_token_id, int):
            raise ArgumentError(
                f"{key.get('pad_token_id', 'pad_token_id')}={self.pad_token_id!r} must be a whole number or None"
            )
        if self.width % self.heads:
            raise ArgumentError(
                f"hidden size {self.width} is not a multiple of the {self.heads} attention heads"
            )
        for name in ("dropout", "attention_dropout", "classifier_dropout"):
            p = getattr(self, name)
            if p is not None and not (isinstance(p, (int, float)) and 0 <= p < 1):
                raise ArgumentError(
                    f"{name} ({key.get(name, name)}) is {p!r}; a dropout probability lies in 0 <= p < 1"
                )
        for name in ("norm_eps", "initializer_range"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ArgumentError(f"{key.get(name, name)}={value!r} must be a number in 0 <= x < 1")

    @property
    def num_labels(self) -> int:
        """C: outputs of a classification head."""
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        """The inverse of `id2label`."""
        return {name: i for i, name in self.id2label.items()}

    @property
    def head_width(self) -> int:
        """H: width of one attention head."""
        return self.width // self.heads

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            names = self.__dict__.get("names", {})
            if name in names:
                return getattr(self, names[name])
            extra = self.__dict__.get("extra", {})
            if name in extra:
                return extra[name]
        known = [f.name for f in dataclasses.fields(self)]
        raise AttributeError(f"the configuration has no {name!r}{nearest(name, known)}")

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with other values. Accepts field names, the family's own key names, `num_labels` and `label2id`."""
        values = label_changes({self.names.get(k, k): v for k, v in changes.items()})
        fields = [f.name for f in dataclasses.fields(self)]
        for name in values:
            if name not in fields:
                known = [*self.names, "num_labels", "id2label", "label2id", "problem_type"]
                raise ArgumentError(
                    f"the configuration has no {name!r}{nearest(name, known)}; known: {', '.join(known)}"
                )
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json` under the family's own key names, unknown keys included."""
        out: dict[str, Any] = {**self.extra, "model_type": self.model_type}
        out.update({key: getattr(self, name) for key, name in self.names.items()})
        if self.architectures:
            out["architectures"] = list(self.architectures)
        out["id2label"] = {str(i): name for i, name in self.id2label.items()}
        out["label2id"] = self.label2id
        if self.problem_type is not None:
            out["problem_type"] = self.problem_type
        return dict(sorted(out.items()))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` into `folder` (made if missing)."""
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / "config.json").write_text(
                json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise CheckpointError(
                f"config.json cannot be written to {str(folder)!r} ({error.strerror}); give a folder that can be written"
            ) from None

    def __repr__(self) -> str:
        return f"{self.model_type.capitalize()}Config {json.dumps(self.to_dict(), indent=2)}"


_WHOLE = {
    "vocab_size": 1,
    "width": 1,
    "layers": 1,
    "heads": 1,
    "ffn_width": 1,
    "max_positions": 1,
    "token_types": 0,
}
"""Fields that are whole numbers -> the least that makes a model."""


def _ids(option: str, given: Any, names_first: bool) -> list[tuple[str, int]]:
    """(name, id) pairs of an `id2label` or `label2id`; ArgumentError for what is none."""
    example = "{'no': 0, 'yes': 1}" if names_first else "{0: 'no', 1: 'yes'}"
    if not isinstance(given, Mapping):
        raise ArgumentError(
            f"{option}={given!r:.60} is a {type(given).__name__}; give a dictionary such as {example}"
        )
    try:
        return [(str(a), int(b)) if names_first else (str(b), int(a)) for a, b in given.items()]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{option}={dict(given)!r:.80} has an id that is no whole number; give a dictionary such as {example}"
        ) from None


def label_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Turn `num_labels` and `label2id`, in whatever combination a caller gives them, into `id2label`.

    Keys of `id2label` may be strings, as JSON has them. Raises ArgumentError where the three contradict each other.
    """
    out = {k: v for k, v in values.items() if k not in ("num_labels", "label2id", "id2label")}
    count, to_id, to_label = values.get("num_labels"), values.get("label2id"), values.get("id2label")
    if count is not None and (isinstance(count, (bool, str)) or int(count) != count or count < 1):
        raise ArgumentError(f"num_labels={count!r} must be a whole number, 1 or more")
    if to_label is not None:
        labels = {i: name for name, i in _ids("id2label", to_label, names_first=False)}
    elif to_id is not None:
        labels = {i: name for name, i in _ids("label2id", to_id, names_first=True)}
    elif count is not None:
        labels = {i: f"LABEL_{i}" for i in range(int(count))}
    else:
        return out
    if sorted(labels) != list(range(len(labels))) or not labels:
        raise ArgumentError(
            f"label ids must be 0..{max(len(labels), 1) - 1} without gaps, but they are {sorted(labels)}"
        )
    labels = dict(sorted(labels.items()))
    if (
        to_label is not None
        and to_id is not None
        and dict(_ids("label2id", to_id, names_first=True)) != {name: i for i, name in labels.items()}
    ):
        raise ArgumentError(
            f"label2id {dict(to_id)} is not the inverse of id2label {labels}; pass one of the two"
        )
    if count is not None and int(count) != len(labels):
        raise ArgumentError(
            f"num_labels={count} but there are {len(labels)} label names: {', '.join(labels.values())}"
        )
    out["id2label"] = labels
    return out
