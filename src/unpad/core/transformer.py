"""The transformer encoder on packed tokens: embeddings, then blocks of attention and feed-forward.

T packed tokens, D width. Parameters: `embeddings.{tokens,positions,types}`, `embeddings.norm`, and per block `qkv`
(queries, keys, values in one product), `out`, `attention_norm`, `up`, `down`, `ffn_norm`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unpad.batch import PackedBatch
from unpad.config import ModelConfig
from unpad.core.attention import attend
from unpad.core.layers import Norm, RowEmbedding, activation
from unpad.core.noise import Noise

ALIGN = 64
"""Rows; wastes half of it per batch on average, 8 percent of a batch of 8 short pairs and nothing of a large one."""


class Embeddings(nn.Module):
    """Sum of token, position and segment rows, normed."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = RowEmbedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.max_positions, config.width)
        self.types = nn.Embedding(config.token_types, config.width) if config.token_types else None
        self.norm = Norm(config.width, eps=config.norm_eps)
        self.p = config.dropout

    def forward(self, batch: PackedBatch, noise: Noise | None) -> Tensor:
        x_TD = self.tokens(batch.input_ids) + self.positions(batch.position_ids)
        if self.types is not None:
            x_TD = x_TD + (
                self.types.weight[0] if batch.token_type_ids is None else self.types(batch.token_type_ids)
            )
        x_TD = self.norm(x_TD)
        return x_TD * noise.mask(x_TD.shape, self.p, x_TD) if noise is not None and self.p > 0 else x_TD


class Block(nn.Module):
    """One post-norm block: attention, then feed-forward, each closed by dropout + residual + norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D = config.width
        self.qkv = nn.Linear(D, 3 * D)
        self.out = nn.Linear(D, D)
        self.attention_norm = Norm(D, eps=config.norm_eps)
        self.up = nn.Linear(D, config.ffn_width)
        self.down = nn.Linear(config.ffn_width, D)
        self.ffn_norm = Norm(D, eps=config.norm_eps)
        self.activation = activation(config.activation)
        self.heads, self.p, self.attention_p = config.heads, config.dropout, config.attention_dropout

    def forward(
        self, x_TD: Tensor, batch: PackedBatch, noise: Noise | None, backend: str | None = None
    ) -> Tensor:
        mixed_TD = attend(self.qkv(x_TD), batch, self.heads, self.attention_p, noise, backend)
        x_TD = self.attention_norm(self.out(mixed_TD), x_TD, self.p, noise)
        return self.ffn_norm(self.down(self.activation(self.up(x_TD))), x_TD, self.p, noise)


class Transformer(nn.Module):
    """Embeddings and blocks. `backend` fixes the attention backend (None: chosen by capability)."""

    backend: str | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, batch: PackedBatch) -> Tensor:
        """Hidden states [T, D] of the last block."""
        noise = Noise(batch.input_ids.device) if self.training else None
        x_TD = self.embeddings(batch, noise)
        tokens = x_TD.shape[0]
        x_TD = aligned(x_TD)
        for block in self.blocks:
            x_TD = block(x_TD, batch, noise, self.backend)
        return x_TD[:tokens]


def aligned(x_TD: Tensor) -> Tensor:
    """`x_TD` with zero rows appended up to a multiple of ALIGN, where matrix products run in bf16 on a CPU.

    oneDNN compiles a bf16 product anew for each shape, at 10 to 40 times the cost of running it once; almost every packed batch
    has its own T. With few distinct T the compiled products are found again. The extra rows belong to no sequence: attention
    leaves them out and nothing reads them.
    """
    half = x_TD.dtype == torch.bfloat16 or (
        torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )
    extra = -x_TD.shape[0] % ALIGN
    if x_TD.device.type != "cpu" or not half or not extra:
        return x_TD
    return F.pad(x_TD, (0, 0, 0, extra))


def initialise(module: nn.Module, config: ModelConfig) -> None:
    """BERT's initialisation: weights from N(0, initializer_range), biases 0, norms 1, the row of the padding id 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=config.initializer_range)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=config.initializer_range)
            if isinstance(part, RowEmbedding) and config.pad_token_id is not None:
                with torch.no_grad():
                    part.weight[config.pad_token_id].zero_()
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
