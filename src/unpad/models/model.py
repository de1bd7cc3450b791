"""A model: the transformer, one head, and the two ways to call it.

`model(packed)` is the native way that training uses; `model(input_ids=[B, S], attention_mask=...)` takes Hugging Face tensors,
drops the padding at the door and restores the caller's shape and order on the way out. Both give the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from unpad.batch import IGNORED_LABEL, PackedBatch, from_padded
from unpad.checkpoint.card import CARD, CardFacts, card_on_hub, model_card, model_facts, write_card
from unpad.checkpoint.files import atomic_write
from unpad.checkpoint.load import LoadReport, load_weights
from unpad.checkpoint.save import save_weights
from unpad.config import ModelConfig
from unpad.core.cache import Memory
from unpad.core.heads import HEADS, Head
from unpad.core.layers import RowEmbedding
from unpad.core.losses import PROBLEM_TYPES, mean, problem_type, sequence_loss, span_loss, token_loss
from unpad.core.transformer import EncoderDecoder, Transformer, initialise
from unpad.data.tokens import SPAN_FIELDS
from unpad.errors import ArgumentError, DataError, nearest
from unpad.families import Family
from unpad.generate.loop import generate
from unpad.generate.settings import FILE, GenerationConfig
from unpad.hub.push import create, push_saved
from unpad.models.outputs import ModelOutput
from unpad.models.session import CachedSession, PlainSession

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_DECODER = ("decoder_input_ids", "decoder_attention_mask")
_OWN = "use the model's own tokenizer"
_Grid = tuple[Tensor, tuple[int, int]]
"""Places [T] of packed tokens in the flattened [B, S] of a caller, and its shape."""


class Model(nn.Module):
    """A transformer with the head named `head`. Made by the Auto classes or a family's class, not directly."""

    def __init__(self, config: ModelConfig, kind: Family, head: str) -> None:
        super().__init__()
        self.config, self.family, self.head_name = config, kind, head
        self.transformer = EncoderDecoder(config) if config.is_encoder_decoder else Transformer(config)
        self.head = Head(kind.heads[head].spec, config)
        self.labels_of = HEADS[head].labels
        self.vocabulary, self.next = HEADS[head].vocabulary, HEADS[head].next
        for table in self.row_embeddings():
            table.whole = self.vocabulary and config.tied
        self.label_smoothing = 0.0
        """Share of each label that training spreads over the vocabulary (Szegedy et al., 2016)."""
        self.generation_config: GenerationConfig | None = None
        """How it writes; None: it does not."""
        if self.can_generate:
            self.generation_config = GenerationConfig.from_model_config(config)
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
    def can_generate(self) -> bool:
        """Whether it writes text: a causal language model, or an encoder-decoder with its vocabulary."""
        return self.next or self.labels_of == "target"

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads and a decoder writes."""
        return self.config.is_encoder_decoder

    @property
    def inputs(self) -> list[str]:
        """Names of what `forward` reads in a batch."""
        spans = SPAN_FIELDS if self.labels_of == "span" else ()
        decoder = _DECODER if self.translates else ()
        mems = ("mems",) if self.config.memory_length else ()
        return ["input_ids", "attention_mask", "token_type_ids", "position_ids", "labels", *decoder, *spans, *mems]

    @property
    def translates(self) -> bool:
        """Whether its decoder reads a text of its own, not that of the encoder."""
        return self.is_encoder_decoder and self.head_name in ("base", "conditional-generation")

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
        **more: Any,
    ) -> Any:
        """Answer for a batch.

        `input_ids` is a `PackedBatch`, or int64 [B, S] with `attention_mask` [B, S] (0: padding); for multiple choice
        [B, choices, S]. Labels by head: sequence classification [B] int64 classes, [B, C] floats for several labels each, [B]
        floats for regression; tokens and masked words [B, S] int64 (-100: none); multiple choice [B]; question
        answering takes `start_positions` and `end_positions` [B]; a causal language model [B, S], the ids themselves (-100: not
        asked); an encoder-decoder [B, S'] what its decoder is to write, which it reads shifted right, or `decoder_input_ids` and
        `decoder_attention_mask` [B, S']. Gives `loss` (mean) when there are labels, and in fp32
        `logits` [B, C], [B, S, C], [B, choices] or `start_logits` and `end_logits` [B, S]. For a packed batch tokens stay packed,
        [T, C], and a vocabulary head answers only where `asked` asks, [M, V], with labels by
        the loss alone. The base model gives
        `last_hidden_state` [B, S, D] ([T, D]) and `pooler_output` [B, D] where the family has one. A model with segment recurrence
        gives `mems`, one tensor [M, B, D] for each layer, to be passed with the next segment of the same rows (for a packed batch
        where it was given `mems`, [] at first). Raises ArgumentError for
        unknown arguments and shapes that do not fit, DataError for ids that no table holds and inputs longer than the model.
        """
        if self.labels_of == "span" and not more.keys().isdisjoint(SPAN_FIELDS):
            ends = [more.pop(name, None) for name in SPAN_FIELDS]
            if all(isinstance(end, Tensor) for end in ends):
                labels = torch.stack([end.view(-1) for end in ends], dim=1)
        written = [more.pop(name, None) if self.translates else None for name in _DECODER]
        more.pop("use_cache", None)
        mems = more.pop("mems", None) if self.config.memory_length else None
        if more:
            name, known = next(iter(more)), [*self.inputs, "return_dict"]
            raise ArgumentError(
                f"{self.class_name} takes no argument {name!r}{nearest(name, known)}; it takes {', '.join(known)}"
            )
        batch, grid, source_grid, memory = input_ids, None, None, None
        if not isinstance(batch, PackedBatch):
            batch, grid, source_grid = self._packed(
                input_ids, attention_mask, token_type_ids, position_ids, labels, *written
            )
        if mems is not None or (grid is not None and self.config.memory_length):
            memory = self._memory(mems or (), len(batch))
        answer = self._answer(batch, grid, source_grid, memory)
        if memory is not None:
            answer["mems"] = memory.after
        return answer if return_dict else answer.to_tuple()

    def _memory(self, mems: Sequence[Tensor], rows: int) -> Memory:
        """What a segment of so many rows has before it; ArgumentError where `mems` are none of this model for them."""
        length, layers = self.config.memory_length or 0, self.config.layers
        shape = [length, rows, self.config.width]
        if len(mems) and [list(getattr(m, "shape", ())) for m in mems] != [shape] * layers:
            found = f"{len(mems)} of them, the first {_what(mems[0])}"
            raise ArgumentError(
                f"mems must be {layers} tensors {shape}, as the model gave them for the segment before, or [] for the first; not {found}"
            )
        return Memory(length, mems if len(mems) else None)

    def _packed(
        self, ids: Any, mask: Any, types: Any, positions: Any, labels: Any, written: Any, written_mask: Any
    ) -> tuple[PackedBatch, _Grid, _Grid]:
        """A padded call as a batch; where its answers per token belong, and the hidden states of what it reads."""
        choice = self.labels_of == "choice"
        if not isinstance(ids, Tensor) or ids.dim() != (3 if choice else 2) or not ids.shape[-1]:
            shape = "[B, choices, S]" if choice else "[B, S]"
            raise ArgumentError(
                f"input_ids must be a PackedBatch or a tensor {shape}, not {_what(ids)}; use return_tensors='pt' and padding=True"
            )
        if ids.device.type == "cpu":  # there a look at the values is free; elsewhere it would wait
            _check("input_ids", ids, self.config.vocab_size)
            if isinstance(written, Tensor):
                _check(_DECODER[0], written, self.config.vocab_size)
            if isinstance(types, Tensor) and self.config.segments:
                _check("token_type_ids", types, self.config.segments)
            if isinstance(labels, Tensor):
                self._check_labels(labels)
        choices = ids.shape[1] if choice else 1
        ids, mask, types, positions = (t if t is None else t.flatten(0, -2) for t in (ids, mask, types, positions))
        if self.labels_of == "span" and labels is not None and mask is not None:  # places among the kept tokens
            kept, places = (mask != 0).long(), labels.clamp(0, ids.shape[1] - 1)
            there = (places == labels) & (kept.gather(1, places) != 0)
            labels = (kept.cumsum(1) - 1).gather(1, places).where(there, IGNORED_LABEL)
        of_these = None if choice or self.translates else labels
        pad = self.config.pad_token_id if self.config.positions_after_pad else None
        batch, slots = from_padded(ids, mask, types, positions, of_these, self.labels_of == "token", pad)
        source = grid = (slots, tuple(ids.shape))
        if choice:
            batch = replace(batch, labels=labels, choices=choices)
        if not self.translates:
            return (_all_asked(batch) if self.vocabulary else batch), grid, source
        if written is None:
            text = ids if labels is None and self.head_name == "base" else labels
            written = None if text is None else self._shift_rows(text, len(ids))
        if written is None:
            raise ArgumentError(f"{self.class_name} needs labels or decoder_input_ids beside input_ids")
        _check_rows(_DECODER[0], written, len(ids))
        target, slots = from_padded(written, written_mask, labels=labels, token_labels=labels is not None)
        batch = replace(batch, target=replace(_all_asked(target), given=True))
        return batch, (slots, tuple(written.shape)), source

    def _check_labels(self, labels: Tensor) -> None:
        """Name the first label that is no class of the model."""
        config, of = self.config, self.labels_of
        if of not in ("row", "token", "target") or labels.is_floating_point():
            return
        if of == "row" and (labels.dim() > 1 or config.problem_type not in (None, PROBLEM_TYPES[0])):
            return  # several labels each, or numbers
        advice = _OWN if self.vocabulary else "pass num_labels= to from_pretrained"
        size = config.vocab_size if self.vocabulary else config.num_labels
        if of == "token" and self.head.spec.output == 1:  # a yes or no
            size = 2
        if size > 1:
            _check("labels", labels[labels != IGNORED_LABEL], size, advice)

    def _answer(
        self,
        batch: PackedBatch,
        grid: _Grid | None = None,
        source_grid: _Grid | None = None,
        memory: Memory | None = None,
    ) -> ModelOutput:
        """Answers per token stay packed, or return to the caller's [B, S] where there is a `grid`."""
        parts = (batch, batch.target)
        longest = max((part.lengths[0] for part in parts if part is not None and part.lengths), default=0)
        if longest > self.config.longest:
            raise DataError(
                f"a sequence of {longest} tokens is longer than the model's {self.config.longest} positions; tokenize with truncation=True"
            )
        base, source, memory_TD = self.head_name == "base", batch, None
        if self.is_encoder_decoder:
            batch = self._target(batch)
        labels = self._labels(batch)
        if self.vocabulary and batch.asked is None and labels is not None:
            batch = replace(batch, asked=(labels != IGNORED_LABEL).nonzero().view(-1))
        read = None if base else self.head.rows(batch)
        if batch.hidden is not None:
            hidden_TD = batch.hidden
        elif self.is_encoder_decoder:
            hidden_TD, memory_TD = self.transformer(source, batch, read)
        else:
            hidden_TD = self.transformer(batch, read, cache=memory)
        if self.vocabulary and grid is None and labels is not None:
            losses = self._words_loss(hidden_TD, batch, labels)
            return ModelOutput(loss=mean(*losses), loss_sum=losses[0], loss_count=losses[1])
        tokens = self.transformer.embeddings.tokens
        logits: Any = self.head(hidden_TD, batch, tokens) if self.head.answers else None
        if base:  # what it answers is the pooled vector
            return ModelOutput(
                last_hidden_state=_spread(hidden_TD, grid),
                pooler_output=logits if logits is None or grid is None else batch.restore(logits),
                encoder_last_hidden_state=None if memory_TD is None else _spread(memory_TD, source_grid),
            )
        fields: dict[str, Any] = {"loss": None}
        if labels is not None:
            total, count = self._loss(logits, labels, batch)
            fields = {"loss": mean(total, count), "loss_sum": total, "loss_count": count}
        if self.labels_of == "choice":
            fields["logits"] = batch.restore(logits).view(-1, batch.choices)
        elif self.labels_of == "span" and grid is not None:
            fields["start_logits"], fields["end_logits"] = _spread(logits, grid).unbind(-1)
        elif self.labels_of in ("token", "span", "target"):
            fields["logits"] = _spread(logits.squeeze(-1) if logits.shape[-1] == 1 else logits, grid)
        else:
            fields["logits"] = logits if grid is None else batch.restore(logits)
        return ModelOutput(**fields)

    def _labels(self, batch: PackedBatch) -> Tensor | None:
        """What each token is asked for; a causal language model asks it for the token after it."""
        labels = batch.labels
        if not self.next or labels is None:
            return labels
        after = torch.cat([labels[1:], labels[:1]])
        after[batch.cu_seqlens[1:].long() - 1] = IGNORED_LABEL
        return after

    def _words_loss(self, hidden_TD: Tensor, batch: PackedBatch, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and count of the losses over the vocabulary, without its logits."""
        weights, asked = batch.weights, batch.asked
        assert asked is not None
        if weights is not None:
            weights = (torch.cat([weights[1:], weights[:1]]) if self.next else weights).index_select(0, asked)
        labels_M, tokens = labels.index_select(0, asked), self.transformer.embeddings.tokens
        if labels_M.device.type == "cpu":
            self._check_labels(labels_M)
        smoothing = self.label_smoothing if self.training else 0.0
        return self.head(hidden_TD, batch, tokens, labels_M, weights, smoothing)

    def _target(self, batch: PackedBatch) -> PackedBatch:
        """What the decoder reads: the labels of the target shifted right, or what was given; for heads that read a text, the text."""
        target = batch.target
        if target is None:
            if self.labels_of == "target":
                raise DataError(
                    f"{self.class_name} needs what its decoder reads; give labels or decoder_input_ids (a target without text has none)"
                )
            return replace(batch, input_ids=self._shift_right(batch.input_ids, batch.cu_seqlens))
        if target.labels is None or target.given:
            return target
        return replace(target, input_ids=self._shift_right(target.labels, target.cu_seqlens))

    def _shift_right(self, ids_T: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Packed ids [T] one place later, each sequence behind the decoder's start token, or behind its own last one where the
        configuration says `target_wraps`; -100 becomes padding."""
        bounds, pad = cu_seqlens.long(), self.config.pad_token_id or 0
        ids_T = ids_T.masked_fill(ids_T < 0, pad)
        first: Any = self.config.decoder_start_token_id
        if self.config.target_wraps:
            lengths = torch.cat([bounds[:1], (ids_T != pad).long().cumsum(0)])[bounds].diff()
            first = ids_T[bounds[:-1] + (lengths - 1).clamp(min=0)]
        if first is None:
            raise ArgumentError(
                "the configuration has no decoder_start_token_id; set it, e.g. to that of the pad token"
            )
        shifted = torch.cat([ids_T[:1], ids_T[:-1]])
        shifted[bounds[:-1]] = first
        return shifted

    def _shift_rows(self, text: Any, rows: int) -> Tensor:
        """`_shift_right` of labels [B, S']."""
        _check_rows("labels", text, rows)
        bounds = torch.arange(0, text.numel() + 1, text.shape[1], device=text.device)
        return self._shift_right(text.reshape(-1), bounds).view_as(text)

    def _loss(self, logits: Tensor, labels: Tensor, batch: PackedBatch) -> tuple[Tensor, int | Tensor]:
        if self.labels_of in ("token", "target"):
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

    def generate(self, input_ids: Any = None, generation_config: Any = None, **options: Any) -> Any:
        """Write on after each row of `input_ids` [B, S], or for encoder-decoders an answer to it; see `unpad.generate.loop.generate`."""
        if not self.can_generate:
            raise ArgumentError(
                f"{self.class_name} cannot generate; load the model with AutoModelForCausalLM or AutoModelForSeq2SeqLM"
            )
        return generate(self, input_ids, generation_config=generation_config, **options)

    def session(
        self, prompts: Sequence[np.ndarray], sources: PackedBatch | None = None, use_cache: bool = True
    ) -> CachedSession | PlainSession:
        """A generation that starts with `prompts`, token ids of any lengths (of an encoder-decoder what its decoder reads first, and
        `sources` what its encoder reads, row by row)."""
        segments = self.config.memory_length
        return (CachedSession if segments or (use_cache and segments is None) else PlainSession)(self, prompts, sources)

    def load_weights(self, folder: str | Path) -> LoadReport:
        """Read the weights of a folder that `save_pretrained` wrote into this model. Raises CheckpointError when they do not fit."""
        return load_weights(self, Path(folder), self.family, self.head_name)

    def with_weights(self, folder: str | Path) -> dict[str, Tensor]:
        """The weights of a folder by our names, whatever this model holds. Raises CheckpointError when they do not fit."""
        other = Model(self.config, self.family, self.head_name)
        other.load_weights(folder)
        return dict(other.state_dict())

    def save_pretrained(
        self, folder: str | Path, *, max_shard_size: int | str = "50GB", is_main_process: bool = True, save_function: Any = None,
        state_dict: dict[str, Tensor] | None = None, push_to_hub: bool = False, repo_id: str | None = None, **hub: Any,
    ) -> None:  # fmt: skip
        """Write `config.json` and safetensors weights that this library and `transformers` both load.

        With many processes the main one alone writes, where `is_main_process` or `save_function`, the `save` of an Accelerator, tells
        which it is; weights are never pickled. `state_dict`: the weights by our names, where the model itself has only a part of them.
        A folder without README.md gets a small model card.
        With `push_to_hub` the model is sent, too, to `repo_id` or the folder's name; `hub` is what `push_to_hub` takes.
        """
        if not (is_main_process and getattr(getattr(save_function, "__self__", None), "is_main_process", True)):
            return
        place, name = Path(folder), repo_id or Path(folder).resolve().name
        save_weights(self, self.config, self.family, self.head_name, place, max_shard_size, state_dict)
        if self.generation_config is not None:
            atomic_write(place / FILE, json.dumps(self.generation_config.to_dict(), indent=2) + "\n")
        if not (place / CARD).exists():
            write_card(place, model_card(CardFacts(name.rpartition("/")[2], name, **model_facts(self))))
        if push_to_hub:
            self.push_to_hub(name, max_shard_size=max_shard_size, state_dict=state_dict, **hub)

    def push_to_hub(
        self, repo_id: str, *, commit_message: str = "Upload model", commit_description: str | None = None,
        private: bool | None = None, token: str | bool | None = None, revision: str | None = None, create_pr: bool = False,
        max_shard_size: int | str = "50GB", state_dict: dict[str, Tensor] | None = None, use_auth_token: str | bool | None = None,
    ) -> CommitInfo:  # fmt: skip
        """Send what `save_pretrained` writes to a repository of the Hub, which is made when it is missing.

        See `push_folder` for the arguments; returns the commit. A card that is there stays. Raises HubError.
        """
        token = use_auth_token if token is None else token
        full = create(repo_id, "model", private, token)
        there = card_on_hub(full, token, revision) is not None  # it tells more than the small one
        return push_saved(
            partial(self.save_pretrained, max_shard_size=max_shard_size, state_dict=state_dict, repo_id=full), full,
            commit_message=commit_message, commit_description=commit_description, private=private, token=token,
            revision=revision, create_pr=create_pr, ignore_patterns=(CARD,) if there else (),
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"{self.class_name}({self.num_parameters() / 1e6:.1f}M parameters, {self.config.layers} layers, width {self.config.width})\n{super().__repr__()}"


def _all_asked(batch: PackedBatch) -> PackedBatch:
    """The batch with every token asked for its word."""
    return replace(batch, asked=torch.arange(batch.tokens, device=batch.input_ids.device))


def _spread(values: Tensor, grid: _Grid | None) -> Tensor:
    """Values of packed tokens [T, ...] at their places in [B, S, ...], 0 elsewhere; as they are without a grid."""
    if grid is None:
        return values
    slots, (rows, columns) = grid
    flat = values.new_zeros(rows * columns, *values.shape[1:]).index_copy(0, slots, values)
    return flat.view(rows, columns, *values.shape[1:])


def _check(name: str, values: Tensor, size: int, advice: str = _OWN) -> None:
    """Name the first value that no table of the model holds; PyTorch would only say that an index is out of range."""
    wrong = values[(values < 0) | (values >= size)]
    if wrong.numel():
        raise DataError(f"{name} hold {wrong[0].item()}, the model takes 0..{size - 1}; {advice}")


def _check_rows(name: str, text: Any, rows: int) -> None:
    """What a decoder reads or writes is one row of ids for each row of `input_ids`."""
    if not isinstance(text, Tensor) or text.dim() != 2 or len(text) != rows or not text.shape[1]:
        raise ArgumentError(
            f"{name} must be a tensor [B, S'] with one row for each of the {rows} rows of input_ids, not {_what(text)}"
        )


def _what(value: Any) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
