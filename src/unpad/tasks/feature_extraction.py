"""Feature extraction: the vectors of a model without a head, one per token or one per text.

S tokens of a text, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unpad.batch import PackedBatch
from unpad.core.heads import pooled
from unpad.errors import ArgumentError, nearest
from unpad.tasks._task import Features, Reader
from unpad.tasks._untrained import Untrained
from unpad.tasks.text_classification import TASK as TEXT_CLASSIFICATION

if TYPE_CHECKING:
    from unpad.config import ModelConfig

POOLING = ("mean", "first")
TENSORS = ("pt", "np")


class FeatureExtraction(Untrained):
    """See `Task`. Options: `pooling` (None: all tokens; "mean" or "first": one vector), `return_tensors` (None: lists; True or "pt":
    torch tensors; "np": numpy arrays)."""

    name = "feature-extraction"
    head = "base"
    auto_class = "AutoModel"
    default_model = "distilbert-base-cased"
    options = ("pooling", "return_tensors")
    refusal = (
        "feature-extraction has nothing to train or evaluate: its models have no head; use a task with one, such as text-classification "
        "(with freeze='base' only the head learns)"
    )

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that say something. Raises ArgumentError for unknown values."""
        out = {name: value for name, value in options.items() if value not in (None, False)}
        if out.get("return_tensors") is True:
            out["return_tensors"] = "pt"
        for name, allowed in (("pooling", POOLING), ("return_tensors", TENSORS)):
            if name in out and out[name] not in allowed:
                near = nearest(str(out[name]), allowed)
                raise ArgumentError(f"{name}={out[name]!r} is unknown{near}; allowed: None, {', '.join(allowed)}")
        return out

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Features of texts and pairs, as text classification takes them."""
        return TEXT_CLASSIFICATION.encode(inputs, reader, {})

    def by_sequence(self, options: Mapping[str, Any]) -> bool:
        return "pooling" in options

    def reduce(self, output: Any, batch: PackedBatch, options: Mapping[str, Any]) -> Any:
        hidden_TD = output["last_hidden_state"]
        return pooled(hidden_TD, batch, options["pooling"]) if "pooling" in options else hidden_TD

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each text its vectors [1, S, D], special tokens included, as in `transformers`; with `pooling` one vector [D]."""
        vectors = list(found.numpy()) if "pooling" in options else [tokens[None] for tokens in found]
        tensors = options.get("return_tensors")
        if tensors == "pt":
            import torch

            return [torch.from_numpy(v.copy()) for v in vectors]
        return [v.copy() for v in vectors] if tensors == "np" else [v.tolist() for v in vectors]


TASK = FeatureExtraction()
