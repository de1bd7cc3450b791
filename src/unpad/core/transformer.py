"""The transformer encoder on packed tokens: embeddings, then blocks of attention and feed-forward.

T packed tokens, D width, E width of the embeddings. Parameters: `embeddings.{tokens,positions,types}`, `embeddings.norm`,
`embeddings.projection` where E is projected to D, per block `qkv`
(queries, keys, values in one product), `out`, `attention_norm`, `up`, `down`, `ffn_norm`, and `final_norm` of a pre-norm family.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.attention import attend, rotary_table
from unpad.core.disentangled import DisentangledAttention, Reach, RelativePositions
from unpad.core.layers import Norm, RowEmbedding, activation, drop
from unpad.core.noise import Noise

ALIGN = 64
"""Rows; wastes half of it per batch on average, 8 percent of a batch of 8 short pairs and nothing of a large one."""


class Embeddings(nn.Module):
    """Sum of token, position and segment rows [T, E], normed and projected to [T, D] where the family does so."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        E, D = config.embedding_width or config.width, config.width
        self.tokens = RowEmbedding(config.vocab_size, E)
        self.positions = nn.Embedding(config.max_positions, E) if config.input_positions else None
        self.types = nn.Embedding(config.token_types, E) if config.token_types else None
        self.norm = Norm(E, eps=config.norm_eps, bias=config.norm_bias)
        self.projection = nn.Linear(E, D) if E != D or config.project_embeddings else None
        self.p, self.offset = config.dropout, config.position_offset

    def forward(self, batch: PackedBatch, noise: Noise | None) -> Tensor:
        x_TE = self.tokens(batch.input_ids)
        if self.positions is not None:
            places = batch.position_ids + self.offset if self.offset else batch.position_ids
            x_TE = x_TE + self.positions(places)
        if self.types is not None:
            x_TE = x_TE + (self.types.weight[0] if batch.token_type_ids is None else self.types(batch.token_type_ids))
        x_TE = drop(self.norm(x_TE), self.p, noise)
        return x_TE if self.projection is None else self.projection(aligned(x_TE)).to(x_TE.dtype)


@dataclass(frozen=True)
class Shared:
    """What all blocks need to know about a batch, computed once."""

    rotary: dict[float, tuple[Tensor, Tensor]]
    """Base of rotary positions -> its tables."""
    reach: Reach | None
    """Vectors of relative positions."""


