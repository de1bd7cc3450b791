"""How text is generated, as one value: `generation_config.json` read, merged with what a call asks for, and checked."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unpad.errors import ArgumentError, CheckpointError, nearest
from unpad.hub.pull import resolve, split_options
from unpad.notices import say_once

FILE = "generation_config.json"
DEFAULT_NEW_TOKENS = 256
"""New tokens at most where neither the call nor the model names a length; said when it is used."""

DEFAULTS: dict[str, Any] = {
    "do_sample": False, "num_beams": 1, "early_stopping": False, "length_penalty": 1.0, "num_return_sequences": 1,
    "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0,
    "renormalize_logits": False, "use_cache": True, "return_dict_in_generate": False, "output_scores": False,
}  # fmt: skip
"""Values of the fields that are not set anywhere, as the field has them; all others stay None."""

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "penalty_alpha": (0,), "diversity_penalty": (0,), "num_beam_groups": (1,), "guidance_scale": (1,), "typical_p": (1,),
    "epsilon_cutoff": (0,), "eta_cutoff": (0,), "encoder_repetition_penalty": (1,), "encoder_no_repeat_ngram_size": (0,),
    "sequence_bias": (), "exponential_decay_length_penalty": (), "begin_suppress_tokens": (), "top_h": (), "max_time": (),
    "token_healing": (0,), "watermarking_config": (), "constraints": (), "force_words_ids": (), "dola_layers": (),
    "prompt_lookup_num_tokens": (), "assistant_early_exit": (), "use_mtp": (0,), "output_attentions": (0,),
    "output_hidden_states": (0,), "output_logits": (0,),
}  # fmt: skip
"""Settings of others -> the values, beside None, with which they change nothing in the answer."""

_LENGTHS = ("max_new_tokens", "max_length"), ("min_new_tokens", "min_length")


def listed(value: Any) -> list[Any]:
    """None as no entry, one value as one, and a list as it is."""
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _within(low: float, high: float, kinds: Any = int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high


_is_id, _REAL = _within(-math.inf, math.inf), (int, float)
_RULES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("do_sample use_cache return_dict_in_generate output_scores renormalize_logits", lambda v: v in (False, True),
     "True or False"),
    ("stop_strings", lambda v: all(isinstance(text, str) and text for text in listed(v)),
     "a text or a list of texts, none of them empty"),
    ("bad_words_ids", lambda v: all(isinstance(w, (list, tuple)) and w and all(map(_is_id, w)) for w in listed(v)),
     "a list of lists, each of one or more token ids"),
    ("bos_token_id pad_token_id decoder_start_token_id forced_bos_token_id", _is_id, "a token id, a whole number"),
    ("eos_token_id forced_eos_token_id suppress_tokens", lambda v: all(map(_is_id, listed(v))),
     "token ids, whole numbers"),
    ("max_new_tokens max_length num_beams num_return_sequences", _within(1, 1e9), "a whole number, 1 or more"),
    ("min_new_tokens min_length top_k no_repeat_ngram_size", _within(0, 1e9), "a whole number, 0 or more"),
    ("seed", _within(0, 2**64 - 1), "a whole number in 0..2**64 - 1"),
    ("top_p min_p", _within(0, 1, _REAL), "a number in 0..1"),
    ("repetition_penalty", _within(1e-9, 1e9, _REAL), "a number above 0"),
    ("length_penalty", _within(-10, 10, _REAL), "a number in -10..10"),
    ("temperature", _within(1e-9, 1e9, _REAL), "a number above 0; for the likeliest text pass do_sample=False"),
)  # fmt: skip
"""Fields -> what their values must be, if they have one."""


@dataclass(init=False)
class GenerationConfig:
    """Settings of generation. None: not set, so that the model's own settings count, and after them the stated default."""

    max_new_tokens: int | None = None
    """Tokens to generate at most. Without this and `max_length`: 256, or what the model's positions allow."""
    max_length: int | None = None
    """Prompt and new tokens together at most; for encoder-decoders the decoder's tokens, its start token included."""
    min_new_tokens: int | None = None
    """No end token before so many new tokens."""
    min_length: int | None = None
    """No end token before prompt and new tokens are so many together (default 0)."""
    do_sample: bool | None = None
    """Draw tokens by their probability instead of taking the best (default False)."""
    num_beams: int | None = None
    """Hypotheses that beam search follows per prompt; 1 (default): no beam search."""
    early_stopping: bool | str | None = None
    """Beam search stops: True, at `num_beams` ends; False (default), if a better one is unlikely; "never", if it is impossible."""
    length_penalty: float | None = None
    """Exponent of the length by which beam search divides a hypothesis's log-probability (default 1.0); above 0 favours longer ones."""
    num_return_sequences: int | None = None
    """Answers per prompt (default 1)."""
    temperature: float | None = None
    """Logits are divided by it before sampling (default 1.0)."""
    top_k: int | None = None
    """Sample among the k most likely tokens only (default 50; 0: all)."""
    top_p: float | None = None
    """Sample among the fewest tokens whose probabilities sum to this (default 1.0: all)."""
    min_p: float | None = None
    """Sample among tokens that are at least so likely compared with the likeliest."""
    repetition_penalty: float | None = None
    """Factor that makes tokens less likely which stand in the prompt or the text already (default 1.0: none)."""
    no_repeat_ngram_size: int | None = None
    """No run of so many tokens twice (default 0: allowed)."""
    bad_words_ids: list[list[int]] | None = None
    """Token sequences that are not generated."""
    renormalize_logits: bool | None = None
    """Make log-probabilities of the scores after all changes (default False); Marian's files set it."""
    forced_bos_token_id: int | None = None
    """Token that must follow a prompt of one token (the language of mBART)."""
    forced_eos_token_id: int | list[int] | None = None
    """Token that must stand at the greatest length."""
    suppress_tokens: list[int] | None = None
    """Tokens that are never generated."""
    bos_token_id: int | None = None
    """The prompt of a decoder where none is given."""
    eos_token_id: int | list[int] | None = None
    """Tokens that end a text."""
    pad_token_id: int | None = None
    """Fills the rows of returned tensors; the (first) end token where it is not set."""
    decoder_start_token_id: int | None = None
    """First token of the decoder of an encoder-decoder; `bos_token_id` where it is not set."""
    stop_strings: str | list[str] | None = None
    """Texts that end the generation; a call then needs `tokenizer=`."""
    use_cache: bool | None = None
    """Keep keys and values of earlier tokens (default True); False computes them anew each step and is only for comparisons."""
    return_dict_in_generate: bool | None = None
    """Answer with a `GenerateOutput` instead of a tensor (default False)."""
    output_scores: bool | None = None
    """Put the processed logits of every step in it (default False); needs memory of steps x rows x vocabulary."""
    seed: int | None = None
    """Sampling with the same seed gives the same text; None: one is drawn from torch's generator."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """Keys of a file that are not known here; written back as they were."""

    def __init__(self, **values: Any) -> None:
        for name in FIELDS:
            value = values.pop(name, None)
            value = value.tolist() if hasattr(value, "tolist") else value  # numpy's numbers, tensors of ids
            setattr(self, name, value)
        self.extra = values
        _refuse(values)
        for name in values.keys() - UNSUPPORTED.keys():
            raise ArgumentError(
                f"generation has no setting {name!r}{nearest(name, FIELDS)}; settings: {', '.join(FIELDS)}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GenerationConfig:
        """Settings from a `generation_config.json`; unknown keys go to `extra`, and are judged when text is generated."""
        made = cls(**{name: values[name] for name in FIELDS if name in values})
        made.extra = {name: value for name, value in values.items() if name not in FIELDS}
        return made

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], **options: Any) -> GenerationConfig:
        """Read `generation_config.json` of a folder or Hub id.

        options: `revision=`, `token=`, ... as models take them; settings by name win over the file. Raises CheckpointError where
        there is no file or it is damaged.
        """
        hub, changes = split_options(options)
        path = resolve(name, "generation settings", (FILE,), **hub)
        path = path / FILE if path.is_dir() else path
        try:
            values = {**json.loads(path.read_text(encoding="utf-8"))}
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{str(path)!r} is no valid {FILE} ({error}); write it again") from None
        cls(**changes)  # refuses what is no setting
        return cls.from_dict(values | changes)

    @classmethod
    def from_model_config(cls, config: Any, task: str | None = None) -> GenerationConfig:
        """Settings that older models keep in `config.json`: special tokens, and the `task_specific_params` of `task`."""
        of_task = config.task_settings.get(task or "", {})
        values = {name: value for name, value in {**config.extra, **of_task}.items() if name in FIELDS}
        if values.get("max_length") == 20:  # an old default, written into files that nobody meant it for
            del values["max_length"]
        ids = [name for name in FIELDS if name.endswith("token_id")]
        return cls(**values | {name: v for name in ids if (v := getattr(config, name, None)) is not None})

    def to_dict(self) -> dict[str, Any]:
        """The settings that are set, and the unknown keys of the file they come from."""
        return dict(sorted((self.extra | self.stated()).items()))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `generation_config.json` into `folder` (made if missing)."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / FILE).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def stated(self) -> dict[str, Any]:
        """The settings that are set."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    @property
    def eos(self) -> list[int]:
        """End tokens as a list."""
        return listed(self.eos_token_id)


