"""The transformer on packed tokens: embeddings, then blocks of attention and feed-forward; and two of them, one that reads for the other.

T packed tokens, D width, E width of the embeddings. Parameters: `embeddings.{tokens,positions,types}`, `embeddings.norm`,
`embeddings.projection` where E is projected to D, per block `qkv`
(queries, keys, values in one product), `out`, `attention_norm`, `up`, `down`, `ffn_norm`, and `final_norm` of a pre-norm family.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.adaptive import AdaptiveEmbedding
from unpad.core.attention import Attention, Rotation, attend, rotary_table
from unpad.core.cache import Cache, Memory
from unpad.core.disentangled import DisentangledAttention, Reach, RelativePositions
from unpad.core.layers import Norm, RMSNorm, RowEmbedding, Table, activation, aligned, drop, norm
from unpad.core.noise import Noise
from unpad.core.positions import DistanceBias, rotary_frequencies
from unpad.core.recurrent import RecurrentAttention, distance_waves


class Embeddings(nn.Module):
    """Sum of token, position and segment rows [T, E], normed and projected to [T, D] where the family does so."""

    def __init__(self, config: ModelConfig, tokens: RowEmbedding | None = None) -> None:
        super().__init__()
        E, D = config.embedding_width or config.width, config.width
        self.tokens: RowEmbedding | AdaptiveEmbedding
        if config.cutoffs is not None:
            self.tokens, E = AdaptiveEmbedding(config), D
        else:
            self.tokens = tokens if tokens is not None else RowEmbedding(config.vocab_size, E, config.padding_row)
        learned = config.input_positions and not config.fixed_positions
        self.positions = Table(config.max_positions + config.position_start, E) if learned else None
        self.types = Table(config.token_types, E) if config.token_types else None
        self.norm = norm(config, E) if config.embedding_norm else None
        self.projection = nn.Linear(E, D) if E != D or config.project_embeddings else None
        self.p = config.probability("embedding_dropout")
        self.offset, self.fixed = config.position_offset, config.input_positions and config.fixed_positions
        self.scale = E**0.5 if config.embedding_scale else 1.0

    def forward(self, batch: PackedBatch, noise: Noise | None) -> Tensor:
        x_TE = self.tokens(batch.input_ids)
        if self.scale != 1.0:
            x_TE = x_TE * self.scale
        if self.positions is not None:
            places = batch.position_ids + self.offset if self.offset else batch.position_ids
            x_TE = x_TE + self.positions(places)
        elif self.fixed:
            x_TE = x_TE + torch.cat(_waves(batch.position_ids, x_TE.shape[1]), dim=1).to(x_TE.dtype)
        if self.types is not None:
            x_TE = x_TE + (self.types.weight[0] if batch.token_type_ids is None else self.types(batch.token_type_ids))
        x_TE = drop(x_TE if self.norm is None else self.norm(x_TE), self.p, noise)
        return x_TE if self.projection is None else self.projection(aligned(x_TE)).to(x_TE.dtype)


def _waves(position_ids_T: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines, fp32 [T, width / 2] each, of position * 10000 ** (-2 i / width) (Vaswani et al., 2017)."""
    steps = torch.arange(0, width, 2, dtype=torch.float64, device=position_ids_T.device)
    angles = position_ids_T[:, None] / 10000 ** (steps / width)
    return angles.sin().float(), angles.cos().float()


@dataclass(frozen=True)
class Shared:
    """What all blocks need to know about a batch, computed once."""

    rotary: dict[float, tuple[Tensor, Tensor]]
    """Base of rotary positions -> its tables."""
    reach: Reach | None
    """Vectors of relative positions."""
    bias: Tensor | None
    """What attention adds to its scores, by place of query and key; while generating, by row and place of the key."""
    memory: PackedBatch | None
    """The other sequences that blocks attend to, and ..."""
    memory_hidden: Tensor | None
    """... their hidden states; None while generating, where the cache has their keys."""
    cache: Cache | None
    """Keys and values of the tokens before these."""
    recurrence: Memory | None = None
    """What a model with segment recurrence has of the tokens before these, and ..."""
    waves: Tensor | None = None
    """... its vectors of distances, farthest first."""


