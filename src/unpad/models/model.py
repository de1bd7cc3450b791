"""A model: the transformer, one head, and the two ways to call it.

`model(packed)` is the native way that training uses; `model(input_ids=[B, S], attention_mask=...)` takes Hugging Face tensors,
drops the padding at the door and restores the caller's shape and order on the way out. Both give the same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unpad.batch import IGNORED_LABEL, PackedBatch, from_padded
from unpad.checkpoint.load import LoadReport, load_weights
from unpad.checkpoint.save import save_weights
from unpad.config import ModelConfig
from unpad.core.heads import HEADS, Head
from unpad.core.layers import RowEmbedding
from unpad.core.losses import PROBLEM_TYPES, mean, problem_type, sequence_loss, span_loss, token_loss
from unpad.core.transformer import Transformer, initialise
from unpad.data.tokens import SPAN_FIELDS
from unpad.errors import ArgumentError, DataError, nearest
from unpad.families import Family
from unpad.models.outputs import ModelOutput


class Model(nn.Module):
    """A transformer with the head named `head`. Made by the Auto classes or a family's class, not directly."""

    def __init__(self, config: ModelConfig, kind: Family, head: str) -> None:
        super().__init__()
        self.config, self.family, self.head_name = config, kind, head
        self.transformer = Transformer(config)
        self.head = Head(kind.heads[head].spec, config)
        self.labels_of = HEADS[head].labels
        self.vocabulary = HEADS[head].vocabulary
        self.transformer.embeddings.tokens.whole = self.vocabulary
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

    @property
    def inputs(self) -> list[str]:
        """Names of what `forward` reads in a batch."""
        spans = SPAN_FIELDS if self.labels_of == "span" else ()
        return ["input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", *spans]

    def row_embeddings(self) -> list[RowEmbedding]:
        """The embeddings whose gradients can be kept between steps, see `RowEmbedding.train_rows`."""
        return [m for m in self.modules() if isinstance(m, RowEmbedding)]

    def forward(
        self,
        input_ids: Tensor | PackedBatch | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool = True,
        **spans: Any,
    ) -> Any:
        """Answer for a batch.

        `input_ids` is a `PackedBatch`, or int64 [B, S] with `attention_mask` [B, S] (0: padding); for multiple choice
        [B, choices, S]. Labels by head: sequence classification [B] int64 classes, [B, C] floats for several labels each, [B]
        floats for regression; tokens and masked words [B, S] int64 (-100: none); multiple choice [B]; question
        answering takes `start_positions` and `end_positions` [B]. Gives `loss` (mean) when there are labels, and in fp32
        `logits` [B, C], [B, S, C], [B, choices] or `start_logits` and `end_logits` [B, S]. For a packed batch tokens stay packed,
        [T, C], and a vocabulary head answers only where `asked` asks, [M, V], with labels by
        the loss alone. The base model gives
        `last_hidden_state` [B, S, D] ([T, D]) and `pooler_output` [B, D] where the family has one. Raises ArgumentError for
        unknown arguments and inputs longer than the model.
        """
        if self.labels_of == "span" and not spans.keys().isdisjoint(SPAN_FIELDS):
            ends = [spans.pop(name, None) for name in SPAN_FIELDS]
            if all(isinstance(end, Tensor) for end in ends):
                labels = torch.stack([end.view(-1) for end in ends], dim=1)
        if spans:
            name, known = next(iter(spans)), [*self.inputs, "return_dict"]
            raise ArgumentError(
                f"{self.class_name} takes no argument {name!r}{nearest(name, known)}; it takes {', '.join(known)}"
            )
        if isinstance(input_ids, PackedBatch):
            return self._answer(input_ids, None) if return_dict else self._answer(input_ids, None).to_tuple()
        if not isinstance(input_ids, Tensor) or input_ids.dim() != (3 if self.labels_of == "choice" else 2):
            shape = "[B, choices, S]" if self.labels_of == "choice" else "[B, S]"
            raise ArgumentError(
                f"input_ids must be a PackedBatch or a tensor {shape}, not {_what(input_ids)}; use return_tensors='pt' and padding=True"
            )
        if input_ids.device.type == "cpu":  # there a look at the values is free; elsewhere it would wait
            self._check_values(input_ids, token_type_ids, labels)
        choices = input_ids.shape[1] if self.labels_of == "choice" else 1
        per_token = (input_ids, attention_mask, token_type_ids, position_ids)
        ids, mask, types, positions = (t if t is None else t.flatten(0, -2) for t in per_token)
        of_rows = None if self.labels_of == "choice" else labels
        pad = self.config.pad_token_id if self.config.positions_after_pad else None
        batch, slots = from_padded(ids, mask, types, positions, of_rows, self.labels_of == "token", pad)  # type: ignore[arg-type]
        if self.labels_of == "choice":
            batch = replace(batch, labels=labels, choices=choices)
        every = None if not self.vocabulary else torch.arange(batch.tokens, device=ids.device)  # type: ignore[union-attr]
        output = self._answer(replace(batch, asked=every), (slots, tuple(ids.shape)))  # type: ignore[union-attr]
        return output if return_dict else output.to_tuple()

    def _check_values(self, input_ids: Tensor, token_type_ids: Tensor | None, labels: Tensor | None) -> None:
        """Name the first value that no table of the model holds; PyTorch would only say that an index is out of range."""
        config = self.config
        checks = [("input_ids", input_ids, config.vocab_size, "use the model's own tokenizer")]
        if isinstance(token_type_ids, Tensor) and config.segments:
            checks.append(("token_type_ids", token_type_ids, config.segments, checks[0][-1]))
        sizes = {"row": config.num_labels, "token": config.vocab_size if self.vocabulary else config.num_labels}
        if self.head.spec.output == 1 and self.labels_of == "token":  # a yes or no
            sizes["token"] = 2
        size = sizes.get(self.labels_of or "", 1)
        one_class = self.labels_of == "token" or config.problem_type in (None, PROBLEM_TYPES[0])
        several = self.labels_of == "row" and isinstance(labels, Tensor) and labels.dim() > 1
        if isinstance(labels, Tensor) and size > 1 and one_class and not several and not labels.is_floating_point():
            checks.append(("labels", labels[labels != IGNORED_LABEL], size, "pass num_labels= to from_pretrained"))
        for name, values, size, advice in checks:
            wrong = values[(values < 0) | (values >= size)]
            if wrong.numel():
                raise DataError(f"{name} hold {wrong[0].item()}, the model takes 0..{size - 1}; {advice}")

    def _answer(self, batch: PackedBatch, grid: tuple[Tensor, tuple[int, int]] | None) -> ModelOutput:
        """`grid`: places [T] of the tokens in the caller's [B, S], to which answers per token then return."""
        if batch.lengths and batch.lengths[0] > self.config.longest:
            raise DataError(
                f"a sequence of {batch.lengths[0]} tokens is longer than the model's {self.config.longest} positions; "
                "tokenize with truncation=True"
            )
        if self.vocabulary and batch.asked is None and batch.labels is not None:
            batch = replace(batch, asked=(batch.labels != IGNORED_LABEL).nonzero().view(-1))
        read = None if self.head_name == "base" else self.head.rows(batch)
        hidden_TD = self.transformer(batch, read) if batch.hidden is None else batch.hidden
        if self.head_name == "base" and not self.head.answers:
            pooled = None
        else:
            tokens = self.transformer.embeddings.tokens
            if self.vocabulary and grid is None and batch.labels is not None:
                labels_M = batch.labels.index_select(0, batch.asked)  # type: ignore[arg-type]
                total, count = self.head(hidden_TD, batch, tokens, labels_M)
                return ModelOutput(loss=mean(total, count), loss_sum=total, loss_count=count)
            pooled = self.head(hidden_TD, batch, tokens)
        spread = (lambda x: x) if grid is None else (lambda x: _spread(x, *grid))
        if self.head_name == "base":
            if grid is not None and pooled is not None:
                pooled = batch.restore(pooled)
            return ModelOutput(last_hidden_state=spread(hidden_TD), pooler_output=pooled)
        logits = pooled
        assert logits is not None
        total, count = self._loss(logits, batch)
        fields: dict[str, Any] = {"loss": None if total is None else mean(total, count)}
        if self.labels_of == "choice":
            fields["logits"] = batch.restore(logits).view(-1, batch.choices)
        elif self.labels_of == "span" and grid is not None:
            fields["start_logits"], fields["end_logits"] = spread(logits).unbind(-1)
        elif self.labels_of in ("token", "span"):
            fields["logits"] = spread(logits.squeeze(-1) if logits.shape[-1] == 1 else logits)
        else:
            fields["logits"] = logits if grid is None else batch.restore(logits)
        return ModelOutput(**fields, loss_sum=total, loss_count=count)

    def _loss(self, logits: Tensor, batch: PackedBatch) -> tuple[Tensor | None, int | Tensor]:
        labels = batch.labels
        if labels is None:
            return None, 0
        if self.labels_of == "token":
            return token_loss(logits, labels if batch.asked is None else labels.index_select(0, batch.asked))
        if self.labels_of == "span":
            back = torch.tensor(batch.order, device=labels.device)  # `pad` gives the caller's order
            return span_loss(batch.pad(logits, fill=-torch.inf).index_select(0, back), labels)
        if self.labels_of == "choice":
            return sequence_loss(batch.restore(logits).view(-1, batch.choices), labels, PROBLEM_TYPES[0])
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


def _spread(values: Tensor, slots: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values of packed tokens [T, ...] at their places in [B, S, ...], 0 elsewhere."""
    flat = values.new_zeros(shape[0] * shape[1], *values.shape[1:]).index_copy(0, slots, values)
    return flat.view(*shape, *values.shape[1:])


def _what(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
