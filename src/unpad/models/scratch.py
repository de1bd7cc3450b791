"""A model from nothing: a tokenizer trained on a corpus, and random weights in a shape of any family."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unpad.config import ModelConfig
from unpad.errors import ArgumentError
from unpad.families import Family, family
from unpad.models.auto import ModelClass, check_tokens, family_config
from unpad.models.model import Model
from unpad.notices import say
from unpad.text.tokenizer import AutoTokenizer, Tokenizer

HEADS = {"conditional-generation": "unigram", "causal-lm": "byte-bpe", "masked-lm": "wordpiece"}
"""What a new model learns, the first of these that its family has -> kind of its tokenizer."""


def from_scratch(
    model_type: str, texts: Iterable[Any], vocab_size: int = 8000, **config: Any
) -> tuple[Model, Tokenizer]:
    """A tokenizer of at most `vocab_size` tokens trained on `texts`, and a model of the family with new weights that fits it.

    `texts` are strings or lists of strings; for translation give those of both languages, which share the vocabulary. `config` are keys of
    the family's config.json (n_layer=6, d_model=256); what is not given is as in its published base model. Encoder-decoders and
    causal language models get the head that writes, others that for masked words. Raises ArgumentError for unknown keys.
    """
    kind, head = _writer(model_type)
    new_config(model_type, None, **config)  # slips are told before the vocabulary is trained
    tokenizer = new_tokenizer(model_type, texts, vocab_size)
    made = new_config(model_type, tokenizer, **config)
    return ModelClass(kind.class_name(head), head, model_type).from_config(made), tokenizer


def new_tokenizer(model_type: str, texts: Iterable[Any], vocab_size: int = 8000) -> Tokenizer:
    """A tokenizer of the kind that suits the family: Unigram for encoder-decoders, byte-level BPE for causal models, else WordPiece."""
    made = AutoTokenizer.from_iterator(texts, HEADS[_writer(model_type)[1]], vocab_size)
    if len(made) > vocab_size:
        say(
            f"the vocabulary has {len(made)} tokens, not vocab_size={vocab_size}: single bytes and special tokens alone are so many"
        )
    return made


def new_config(model_type: str, tokenizer: Tokenizer | None, **config: Any) -> ModelConfig:
    """The family's configuration with these keys, and the vocabulary and special tokens of `tokenizer`.

    The tokenizer gets the model's greatest length, and no `token_type_ids` where the model has one kind of them.
    """
    kind = _writer(model_type)[0]
    if tokenizer is None:
        return family_config(kind, config)
    start, end = (kind.defaults.get(name) for name in ("decoder_start_token_id", "eos_token_id"))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    facts: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": pad}
    if "eos_token_id" in kind.defaults:
        facts |= {"eos_token_id": eos, "bos_token_id": tokenizer.bos_token_id}
    if start is not None:  # BART's decoder starts with the end token, others' with the pad token
        facts["decoder_start_token_id"] = eos if start == end else pad
    if kind.defaults.get("forced_eos_token_id") is not None:
        facts["forced_eos_token_id"] = eos
    made = family_config(kind, {**facts, **config})
    if made.vocab_size < len(tokenizer):
        raise ArgumentError(
            f"vocab_size={made.vocab_size} is less than the {len(tokenizer)} tokens of the tokenizer; leave it out of the configuration"
        )
    check_tokens(made, config)
    tokenizer.model_max_length = min(made.longest, tokenizer.model_max_length)
    if made.token_types < 2:  # nothing tells the two texts of a pair apart
        tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    return made


def _writer(model_type: str) -> tuple[Family, str]:
    """The family and the head of its new models. Raises ArgumentError for a family that learns from no text of its own."""
    kind = family(model_type, "from_scratch")
    head = next((head for head in HEADS if head in kind.heads), None)
    if head is None:
        raise ArgumentError(
            f"{model_type} models do not learn from texts alone (heads: {', '.join(kind.heads)}); take another family"
        )
    return kind, head