class Block(nn.Module):
    """Attention, attention to another sequence in decoders that have one, feed-forward. Each is closed by dropout + residual + norm;
    with `pre_norm` by norm before, dropout + residual after."""

    def __init__(self, config: ModelConfig, layer: int = 0) -> None:
        super().__init__()
        D, wide, H = config.width, config.ffn_width or 4 * config.width, config.head_width
        inner, biased = config.heads * H, config.attention_bias
        self.qkv = nn.Linear(D, sum(config.qkv_widths), bias=biased if config.qkv_bias is None else config.qkv_bias)
        self.q_norm = norm(config, H) if config.qk_norm else None
        self.k_norm = norm(config, H) if config.qk_norm else None
        self.out = nn.Linear(inner, D, bias=biased)
        bare = config.pre_norm and not config.first_norm and layer == 0  # the embeddings come normed
        self.attention_norm = None if bare else norm(config)
        if config.crossed:
            self.cross_q, self.cross_kv = nn.Linear(D, inner, bias=biased), nn.Linear(D, 2 * inner, bias=biased)
            self.cross_out, self.cross_norm = nn.Linear(inner, D, bias=biased), norm(config)
        self.crossed = config.crossed
        self.up = nn.Linear(D, 2 * wide if config.gated else wide, bias=config.ffn_bias)
        self.down = nn.Linear(wide, D, bias=config.ffn_bias)
        self.ffn_norm = norm(config)
        self.disentangled = DisentangledAttention(config) if config.relative_kinds else None
        self.recurrent = RecurrentAttention(config) if config.memory_length is not None else None
        by_tanh = config.tanh_gelu and config.activation == "gelu"
        self.activation = activation("gelu_new" if by_tanh else config.activation)
        self.gated, self.pre_norm = config.gated, config.pre_norm
        self.how = Attention(
            config.heads, H, config.key_heads, config.causal, config.window(layer), config.scaled_scores
        )
        self.across = Attention(config.heads, H, config.heads, scaled=config.scaled_scores)
        self.attention_p, self.ffn_p = config.probability("attention_dropout"), config.probability("ffn_dropout")
        self.p, self.last_p = (config.dropout, config.dropout) if config.residual_dropout else (self.attention_p, 0.0)
        self.theta, self.layer = config.theta(layer), layer

    def forward(
        self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, shared: Shared, rows: Tensor | None = None
    ) -> Tensor:
        """`rows` int64 [R]: the only tokens of which the result is asked, [R, D]; after attention the others are left out."""
        mixed_TD = self._mix(self._before(x_TD, self.attention_norm), batch, noise, shared)
        if rows is not None and not self.crossed:
            x_TD, mixed_TD = (aligned(t.index_select(0, rows)) for t in (x_TD, mixed_TD))
        x_TD = self._after(x_TD, self.out(mixed_TD), self.attention_norm, self.p, noise)
        if self.crossed:
            mixed_TD = self._cross(self._before(x_TD, self.cross_norm), batch, noise, shared)
            if rows is not None:
                x_TD, mixed_TD = (aligned(t.index_select(0, rows)) for t in (x_TD, mixed_TD))
            x_TD = self._after(x_TD, self.cross_out(mixed_TD), self.cross_norm, self.p, noise)
        y_TD = self._feed_forward(self._before(x_TD, self.ffn_norm), noise)
        return self._after(x_TD, y_TD, self.ffn_norm, self.last_p, noise)

    def _before(self, x_TD: Tensor, norm: Norm | RMSNorm | None) -> Tensor:
        return norm(x_TD) if self.pre_norm and norm is not None else x_TD

    def _after(self, x_TD: Tensor, y_TD: Tensor, norm: Norm | RMSNorm | None, p: float, noise: Noise | None) -> Tensor:
        if self.pre_norm:
            return x_TD + drop(y_TD, p, noise)
        return norm(y_TD, x_TD, p, noise)  # type: ignore[misc]

    def _mix(self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, shared: Shared) -> Tensor:
        if self.disentangled is not None:
            return self.disentangled(x_TD, self.qkv, batch, shared.reach, noise)
        if self.recurrent is not None:
            assert shared.waves is not None
            return self.recurrent(
                x_TD, self.qkv, lambda x: self._before(x, self.attention_norm), batch, shared.recurrence, self.layer, self.how,
                shared.waves, noise,
            )  # fmt: skip
        qkv_TX = self.qkv(x_TD)
        if self.q_norm is not None and self.k_norm is not None:
            N, K = self.how.heads, self.how.kv_heads
            q, k, v = qkv_TX.view(len(qkv_TX), N + 2 * K, -1).split([N, K, K], dim=1)
            qkv_TX = torch.cat([self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype), v], dim=1).flatten(1)
        if self.theta is not None:
            qkv_TX = Rotation.apply(qkv_TX, *shared.rotary[self.theta], self.how)
        if shared.cache is not None:
            if shared.cache.stepping:
                return shared.cache.attend(qkv_TX, self.layer, self.how, shared.bias)
            shared.cache.store(qkv_TX, batch, self.layer, self.how)
        return attend(qkv_TX, batch, self.how, self.attention_p, noise, shared.bias)

    def _cross(self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, shared: Shared) -> Tensor:
        q_TD, cache = self.cross_q(x_TD), shared.cache
        if cache is not None and cache.stepping:
            return cache.attend_across(q_TD, self.layer, self.across)
        assert shared.memory is not None and shared.memory_hidden is not None
        kv_MX = self.cross_kv(shared.memory_hidden)
        if cache is not None:
            cache.store_across(kv_MX, shared.memory, self.layer, self.across)
        return attend(q_TD, batch, self.across, self.attention_p, noise, None, kv_MX, shared.memory)

    def _feed_forward(self, x_TD: Tensor, noise: Noise | None) -> Tensor:
        x_TF = self.up(x_TD)
        if self.gated:
            x_TF, gate_TF = x_TF.chunk(2, dim=-1)
            return self.down(drop(self.activation(x_TF) * gate_TF, self.ffn_p, noise))
        return self.down(drop(self.activation(x_TF), self.ffn_p, noise))


