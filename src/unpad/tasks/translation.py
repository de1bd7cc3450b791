"""Translation: a text in another language, from data with a `translation` column of dictionaries or with two columns of texts.

Languages are keys of these dictionaries ("en"), names of columns, or codes of the tokenizer ("en_XX"); a key stands for its only code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.metrics import load_metric
from unpad.notices import say, say_once
from unpad.tasks._columns import holds_text, one_of
from unpad.tasks._generation import TextToText, code_of, speaking
from unpad.tasks._task import Columns, Part

if TYPE_CHECKING:
    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

DICTS = "translation"
"""Name of the column of dictionaries."""


class Translation(TextToText):
    """See `TextToText`. Settings `source_lang` and `target_lang`, options `src_lang` and `tgt_lang` name the direction."""

    name = "translation"
    default_model = "t5-base"
    options = (*TextToText.options, "src_lang", "tgt_lang")
    settings = ("source_lang", "target_lang", *TextToText.settings)
    key = "translation"
    sources = ("source", "src", "source_text", "input", "text")
    targets = ("target", "tgt", "target_text", "output", "label")

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns to read: `translation` twice where the data have it (`prepare` tells the languages), two columns of sources and
        targets by their usual names, or else the first two columns of texts. Raises DataError where they are missing."""
        one = one_of(dataset)
        if DICTS in one.column_names and text in (None, DICTS) and label in (None, DICTS):
            return Columns(DICTS, label=None if labelled is False else DICTS)
        if text is None and not any(name in one.column_names for name in self.sources):
            features = getattr(one, "features", None) or {}
            named = [name for name, feature in features.items() if holds_text(feature) and name != label]
            text, other = (*named, None, None)[:2]
            known = label or labelled is False or any(n in one.column_names for n in self.targets)
            label = label if known else other
        return super().columns(dataset, text, text_pair, label, labelled)

    def directed(
        self, splits: Mapping[str, Any], columns: Columns, tokenizer: Tokenizer, settings: Mapping[str, Any]
    ) -> tuple[Columns, dict[str, str]]:
        """`translation.en` and `translation.fr` for the column of dictionaries, and the languages as far as they are known."""
        asked = [settings.get("source_lang"), settings.get("target_lang")]
        if columns.text == DICTS:
            feature = next(iter(splits.values())).features[DICTS]
            there = list(getattr(feature, "languages", None) or feature)
            names = zip(asked, ("source_lang", "target_lang"), strict=True)
            keys = [None if lang is None else _key(lang, there, name) for lang, name in names]
            free = [lang for lang in there if lang not in keys]
            if (keys.count(None) != len(free) and None in keys) or keys[0] == keys[1] is not None:
                raise DataError(f"the column {DICTS!r} has {listing(there)}; name two of them with source_lang= and target_lang=")  # fmt: skip
            keys = [key or free.pop(0) for key in keys]
            if None in asked:
                say(f"translation goes from {keys[0]} to {keys[1]}; source_lang= and target_lang= choose")
            columns = Columns(f"{DICTS}.{keys[0]}", label=columns.label and f"{DICTS}.{keys[1]}")
            asked = [lang or key for lang, key in zip(asked, keys, strict=True)]
        spoken = {name: lang for name, lang in zip(("src_lang", "tgt_lang"), asked, strict=True) if lang}
        if tokenizer.lang_code_to_id:  # from now on: what is saved with the model says what it translates
            for name, lang in spoken.items():
                setattr(tokenizer, name, code_of(lang, tokenizer))
        return columns, spoken

    def params(self, config: ModelConfig, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those of `translation_en_to_fr`. Raises ArgumentError where the configuration has others only."""
        known = _directions(config)
        pair = "_to_".join(str(options.get(name, "")).split("_")[0] for name in ("src_lang", "tgt_lang"))
        if pair in known or not known:
            return known.get(pair) or super().params(config, options)
        if "prefix" in options:
            return {}
        if pair == "_to_":
            say_once(f"no languages were named, so texts get no prefix; the model knows {listing(known)}: pass src_lang= and tgt_lang=")  # fmt: skip
            return {}
        raise ArgumentError(f"the model has no prefix for {pair}{nearest(pair, known)}; it knows {listing(known)}; for another pass prefix=")  # fmt: skip

    def settled(self, options: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
        """Also what makes the decoder write `tgt_lang`, where the tokenizer has codes."""
        with speaking(tokenizer, options):  # refuses unknown ones
            return {**options, **(_chosen(tokenizer) if options.get("tgt_lang") else {})}

    def remark(self, options: Mapping[str, Any], config: ModelConfig, tokenizer: Tokenizer) -> str | None:
        named = [name for name in ("src_lang", "tgt_lang") if options.get(name)]
        if not named or tokenizer.lang_code_to_id or _directions(config):
            return None
        return f"{' and '.join(named)} cannot be told to this model, which has neither codes nor prefixes for languages: it translates as it was trained"

    def writing(self, config: ModelConfig, tokenizer: Tokenizer, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**self.params(config, options), **_chosen(tokenizer)}

    def text_of(self, item: Any, where: str, options: Mapping[str, Any]) -> str:
        """A text, or that of the source language in a dictionary by languages."""
        if not isinstance(item, Mapping):
            return super().text_of(item, where, options)
        language = options.get("src_lang")
        if language is None and len(item) > 1:
            raise DataError(f"{where} has the languages {listing(item)}; say which one is read with src_lang=")
        if not item:
            raise DataError(f"{where} is an empty dictionary; give a text, or one by its language")
        key = next(iter(item)) if language is None else _key(language, list(item), "src_lang")
        return super().text_of(item[key], where, options)

    def parts(self) -> list[Part]:
        """`bleu` (sacreBLEU) and `chrf`, in percent."""
        return [Part("bleu", load_metric("sacrebleu"), "score"), Part("chrf", load_metric("chrf"), "score")]


TASK = Translation()


def _directions(config: ModelConfig) -> dict[str, Any]:
    """Settings of the model by direction (en_to_fr)."""
    start = "translation_"
    return {n.removeprefix(start): v for n, v in config.task_settings.items() if n.startswith(start)}


def _key(language: str, there: list[str], name: str) -> str:
    """The key of a dictionary by languages for "en" or "en_XX"."""
    for key in (language, language.split("_")[0]):
        if key in there:
            return key
    near = nearest(language, there)
    raise ArgumentError(f"{name}={language!r} is no language of the data{near}; there are: {listing(there)}")


def _chosen(tokenizer: Tokenizer) -> dict[str, int]:
    """What makes the decoder write `tgt_lang`: its code is forced as the first token, or is the start itself where targets end with it."""
    code = tokenizer.lang_code_to_id.get(tokenizer.tgt_lang)
    if code is None:
        return {}
    first = tokenizer(text_target="")["input_ids"][0]
    return {"forced_bos_token_id" if first == code else "decoder_start_token_id": code}