class Block(nn.Module):
    """Attention, then feed-forward, each closed by dropout + residual + norm; with `pre_norm` by norm before, dropout + residual after."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        D, wide = config.width, config.ffn_width
        self.qkv = nn.Linear(D, 3 * D, bias=config.attention_bias)
        self.out = nn.Linear(D, D, bias=config.attention_bias)
        bare = config.pre_norm and layer == 0  # the embeddings come normed
        self.attention_norm = None if bare else Norm(D, eps=config.norm_eps, bias=config.norm_bias)
        self.up = nn.Linear(D, 2 * wide if config.gated else wide, bias=config.ffn_bias)
        self.down = nn.Linear(wide, D, bias=config.ffn_bias)
        self.ffn_norm = Norm(D, eps=config.norm_eps, bias=config.norm_bias)
        self.disentangled = DisentangledAttention(config) if config.relative_kinds else None
        self.activation, self.gated, self.pre_norm = (activation(config.activation), config.gated, config.pre_norm)
        self.heads, self.p, self.attention_p = config.heads, config.dropout, config.attention_dropout
        self.ffn_p, self.window, self.theta = config.ffn_dropout, config.window(layer), config.theta(layer)

    def forward(
        self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, backend: str | None, shared: Shared, rows: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """`rows` int64 [R]: the only tokens of which the result is asked, [R, D]; after attention the others are left out."""
        y_TD = self.attention_norm(x_TD) if self.pre_norm and self.attention_norm is not None else x_TD
        mixed_TD = self._mix(y_TD, batch, noise, backend, shared)
        if rows is not None:
            x_TD, mixed_TD = (aligned(t.index_select(0, rows)) for t in (x_TD, mixed_TD))
        if self.pre_norm:
            x_TD = x_TD + drop(self.out(mixed_TD), self.attention_p, noise)
            return x_TD + self._feed_forward(self.ffn_norm(x_TD), noise)
        x_TD = self.attention_norm(self.out(mixed_TD), x_TD, self.p, noise)  # type: ignore[misc]
        return self.ffn_norm(self._feed_forward(x_TD, noise), x_TD, self.p, noise)

    def _mix(
        self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, backend: str | None, shared: Shared
    ) -> Tensor:
        if self.disentangled is not None:
            return self.disentangled(x_TD, self.qkv, batch, shared.reach, noise, backend)
        rotary = None if self.theta is None else shared.rotary[self.theta]
        return attend(self.qkv(x_TD), batch, self.heads, self.attention_p, noise, backend, self.window, rotary)

    def _feed_forward(self, x_TD: Tensor, noise: Noise | None) -> Tensor:
        x_TF = self.up(x_TD)
        if self.gated:
            x_TF, gate_TF = x_TF.chunk(2, dim=-1)
            return self.down(drop(self.activation(x_TF) * gate_TF, self.ffn_p, noise))
        return self.down(self.activation(x_TF))


class SharedBlocks(nn.ModuleList):
    """Blocks, one after the other, that several layers go through (ALBERT)."""

    def forward(self, x_TD: Tensor, *rest: Any) -> Tensor:
        *rest, rows = rest  # type: ignore[assignment]
        for block in self:
            x_TD = block(x_TD, *rest, rows if block is self[-1] else None)
        return x_TD


class Transformer(nn.Module):
    """Embeddings and blocks. `backend` fixes the attention backend (None: chosen by capability)."""

    backend: str | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.order: Sequence[int] = range(config.layers)  # the block of each layer
        if config.groups is None:
            self.blocks = nn.ModuleList(Block(config, i) for i in range(config.layers))
        else:
            per_run = config.layers / config.groups  # a float: where it rounds, `transformers` rounds alike
            self.order = [int(i / per_run) for i in range(config.layers)]
            runs = ([Block(config) for _ in range(config.inner_layers)] for _ in range(config.groups))
            self.blocks = nn.ModuleList(SharedBlocks(run) for run in runs)
        self.final_norm = None
        if config.pre_norm:
            self.final_norm = Norm(config.width, eps=config.norm_eps, bias=config.norm_bias)
        self.relative = RelativePositions(config) if config.relative_attention else None
        self.thetas = {theta for i in range(config.layers) if (theta := config.theta(i)) is not None}
        self.head_width = config.head_width

    def forward(self, batch: PackedBatch, rows: Tensor | None = None) -> Tensor:
        """Hidden states [T, D] of the last block, or [R, D] of the tokens `rows` alone, which spares most of that block."""
        noise = Noise(batch.input_ids.device) if self.training else None
        x_TD = self.embeddings(batch, noise)
        tokens = batch.input_ids.shape[0] if rows is None else rows.shape[0]
        x_TD = aligned(x_TD)
        rotary = {theta: rotary_table(batch.position_ids, self.head_width, theta) for theta in self.thetas}
        shared = Shared(rotary, None if self.relative is None else self.relative(batch.lengths[0]))
        for layer, i in enumerate(self.order, 1):
            wanted = rows if layer == len(self.order) else None
            x_TD = self.blocks[i](x_TD, batch, noise, self.backend, shared, wanted)
        return (x_TD if self.final_norm is None else self.final_norm(x_TD))[:tokens]


def aligned(x_TD: Tensor, to: int = ALIGN) -> Tensor:
    """`x_TD` with zero rows appended up to a multiple of `to`, where matrix products run in bf16 on a CPU.

    oneDNN compiles a bf16 product anew for each shape, at 10 to 40 times the cost of running it once; almost every packed batch
    has its own T. With few distinct T the compiled products are found again. The extra rows belong to no sequence: attention
    leaves them out and nothing reads them.
    """
    half = x_TD.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    extra = -x_TD.shape[0] % to
    if x_TD.device.type != "cpu" or not half or not extra:
        return x_TD
    return F.pad(x_TD, (0, 0, 0, extra))


def initialise(model: nn.Module, config: ModelConfig, names: Collection[str] | None = None) -> None:
    """New weights, as the family's paper draws them; with `names` only for layers that have one of these parameters.

    BERT: weights from N(0, initializer_range), biases 0, norms 1, the row of the padding id 0. With `init_cutoff` see there.
    """
    for prefix, part in model.named_modules():
        direct = [f"{prefix}.{name}" for name, _ in part.named_parameters(recurse=False)]
        if names is not None and not set(names).intersection(direct):
            continue
        if isinstance(part, (nn.Linear, nn.Embedding)):
            _draw(part.weight, prefix, config)
            pad = config.pad_token_id
            if isinstance(part, RowEmbedding) and pad is not None and pad < part.num_embeddings:
                nn.init.zeros_(part.weight[pad])
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
        if getattr(part, "bias", None) is not None:
            nn.init.zeros_(part.bias)


def _draw(weight: Tensor, name: str, config: ModelConfig) -> None:
    std, layer = config.initializer_range, name.rpartition(".")[2]
    if config.sinusoidal and layer == "positions":
        rows, width = weight.shape
        columns = torch.arange(width, dtype=torch.float64)
        angles = torch.arange(rows)[:, None] / 10000 ** (2 * (columns // 2) / width)
        with torch.no_grad():
            weight.copy_(torch.where(columns % 2 == 0, angles.sin(), angles.cos()))
    elif config.init_cutoff is None:
        nn.init.normal_(weight, std=std)
    else:
        if layer in ("out", "down", "dense"):
            std /= (2 * config.layers) ** 0.5
        elif layer == "classifier":
            std = config.width**-0.5
        nn.init.trunc_normal_(weight, std=std, a=-config.init_cutoff * std, b=config.init_cutoff * std)