class SharedBlocks(nn.ModuleList):
    """Blocks, one after the other, that several layers go through (ALBERT)."""

    def forward(self, x_TD: Tensor, *rest: Any) -> Tensor:
        *rest, rows = rest  # type: ignore[assignment]
        for block in self:
            x_TD = block(x_TD, *rest, rows if block is self[-1] else None)
        return x_TD


class Transformer(nn.Module):
    """Embeddings and blocks."""

    def __init__(self, config: ModelConfig, tokens: RowEmbedding | None = None) -> None:
        super().__init__()
        self.embeddings = Embeddings(config, tokens)
        self.order: Sequence[int] = range(config.layers)  # the block of each layer
        if config.groups is None:
            self.blocks = nn.ModuleList(Block(config, i) for i in range(config.layers))
        else:
            per_run = config.layers / config.groups  # a float: where it rounds, `transformers` rounds alike
            self.order = [int(i / per_run) for i in range(config.layers)]
            runs = ([Block(config) for _ in range(config.inner_layers)] for _ in range(config.groups))
            self.blocks = nn.ModuleList(SharedBlocks(run) for run in runs)
        if not config.block_biases:
            for block in self.blocks:
                block.recurrent.biases = self.blocks[0].recurrent.biases  # type: ignore[union-attr]
        self.memory, self.limit, self.waves_p = config.memory_length, config.distance_limit, config.dropout
        self.final_norm = norm(config) if config.pre_norm and config.final_norm else None
        self.relative = RelativePositions(config) if config.relative_attention else None
        self.distance_bias = DistanceBias(config) if config.bias_buckets else None
        self.frequencies = {
            theta: rotary_frequencies(config.head_width, theta, config.rope_scaling)
            for i in range(config.layers) if (theta := config.theta(i)) is not None
        }  # fmt: skip
        self.final_p = config.dropout if config.final_dropout else 0.0

    def forward(
        self,
        batch: PackedBatch,
        rows: Tensor | None = None,
        memory: PackedBatch | None = None,
        memory_MD: Tensor | None = None,
        cache: Cache | Memory | None = None,
    ) -> Tensor:
        """Hidden states [T, D] of the last block, or [R, D] of the tokens `rows` alone, which spares most of that block.

        `memory`: the batch of other sequences that a decoder attends to, and their hidden states. With a `cache`, `batch` holds
        prompts, whose keys and values it then keeps, or, once it has them, one further token of each of its rows; a model with segment
        recurrence reads the `Memory` of the tokens before, and keeps that for the tokens after.
        """
        cache, recurrence = (None, cache) if isinstance(cache, Memory) else (cache, None)
        noise = Noise(batch.input_ids.device) if self.training else None
        x_TD = self.embeddings(batch, noise)
        tokens = batch.input_ids.shape[0] if rows is None else rows.shape[0]
        x_TD = aligned(x_TD)
        rotary = {theta: rotary_table(batch.position_ids, f) for theta, f in self.frequencies.items()}
        longest, bias = max(batch.lengths, default=0), None
        reach = None if self.relative is None else self.relative(longest)
        if self.distance_bias is not None:
            if cache is not None and cache.stepping:
                bias = self.distance_bias(batch.position_ids, cache.longest)
            else:
                bias = self.distance_bias(torch.arange(longest, device=x_TD.device), longest)
        if memory_MD is not None:
            memory_MD = aligned(memory_MD)
        waves = None
        if self.memory is not None:
            waves = distance_waves(self.memory, longest, x_TD.shape[1], self.limit, x_TD.device)
            waves = drop(waves, self.waves_p, noise)
        shared = Shared(rotary, reach, bias, memory, memory_MD, cache, recurrence, waves)
        for layer, i in enumerate(self.order, 1):
            wanted = rows if layer == len(self.order) else None
            if recurrence is not None and not recurrence.keys:
                recurrence.store(x_TD, recurrence.read(layer - 1, batch), batch)
            x_TD = self.blocks[i](x_TD, batch, noise, shared, wanted)
        x_TD = x_TD if self.final_norm is None else self.final_norm(x_TD)
        return drop(x_TD, self.final_p, noise)[:tokens]


