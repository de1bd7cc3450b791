"""A model: the transformer, one head, and the two ways to call it.

`model(packed)` is the native way that training uses; `model(input_ids=[B, S], attention_mask=...)` takes Hugging Face tensors,
drops the padding at the door and restores the caller's shape and order on the way out. Both give the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unpad.batch import PackedBatch, from_padded
from unpad.checkpoint.load import LoadReport, load_weights
from unpad.checkpoint.save import save_weights
from unpad.config import ModelConfig
from unpad.core.heads import PooledHead
from unpad.core.layers import RowEmbedding
from unpad.core.losses import PROBLEM_TYPES, mean, problem_type, sequence_loss
from unpad.core.transformer import Transformer, initialise
from unpad.errors import ArgumentError, DataError, nearest
from unpad.families import Family
from unpad.models.outputs import ModelOutput


class Model(nn.Module):
    """A transformer with the head named `head`. Made by the Auto classes or a family's class, not directly."""

    def __init__(self, config: ModelConfig, kind: Family, head: str) -> None:
        super().__init__()
        self.config, self.family, self.head_name = config, kind, head
        self.transformer = Transformer(config)
        self.head = PooledHead(kind.heads[head], config)
        self.load_report: LoadReport | None = None
        self.name_or_path = ""

    def reset_parameters(self) -> None:
        """Draw all weights anew by the family's initialisation."""
        initialise(self, self.config)

    @property
    def class_name(self) -> str:
        """The Hugging Face class name of this architecture ("BertForSequenceClassification")."""
        return self.family.class_name(self.head_name)

    @property
    def device(self) -> torch.device:
        return self.transformer.embeddings.tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.embeddings.tokens.weight.dtype

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Number of parameters, each counted once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not only_trainable)

    def row_embeddings(self) -> list[RowEmbedding]:
        """The embeddings whose gradients can be kept by rows (see `RowEmbedding.standing_gradient`)."""
        return [m for m in self.modules() if isinstance(m, RowEmbedding)]

    def forward(
        self,
        input_ids: Tensor | PackedBatch | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool = True,
        **unknown: Any,
    ) -> Any:
        """Answer for a batch.

        `input_ids` is a `PackedBatch`, or int64 [B, S] with `attention_mask` [B, S] (0: padding). `labels` for sequence
        classification: [B] int64 classes, [B, C] floats for several labels each, [B] floats for regression. Gives `loss`
        (mean) when there are labels, and `logits` [B, C] in fp32; the base model gives `last_hidden_state` [B, S, D]
        ([T, D] for a packed batch) and `pooler_output` [B, D]. Raises ArgumentError for unknown arguments and inputs
        longer than the model.
        """
        if unknown:
            name = next(iter(unknown))
            known = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", "return_dict"]
            raise ArgumentError(
                f"{self.class_name} takes no argument {name!r}{nearest(name, known)}; it takes {', '.join(known)}"
            )
        if isinstance(input_ids, PackedBatch):
            output = self._packed(input_ids, padded=None)
        elif isinstance(input_ids, Tensor) and input_ids.dim() == 2:
            if (
                input_ids.device.type == "cpu"
            ):  # there a look at the values is free; elsewhere it would wait for the device
                self._check_values(input_ids, token_type_ids, labels)
            batch, slots = from_padded(input_ids, attention_mask, token_type_ids, position_ids, labels)
            output = self._packed(batch, padded=(slots, tuple(input_ids.shape)))
        else:
            raise ArgumentError(
                f"input_ids must be a PackedBatch or a tensor [B, S], not {_what(input_ids)}; use return_tensors='pt' and padding=True"
            )
        return output if return_dict else output.to_tuple()

    def _check_values(self, input_ids: Tensor, token_type_ids: Tensor | None, labels: Tensor | None) -> None:
        """Name the first value that no table of the model holds; PyTorch would only say that an index is out of range."""
        config = self.config
        checks = [("input_ids", input_ids, config.vocab_size, "use the model's own tokenizer")]
        if isinstance(token_type_ids, Tensor) and config.token_types:
            checks.append(
                ("token_type_ids", token_type_ids, config.token_types, "use the model's own tokenizer")
            )
        classes = (
            config.problem_type in (None, PROBLEM_TYPES[0])
            and config.num_labels > 1
            and self.head_name != "base"
        )
        if isinstance(labels, Tensor) and classes and not labels.is_floating_point() and labels.dim() == 1:
            seen = labels[labels != -100]  # the value that losses ignore
            checks.append(("labels", seen, config.num_labels, "pass num_labels= to from_pretrained"))
        for name, values, size, advice in checks:
            wrong = values[(values < 0) | (values >= size)]
            if wrong.numel():
                raise DataError(f"{name} hold {wrong[0].item()}, the model takes 0..{size - 1}; {advice}")

    def _packed(self, batch: PackedBatch, padded: tuple[Tensor, tuple[int, ...]] | None) -> ModelOutput:
        if batch.lengths and batch.lengths[0] > self.config.max_positions:
            raise DataError(
                f"a sequence of {batch.lengths[0]} tokens is longer than the model's {self.config.max_positions} positions; "
                "tokenize with truncation=True"
            )
        hidden_TD = self.transformer(batch)
        answer = self.head(hidden_TD, batch)
        if self.head_name == "base":
            if padded is None:
                return ModelOutput(last_hidden_state=hidden_TD, pooler_output=answer)
            slots, (rows, columns) = padded
            grid = hidden_TD.new_zeros(rows * columns, hidden_TD.shape[1]).index_copy(0, slots, hidden_TD)
            return ModelOutput(
                last_hidden_state=grid.view(rows, columns, -1), pooler_output=batch.restore(answer)
            )
        total, count = self._loss(answer, batch.labels)
        loss = None if total is None else mean(total, count)
        return ModelOutput(
            loss=loss,
            logits=answer if padded is None else batch.restore(answer),
            loss_sum=total,
            loss_count=count,
        )

    def _loss(self, logits: Tensor, labels: Tensor | None) -> tuple[Tensor | None, int]:
        if labels is None:
            return None, 0
        kind = self.config.problem_type
        if kind is None:
            kind = problem_type(labels, self.config.num_labels)
            self.config = self.config.replace(problem_type=kind)
        elif kind not in PROBLEM_TYPES:
            raise ArgumentError(
                f"problem_type={kind!r} is unknown{nearest(kind, PROBLEM_TYPES)}; allowed: {', '.join(PROBLEM_TYPES)}"
            )
        return sequence_loss(logits, labels, kind)

    def load_weights(self, folder: str | Path) -> LoadReport:
        """Read the weights of a folder that `save_pretrained` wrote into this model. Raises CheckpointError when they do not fit."""
        return load_weights(self, Path(folder), self.family, self.head_name)

    def save_pretrained(
        self, folder: str | Path, *, max_shard_size: int | str = "50GB", save_function: Any = None, **_: Any
    ) -> None:
        """Write `config.json` and safetensors weights that this library and `transformers` both load.

        `save_function` is accepted for old scripts and not used: weights are never pickled.
        """
        save_weights(self, self.config, self.family, self.head_name, Path(folder), max_shard_size)

    def __repr__(self) -> str:
        return f"{self.class_name}({self.num_parameters() / 1e6:.1f}M parameters, {self.config.layers} layers, width {self.config.width})\n{super().__repr__()}"


def _what(value: Any) -> str:
    return (
        f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
