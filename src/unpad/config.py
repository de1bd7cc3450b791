"""What a model is, as one flat frozen value: every number that shapes the computation, and the names of its labels.

A field exists only while a shipped family needs it. Field names are ours; a family's table maps them to and from the
keys of its `config.json`, and those keys are readable here as attributes too (`config.hidden_size`). Keys that we do
not know are kept in `extra` and written back unchanged.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from unpad.errors import ArgumentError, CheckpointError, nearest


@dataclass(frozen=True, repr=False, kw_only=True)
class ModelConfig:
    """The facts of one model. Build it with a family (`BertConfig(...)`) or read it with `AutoConfig.from_pretrained`."""

    model_type: str
    """Family name, as in `config.json` ("bert")."""
    vocab_size: int
    """Rows of the token embedding."""
    width: int
    """D: width of the hidden states."""
    layers: int
    """Number of transformer blocks; of an encoder-decoder those of the encoder."""
    heads: int
    """N: attention heads; the head width H is width / heads unless `head_size` tells it."""
    ffn_width: int | None
    """Width of the feed-forward layer inside a block; None: 4 D (GPT-2)."""
    activation: str = "gelu"
    """Activation of the feed-forward layer: one of core.layers.ACTIVATIONS."""
    max_positions: int = 1 << 20
    """Rows of the position table; the longest sequence has `longest` tokens. The default is for families without: any length."""
    token_types: int = 0
    """Number of segment embeddings (0: the family has none)."""
    norm_eps: float
    """Epsilon of the layer norms."""
    dropout: float = 0.1
    """Dropout probability of embeddings, attention output and feed-forward output."""
    attention_dropout: float | None = 0.0
    """Dropout probability of attention weights; None: the same as `dropout` (T5)."""
    classifier_dropout: float | None = None
    """Dropout probability before the classifier; None: the same as `dropout`."""
    initializer_range: float = 0.02
    """Standard deviation of the normal distribution that new weights are drawn from."""
    pad_token_id: int | None = None
    """Id of the token that fills rows up; packed batches hold none of it."""
    id2label: Mapping[int, str] = field(default_factory=lambda: {0: "LABEL_0", 1: "LABEL_1"})
    """Names of the labels in the order of the classifier's outputs."""
    problem_type: str | None = None
    """"single_label_classification", "multi_label_classification", "regression", or None: told from labels at first use."""
    embedding_width: int | None = None
    """E: width of the token, position and segment embeddings, projected to D; None: D (ALBERT, ELECTRA)."""
    project_embeddings: bool = False
    """The projection from E to D is there even where they are equal (ALBERT)."""
    positions_after_pad: bool = False
    """Rows 0 .. pad_token_id of the position table belong to no token: the first token has the next one (RoBERTa)."""
    sinusoidal: bool = False
    """New position tables start as sines and cosines (Vaswani et al., 2017); they are trained all the same (DistilBERT)."""
    groups: int | None = None
    """Layers share their weights in so many runs; None: each layer has its own (ALBERT)."""
    inner_layers: int = 1
    """Blocks of such a run, which each of its layers goes through (ALBERT)."""
    span_dropout: float = 0.0
    """Dropout probability before the output for answer spans (DistilBERT)."""
    summary_dropout: float = 0.0
    """Dropout probability before the output for choices (ELECTRA)."""
    input_positions: bool = True
    """Tokens get rows of a position table; False: only attention knows where they stand (DeBERTa, ModernBERT)."""
    relative_attention: bool = False
    """Attention scores also count vectors of relative positions (DeBERTa)."""
    relative_scores: str | Sequence[str] | None = None
    """Which scores: "c2p" (position of the key as the query sees it), "p2c" (of the query), as a list or joined by | (DeBERTa)."""
    relative_shared: bool = False
    """Relative positions go through the layers of the tokens' queries and keys, not through their own (DeBERTa)."""
    relative_reach: int = -1
    """Farthest relative position, in tokens; below 1: `max_positions` (DeBERTa)."""
    relative_buckets: int = -1
    """Relative positions to each side after far ones are put together; below 1: every one for itself (DeBERTa)."""
    relative_norm: str | None = None
    """"layer_norm": the vectors of relative positions are normed (DeBERTa)."""
    pooler_dropout: float = 0.0
    """Dropout probability before the dense layer of a head (DeBERTa)."""
    global_theta: float | None = None
    """Base of the rotary positions where attention is global; None: no rotary positions (ModernBERT)."""
    local_theta: float | None = None
    """Base of the rotary positions where attention is local (ModernBERT)."""
    global_every: int = 1
    """Every so-manieth block, from the first on, sees the whole sequence, the others a window (ModernBERT)."""
    local_window: int = 0
    """Tokens of that window, half of them to each side (ModernBERT)."""
    pre_norm: bool = False
    """Norms stand before attention and feed-forward, not in the first block's attention, and one at the end; the attention output
    is dropped with `attention_dropout`, inside the feed-forward layer with `ffn_dropout` (ModernBERT)."""
    gated: bool = False
    """The feed-forward layer multiplies its activation by a second projection of its input (ModernBERT)."""
    ffn_dropout: float | None = 0.0
    """Dropout probability inside the feed-forward layer (ModernBERT, BART); None: the same as `dropout` (T5)."""
    attention_bias: bool = True
    """Attention's linear layers have biases (False in ModernBERT)."""
    ffn_bias: bool = True
    """The feed-forward's linear layers have biases (False in ModernBERT)."""
    norm_bias: bool = True
    """Norms have biases (False in ModernBERT)."""
    head_bias: bool = True
    """The dense layer of a head has a bias (False in ModernBERT)."""
    vocabulary_bias: bool = True
    """The vocabulary head has a bias for each token (False in some ModernBERT)."""
    pooling: str = "cls"
    """What a "pooled" head reads: "cls" (first token) or "mean" of the tokens (ModernBERT)."""
    init_cutoff: float | None = None
    """New weights are drawn from a normal distribution cut at so many standard deviations, layers that write into the residual
    stream narrower with depth, classifiers with width ** -0.5; None: as BERT's (ModernBERT)."""
    causal: bool = False
    """A token sees itself and those before it (decoders)."""
    decoder_layers: int | None = None
    """Blocks of the decoder of an encoder-decoder, with `decoder_heads` and `decoder_ffn_width`; 0: as many as `layers` (T5);
    None: there is no decoder beside."""
    decoder_heads: int | None = None
    """Attention heads of that decoder; None: as many as the encoder's."""
    decoder_ffn_width: int | None = None
    """Width of the feed-forward layers of that decoder; None: as the encoder's."""
    crossed: bool = False
    """Blocks also attend to another sequence. Set by `decoder`, not by families."""
    head_size: int | None = None
    """H where it is not width / heads (T5, Qwen3)."""
    kv_heads: int | None = None
    """K: heads of keys and values, each shared by N / K heads of queries; None: N (Llama)."""
    rms_norm: bool = False
    """Norms divide by the root mean square and shift nothing (T5, Llama)."""
    qk_norm: bool = False
    """Queries and keys are normed, each head by itself (Qwen3)."""
    qkv_bias: bool | None = None
    """The layer that makes queries, keys and values has a bias; None: as `attention_bias` says (Qwen2)."""
    scaled_scores: bool = True
    """Attention scores are divided by sqrt(H) (False in T5)."""
    sliding_window: int | None = None
    """A token of a decoder sees so many tokens, itself the last; None: all before it (Mistral)."""
    rope_scaling: Mapping[str, Any] | None = None
    """How rotary frequencies are stretched: None, or `rope_type` "linear" or "llama3" with its numbers (Llama 3.1)."""
    bias_buckets: int = 0
    """Attention adds a learned number per head and bucket of distances; 0: it does not (T5)."""
    bias_reach: int = 128
    """Distance from which on all fall into the last bucket (T5)."""
    embedding_norm: bool = True
    """The sum of the embeddings is normed (False in most decoders)."""
    pad_row: bool = True
    """The embedding of the padding id is 0 at first, and learns nothing from being read (False in GPT, CTRL, T5)."""
    embedding_scale: bool = False
    """Token rows are multiplied by sqrt(E) (Marian, CTRL, mBART)."""
    embedding_dropout: float | None = None
    """Dropout probability of the embeddings; None: as `dropout` (GPT-2)."""
    position_start: int = 0
    """Rows of the position table before that of the first token, beside `max_positions` (BART)."""
    fixed_positions: bool = False
    """Positions are sines, then cosines, not trained and not stored (Marian, CTRL)."""
    first_norm: bool = True
    """A pre-norm family norms the input of its first attention too (False in ModernBERT, whose embeddings are normed)."""
    residual_dropout: bool = True
    """Both halves of a block end with `dropout`; False: the first with `attention_dropout`, the second with none (ModernBERT)."""
    final_dropout: bool = False
    """The last hidden states are dropped with `dropout` (T5)."""
    tied: bool = True
    """The vocabulary is read out with the token embedding; False: with a table of its own (`lm_head`)."""
    scaled_output: bool | None = False
    """Hidden states are divided by sqrt(D) before the vocabulary is read out (T5 v1.0); None: where it is `tied`."""
    init_factor: float | None = None
    """New weights are drawn so many times as wide as what they read asks for, (its width) ** -0.5, embeddings and norms so many
    times as wide as 1; None: as BERT's (T5)."""
    narrow_residuals: bool = False
    """New weights that write into the residual stream are drawn narrower with depth (GPT-2)."""
    tanh_gelu: bool = False
    """The activation called "gelu" is its approximation by tanh (OpenAI GPT)."""
    fixed_vocabulary_bias: bool = False
    """The bias of the vocabulary is not trained (BART, Marian)."""
    final_norm: bool = True
    """A pre-norm family norms the last hidden states too (False in Transformer-XL)."""
    memory_length: int | None = None
    """Tokens before a segment that it also attends to, by distance; None: there are no segments (Transformer-XL)."""
    even_reach: bool = False
    """Each token of a segment sees so many tokens, itself the last; False: it sees the whole memory (Transformer-XL)."""
    distance_limit: int = -1
    """Distance from which on all count as this one; below 1: there is none (Transformer-XL)."""
    block_biases: bool = True
    """Blocks that score distances each have biases of their own (Transformer-XL)."""
    cutoffs: Sequence[int] | None = None
    """First ids of the rarer parts of an adaptive vocabulary; None: it has no parts (Transformer-XL)."""
    narrowing: int = 1
    """The vectors of each part are so many times narrower than those of the part before; 1: one table for all (Transformer-XL)."""
    tied_projections: bool | Sequence[bool] = True
    """Whether a part is read out with the projection of its embedding; True: all but the first (Transformer-XL)."""
    bos_token_id: int | None = None
    """Id of the token that begins a text."""
    eos_token_id: int | Sequence[int] | None = None
    """Id of the token that ends a text, or several."""
    decoder_start_token_id: int | None = None
    """Id that a decoder reads first."""
    target_wraps: bool = False
    """In training a decoder reads first the last token of what it is to write; `decoder_start_token_id` is for generation (mBART)."""
    forced_bos_token_id: int | None = None
    """Id that generation is made to begin with (the language of mBART)."""
    forced_eos_token_id: int | None = None
    """Id that generation is made to end with at its greatest length (BART)."""
    architectures: tuple[str, ...] = ()
    """Class names under `architectures` of the `config.json` it was read from."""
    names: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Key of the family's `config.json` -> field name here. Comes from the family, not from the file."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `config.json` that change nothing in the computation here; written back as they were."""

    def __post_init__(self) -> None:
        key = {name: theirs for theirs, name in self.names.items()}  # messages name what stands in config.json
        if self.decoder_layers == 0:
            object.__setattr__(self, "decoder_layers", self.layers)
        if self.scaled_output is None:
            object.__setattr__(self, "scaled_output", self.tied)
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if value is None and FIELDS[name] == "int | None":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ArgumentError(f"{key.get(name, name)}={value!r} must be a whole number, {least} or more")
            object.__setattr__(self, name, int(value))  # JSON knows no numpy numbers
        for name in TOKENS:
            value = getattr(self, name)
            ids = value if isinstance(value, (list, tuple)) and name.endswith("eos_token_id") else [value]
            if any(isinstance(i, bool) or not isinstance(i, (Integral, type(None))) for i in ids):
                raise ArgumentError(f"{name}={value!r} must be a whole number or None")
            if isinstance(value, Integral):
                object.__setattr__(self, name, int(value))
        if self.heads % self.key_heads:
            raise ArgumentError(
                f"{self.heads} attention heads are not a multiple of the {self.key_heads} heads of keys"
            )
        if self.width % self.heads and self.head_size is None:
            raise ArgumentError(f"hidden size {self.width} is not a multiple of the {self.heads} attention heads")
        if self.global_every > 1 and "local_window" not in self.names.values():
            raise ArgumentError(f"layer_types with 'sliding_attention' are not supported for {self.model_type}")
        if self.bias_buckets and (self.bias_buckets < 4 or self.bias_reach <= self.bias_buckets // 2):
            buckets, reach = (f"{key.get(n, n)}={getattr(self, n)}" for n in ("bias_buckets", "bias_reach"))
            raise ArgumentError(f"{buckets} must be 4 or more, and {reach} more than half of it")
        if self.cutoffs is not None:
            self._check_parts(key)
        _check_scaling(self.rope_scaling)
        if self.positions_after_pad and self.pad_token_id is None:
            raise ArgumentError("pad_token_id=None, but positions are counted from it; give a whole number")
        for name, kind in FIELDS.items():
            p = getattr(self, name) if name.endswith("dropout") and kind != "bool" else None
            if p is not None and not (isinstance(p, (int, float)) and 0 <= p < 1):
                raise ArgumentError(
                    f"{name} ({key.get(name, name)}) is {p!r}; a dropout probability lies in 0 <= p < 1"
                )
        for name in ("norm_eps", "initializer_range"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise ArgumentError(f"{key.get(name, name)}={value!r} must be a number in 0 <= x < 1")
        for name in ("global_theta", "local_theta"):
            value = getattr(self, name)
            if value is None and (name == "local_theta" or name not in key):
                continue
            if not isinstance(value, (int, float)) or not value > 0 or self.head_width % 2:
                raise ArgumentError(
                    f"{key.get(name, name)}={value!r} must be a number above 0 and the head width {self.head_width} even"
                )
        words = (
            ("pooling", (self.pooling,), ("cls", "mean")),
            ("relative_scores", self.relative_kinds, ("c2p", "p2c")),
        )
        for name, given, known in words:
            if odd := [value for value in given if value not in known]:
                raise ArgumentError(f"{key.get(name, name)} {odd[0]!r} is not supported; supported: {', '.join(known)}")

    def _check_parts(self, key: Mapping[str, str]) -> None:
        """Whether the parts of the vocabulary, and the memory beside them, can be made; `cutoffs` and `tied_projections` become lists."""
        cutoffs = self.cutoffs if isinstance(self.cutoffs, (list, tuple)) else [None]
        ends, tied = [0, *cutoffs, self.vocab_size], self.tied_projections
        if tied is None or isinstance(tied, bool):
            tied = [False] + [bool(tied)] * (len(ends) - 2)
        whole = all(isinstance(end, Integral) for end in ends)
        narrowest = (self.embedding_width or self.width) // self.narrowing ** (len(ends) - 2)
        for name, right, rule in (
            ("cutoffs", whole and sorted(set(ends)) == ends, f"rise from 1 and stay below vocab_size={self.vocab_size}; [] is a vocabulary of one part"),
            ("tied_projections", isinstance(tied, (list, tuple)) and len(tied) == len(ends) - 1, f"be True, False or {len(ends) - 1} of these, one for each part of the vocabulary"),
            ("narrowing", narrowest > 0, f"leave the last of {len(ends) - 1} parts of the vocabulary a width"),
            ("even_reach", not self.even_reach or self.memory_length, "be False where there is no memory"),
            ("width", self.width % 2 == 0, "be even"),
        ):  # fmt: skip
            if not right:
                raise ArgumentError(f"{key.get(name, name)}={getattr(self, name)!r} must {rule}")
        object.__setattr__(self, "cutoffs", ends[1:-1])
        object.__setattr__(self, "tied_projections", list(tied))

    @property
    def num_labels(self) -> int:
        """C: outputs of a classification head."""
        return len(self.id2label)

    @property
    def label2id(self) -> dict[str, int]:
        """The inverse of `id2label`."""
        return {name: i for i, name in self.id2label.items()}

    @property
    def position_offset(self) -> int:
        """Rows of the position table before that of the first token."""
        return (self.pad_token_id or 0) + 1 if self.positions_after_pad else self.position_start

    @property
    def longest(self) -> int:
        """Longest sequence that the model takes, in tokens."""
        return self.max_positions - self.position_offset + self.position_start

    @property
    def segments(self) -> int | None:
        """How many values `token_type_ids` may have, from 0; None: any, for they are not read.

        A family without segments takes zeros. One that has them but not in this model (DeBERTa's type_vocab_size 0) is given
        them by its tokenizer all the same.
        """
        if self.token_types == 0 and "token_types" in self.names.values():
            return None
        return max(self.token_types, 1)

    @property
    def head_width(self) -> int:
        """H: width of one attention head."""
        return self.head_size or self.width // self.heads

    @property
    def padding_row(self) -> int | None:
        """The row of the token embedding that `pad_row` is about."""
        pad = self.pad_token_id
        return pad if self.pad_row and pad is not None and 0 <= pad < self.vocab_size else None

    @property
    def key_heads(self) -> int:
        """K: heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Rows of the queries, keys and values in the layer that makes them."""
        keys = self.key_heads * self.head_width
        return self.heads * self.head_width, keys, keys

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether an encoder reads and a decoder writes."""
        return self.decoder_layers is not None

    def decoder(self) -> ModelConfig:
        """The configuration of the decoder's own blocks."""
        assert self.decoder_layers is not None
        return dataclasses.replace(
            self, layers=self.decoder_layers, heads=self.decoder_heads or self.heads, causal=True, crossed=True,
            kv_heads=None, ffn_width=self.decoder_ffn_width or self.ffn_width, decoder_layers=None,
        )  # fmt: skip

    def probability(self, name: str) -> float:
        """The dropout probability of this field; None there stands for `dropout`."""
        p = getattr(self, name)
        return float(self.dropout if p is None else p)

    @property
    def feed_forward(self) -> str:
        """`activation` and `gated` in one word, as in T5's files, where "gated-gelu" is the approximation by tanh."""
        if not self.gated:
            return self.activation
        return "gated-gelu" if self.activation == "gelu_new" else f"gated-{self.activation}"

    @property
    def relative_kinds(self) -> tuple[str, ...]:
        """`relative_scores`, one by one."""
        given = self.relative_scores or ()
        parts = given.lower().split("|") if isinstance(given, str) else given
        return tuple(part.strip() for part in parts)

    @property
    def layer_types(self) -> list[str]:
        """The kind of each block's attention, in the words of config.json."""
        return _layer_types(self.layers, self.global_every)

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """`global_theta` and `rope_scaling` as newer files have them, in one object."""
        return {"rope_theta": self.global_theta, **(self.rope_scaling or {"rope_type": "default"})}

    def window(self, layer: int) -> int | None:
        """How many places away, to either side, a token of this block sees others; None: it sees all."""
        if self.even_reach or self.sliding_window is not None:
            return (self.memory_length if self.even_reach else self.sliding_window) - 1  # type: ignore[operator]
        return self.local_window // 2 if layer % self.global_every else None

    def theta(self, layer: int) -> float | None:
        """Base of the rotary positions of this block; None: it has none."""
        return self.local_theta if layer % self.global_every else self.global_theta

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            names, extra = (self.__dict__.get(table, {}) for table in ("names", "extra"))
            if name in names:
                return getattr(self, names[name])
            if name in extra:
                return extra[name]
        raise AttributeError(f"the configuration has no {name!r}{nearest(name, FIELDS)}")

    @property
    def task_settings(self) -> dict[str, dict[str, Any]]:
        """The `task_specific_params` that older files carry: task -> settings; what is no such table is left out."""
        tables = self.extra.get("task_specific_params")
        return {task: v for task, v in tables.items() if isinstance(v, dict)} if isinstance(tables, dict) else {}

    def replace(self, **changes: Any) -> ModelConfig:
        """A copy with other values. Accepts field names, the family's own key names, `num_labels` and `label2id`."""
        values = layer_changes(label_changes({self.names.get(k, k): v for k, v in changes.items()}))
        if odd := next((name for name in values if name not in FIELDS), None):
            known = [*self.names, "num_labels", "id2label", "label2id", "problem_type"]
            raise ArgumentError(f"the configuration has no {odd!r}{nearest(odd, known)}; known: {', '.join(known)}")
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json` under the family's own key names, unknown keys included."""
        out: dict[str, Any] = {**self.extra, "model_type": self.model_type}
        for key, name in self.names.items():
            *path, last = key.split(".")
            place = out
            for part in path:
                place[part] = dict(place.get(part) or {})
                place = place[part]
            place[last] = getattr(self, name)
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
            (Path(folder) / "config.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"config.json cannot be written to {str(folder)!r} ({error.strerror}); give a folder that can be written"
            ) from None

    def __repr__(self) -> str:
        return f"{self.model_type.capitalize()}Config {json.dumps(self.to_dict(), indent=2)}"


FIELDS: dict[str, str] = {f.name: f.type for f in dataclasses.fields(ModelConfig)}  # type: ignore[misc]
"""Every field -> its type."""
_WHOLE = {
    "vocab_size": 1, "width": 1, "layers": 1, "heads": 1, "ffn_width": 1, "max_positions": 1, "token_types": 0,
    "embedding_width": 1, "groups": 1, "inner_layers": 1, "relative_reach": -1, "relative_buckets": -1,
    "global_every": 1, "local_window": 0, "decoder_layers": 1, "decoder_heads": 1, "decoder_ffn_width": 1,
    "head_size": 1, "kv_heads": 1, "sliding_window": 1, "bias_buckets": 0, "bias_reach": 1, "position_start": 0,
    "memory_length": 0, "narrowing": 1,
}  # fmt: skip
"""Fields that are whole numbers -> the least that makes a model."""
TOKENS = (
    "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip
"""Fields that are ids of the vocabulary. A file may name one that is not there (-1 for none), a caller may not: see `models.auto`."""
_SCALINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""How rotary positions may be stretched -> the numbers that tell how far."""


def _check_scaling(scaling: Any) -> None:
    if scaling is None:
        return
    where = f"the scaling of rotary positions {scaling!r:.120}"
    if not isinstance(scaling, Mapping):
        raise ArgumentError(f"{where} is a {type(scaling).__name__}; give an object such as {{'rope_type': 'default'}}")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _SCALINGS:
        raise ArgumentError(f"{where}: {kind!r} is not supported; supported: {', '.join(_SCALINGS)}")
    for name in _SCALINGS[kind]:
        value = scaling.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise ArgumentError(f"{where}: {name}={value!r} must be a number above 0")
    if scaling.get("partial_rotary_factor", 1) != 1:
        raise ArgumentError(f"{where}: a partial_rotary_factor is not supported")


def _ids(option: str, given: Any, names_first: bool) -> list[tuple[str, int]]:
    """(name, id) pairs of an `id2label` or `label2id`; ArgumentError for what is none."""
    example = "{'no': 0, 'yes': 1}" if names_first else "{0: 'no', 1: 'yes'}"
    if not isinstance(given, Mapping):
        raise ArgumentError(f"{option}={given!r:.60} is a {type(given).__name__}; give a dictionary such as {example}")
    try:
        return [(str(a), int(b)) if names_first else (str(b), int(a)) for a, b in given.items()]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"{option}={dict(given)!r:.80} has an id that is no whole number; give a dictionary such as {example}"
        ) from None


def nested(raw: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Whether a `config.json` has `key`, and its value; "a.b" is the key b of the object under a."""
    value: Any = raw
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _layer_types(layers: int, every: int) -> list[str]:
    return ["sliding_attention" if i % every else "full_attention" for i in range(layers)]


def layer_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Turn `layer_types`, a list of the kind of each block, into `global_every`, `rope_parameters` into `global_theta` and
    `rope_scaling`, and `feed_forward` into `activation` and `gated`. Raises ArgumentError for other patterns."""
    word = values.pop("feed_forward", None)
    if isinstance(word, str):
        name = word.removeprefix("gated-")
        gated = name != word
        values = {"activation": "gelu_new" if word == "gated-gelu" else name, "gated": gated, **values}
    rope, older = values.pop("rope_parameters", None), values.get("rope_scaling")
    rope = older or rope  # where a file has both, `transformers` reads the older
    if isinstance(rope, Mapping):
        rest = {key: value for key, value in rope.items() if key != "rope_theta"}
        values["rope_scaling"] = rest if older or rest not in ({}, {"rope_type": "default"}) else None
        if "rope_theta" in rope:
            values["global_theta"] = rope["rope_theta"]
    kinds, every = values.pop("layer_types", None), values.get("global_every") or 1
    if kinds is None:
        return values
    if list(kinds) != _layer_types(len(kinds), every):
        every = next((i for i, kind in enumerate(kinds) if i and kind == "full_attention"), len(kinds) or 1)
    if list(kinds) != _layer_types(len(kinds), every):
        raise ArgumentError(
            f"layer_types {kinds!r:.80} is not supported; 'full_attention' must come first and then at every n-th place, "
            "'sliding_attention' at the others"
        )
    return {**values, "global_every": every}


def label_changes(values: dict[str, Any]) -> dict[str, Any]:
    """Turn `num_labels` and `label2id`, in whatever combination a caller gives them, into `id2label`.

    Keys of `id2label` may be strings, as JSON has them. Raises ArgumentError where the three contradict each other.
    """
    out = {k: v for k, v in values.items() if k not in ("num_labels", "label2id", "id2label")}
    count, to_id, to_label = values.get("num_labels"), values.get("label2id"), values.get("id2label")
    if count is not None and (isinstance(count, (bool, str)) or int(count) != count or count < 1):
        raise ArgumentError(f"num_labels={count!r} must be a whole number, 1 or more")
    stated = None if to_id is None else dict(_ids("label2id", to_id, names_first=True))
    if to_label is not None:
        labels = {i: name for name, i in _ids("id2label", to_label, names_first=False)}
    elif stated is not None:
        labels = {i: name for name, i in stated.items()}
    elif count is not None:
        labels = {i: f"LABEL_{i}" for i in range(int(count))}
    else:
        return out
    labels = dict(sorted(labels.items()))
    if list(labels) != list(range(len(labels))) or not labels:
        raise ArgumentError(f"label ids must be 0..{max(len(labels), 1) - 1} without gaps, but they are {list(labels)}")
    if to_label is not None and stated not in (None, {name: i for i, name in labels.items()}):
        raise ArgumentError(f"label2id {stated} is not the inverse of id2label {labels}; pass one of the two")
    if count is not None and int(count) != len(labels):
        raise ArgumentError(f"num_labels={count} but there are {len(labels)} label names: {', '.join(labels.values())}")
    return {**out, "id2label": labels}