class EncoderDecoder(nn.Module):
    """A transformer that reads, and one that writes and attends to what was read; both with the same token embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder = Transformer(config)
        tokens = self.encoder.embeddings.tokens
        assert isinstance(tokens, RowEmbedding)
        self.decoder = Transformer(config.decoder(), tokens)

    @property
    def embeddings(self) -> Embeddings:
        """Those of the encoder."""
        return self.encoder.embeddings

    def forward(self, source: PackedBatch, target: PackedBatch, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states of the decoder [T', D] (or of its tokens `rows`), and of the encoder [T, D]."""
        memory_MD = self.encoder(source)
        return self.decoder(target, rows, source, memory_MD), memory_MD


def initialise(model: nn.Module, config: ModelConfig, names: Collection[str] | None = None) -> None:
    """New weights, as the family's paper draws them; with `names` only for these parameters.

    BERT: weights from N(0, initializer_range), biases 0, norms 1, the row of the padding id 0. Other families: see `init_cutoff`,
    `narrow_residuals`, `init_factor`.
    """
    for prefix, part in model.named_modules():
        own = dict(part.named_parameters(recurse=False))
        new = {name: p for name, p in own.items() if names is None or f"{prefix}.{name}" in names}
        if "weight" in new and isinstance(part, (nn.Linear, nn.Embedding)):
            _draw(part.weight, prefix, config)
            if isinstance(part, RowEmbedding) and part.padding_idx is not None:
                nn.init.zeros_(part.weight[part.padding_idx])
        elif "weight" in new and isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
            nn.init.constant_(part.weight, 1.0 if config.init_factor is None else config.init_factor)
        if "bias" in new:
            nn.init.zeros_(new["bias"])


def _draw(weight: Tensor, name: str, config: ModelConfig) -> None:
    std, layer = config.initializer_range, name.rpartition(".")[2]
    if config.sinusoidal and layer == "positions":
        rows, width = weight.shape  # sines and cosines take turns
        with torch.no_grad():
            weight.copy_(torch.stack(_waves(torch.arange(rows), width), dim=2).flatten(1)[:, :width])
    elif config.init_factor is not None:
        wide = 1 if layer == "tokens" or name == "head.table" else config.width if layer == "table" else weight.shape[1]
        nn.init.normal_(weight, std=config.init_factor * wide**-0.5)
        if layer in ("qkv", "cross_q"):  # scores are not divided by sqrt(H): the queries are
            with torch.no_grad():
                weight[: config.qkv_widths[0]] *= config.head_width**-0.5
    elif config.init_cutoff is None:
        narrow = config.narrow_residuals and layer in ("out", "down")
        nn.init.normal_(weight, std=std / (2 * config.layers) ** 0.5 if narrow else std)
    else:
        if layer in ("out", "down", "dense"):
            std /= (2 * config.layers) ** 0.5
        elif layer == "classifier":
            std = config.width**-0.5
        nn.init.trunc_normal_(weight, std=std, a=-config.init_cutoff * std, b=config.init_cutoff * std)