FIELDS = tuple(f.name for f in dataclasses.fields(GenerationConfig) if f.name != "extra")


def _refuse(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is not None and value not in UNSUPPORTED.get(name, (value,)):
            raise ArgumentError(f"{name}={value!r:.60} is not supported and would change the text; leave it out")


def settle(
    own: GenerationConfig | None, config: Any, given: GenerationConfig | None = None, options: Mapping[str, Any] | None = None
) -> GenerationConfig:  # fmt: skip
    """The settings of one call: `options`, before `given`, the model's `own`, its special tokens, and `DEFAULTS`.

    An option that is None switches its setting off. A length of one layer replaces the length of the layers below. Raises
    ArgumentError for what is unknown, contradictory, out of range or not supported.
    """
    for one in (own, given):
        if one is not None and not isinstance(one, GenerationConfig):
            raise ArgumentError(
                f"generation_config is a {type(one).__module__}.{type(one).__name__}; give an unpad.GenerationConfig"
            )
    options, empty = options or {}, GenerationConfig()
    layers = [own or empty, given or empty, GenerationConfig(**options)]
    tokens = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    values = DEFAULTS | {name: getattr(config, name, None) for name in tokens}
    for layer in layers:
        _refuse(layer.extra)
        for pair in _LENGTHS:
            if not layer.stated().keys().isdisjoint(pair):
                values |= dict.fromkeys(pair)
        values |= layer.stated()
    off = DEFAULTS | {"top_k": 0}
    values |= {name: off.get(name) for name, value in options.items() if value is None and name in FIELDS}
    if values["do_sample"] and values.get("seed") is None:
        import torch

        values["seed"] = int(torch.randint(2**62, ()))
    out = GenerationConfig(**values)
    _check_values(out, getattr(config, "vocab_size", None) or 1 << 40)
    _check(out, layers[1].stated().keys() | layers[2].stated().keys())
    return out


def _check_values(s: GenerationConfig, size: int) -> None:
    """ArgumentError for a value that breaks its rule; what is to be written is one of `size` tokens."""
    for names, fits, rule in _RULES:
        for name in names.split():
            value = getattr(s, name)
            if value is not None and not fits(value) and (s.do_sample or name != "temperature"):
                raise ArgumentError(f"{name}={value!r:.60} must be {rule}")
    for name in ("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"):
        if outside := [i for i in listed(getattr(s, name)) if not 0 <= i < size]:
            raise ArgumentError(
                f"{name}={outside[0]} is no token of the model, which has 0..{size - 1}; pass one of them"
            )


def _check(s: GenerationConfig, asked: Collection[str]) -> None:
    """ArgumentError for settings that cannot be together; contradictions of lengths only where the call itself (`asked`) has both."""
    beams, returned = int(s.num_beams or 1), int(s.num_return_sequences or 1)
    if s.early_stopping not in (False, True, "never"):
        raise ArgumentError(f"early_stopping={s.early_stopping!r} is unknown; allowed: False, True, 'never'")
    if returned > beams > 1:
        raise ArgumentError(f"num_return_sequences={returned} is more than num_beams={beams}; raise num_beams")
    if returned > beams and not s.do_sample:
        why = "without beams or sampling would be the same text again"
        raise ArgumentError(f"num_return_sequences={returned} {why}; pass num_beams={returned} or do_sample=True")
    for a, b in _LENGTHS:  # if both are there, one layer has both
        if a in asked and None not in (getattr(s, a), getattr(s, b)):
            raise ArgumentError(
                f"{a}={getattr(s, a)} and {b}={getattr(s, b)} contradict each other; pass one of the two"
            )
    for least, most in zip(_LENGTHS[1], _LENGTHS[0], strict=True):
        low, high = getattr(s, least) or 0, getattr(s, most) or 0
        if low > high > 0 and {least, most} <= set(asked):
            raise ArgumentError(f"{least}={low} is more than {most}={high}; lower the one or raise the other")
        if low > high > 0:
            say_once(f"{least}={low} is more than {most}={high}: every text gets {high} tokens")
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        if (forced := listed(getattr(s, name))) and set(forced) <= set(listed(s.suppress_tokens)):
            raise ArgumentError(f"{name}={forced} is among suppress_tokens; a token cannot be forced and forbidden")
    for name in ("temperature", "top_k", "top_p", "min_p"):
        if name in asked and not s.do_sample and getattr(s, name) not in (DEFAULTS.get(name), 0):
            say_once(f"{name}={getattr(s, name)} has no effect without do_sample=True")
