"""Tokenizer files of a folder: find them, read them into a `tokenizers.Tokenizer` and `Settings`, write them back.

Read are `tokenizer.json` or, where that is missing, a WordPiece `vocab.txt` or what `formats` reads; beside them
`tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`. Written is what both unpad and transformers read.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE, Unigram, WordPiece

from unpad.errors import ArgumentError, CheckpointError, DataError, listing, nearest
from unpad.text import formats
from unpad.text._spelled import Spelled

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NO_LIMIT = int(1e30)
"""`model_max_length` of a tokenizer whose files name none: the Hugging Face convention for "not known"."""

VOCABULARIES = ("tokenizer.json", "vocab.txt", *formats.VOCABULARIES)
"""Vocabulary files, the most complete first."""
FILES = (
    *VOCABULARIES, "merges.txt", "source.spm", "target.spm", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"
)  # fmt: skip
_NOT_WRITTEN = (
    *SPECIAL, "additional_special_tokens", "extra_special_tokens", "added_tokens_decoder", "max_len", "name_or_path",
    "special_tokens_map_file", "tokenizer_file", "vocab_file",
)  # fmt: skip
"""Keys of tokenizer_config.json that are paths of another machine, or that are written anew."""
PLAIN = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")
"""Fields of `Settings` that tokenizer_config.json holds under the same names."""
_BERT_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
OVERRIDES = (
    *SPECIAL, *_BERT_NORMALIZER, *formats.OPTIONS, *PLAIN, "additional_special_tokens", "extra_special_tokens", "tokenizer_class",
    "src_lang", "tgt_lang",
)  # fmt: skip


@dataclass
class Settings:
    """All that a tokenizer is beside its vocabulary and rules."""

    special: dict[str, str] = field(default_factory=dict)
    """Named special tokens that are set, `{"pad_token": "[PAD]", ...}`."""
    extra: list[str] = field(default_factory=list)
    """Further special tokens, without a name."""
    model_max_length: int = NO_LIMIT
    """Most tokens per row that the model takes."""
    padding_side: str = "right"
    truncation_side: str = "right"
    model_input_names: list[str] = field(default_factory=lambda: ["input_ids", "attention_mask"])
    """Columns that a call returns by default."""
    clean_up_tokenization_spaces: bool = False
    """Whether decoding closes the gap before punctuation."""
    config: dict[str, Any] = field(default_factory=dict)
    """tokenizer_config.json as it was read, so that keys we do not use are written back."""
    languages: dict[str, int] = field(default_factory=dict)
    """Language codes that texts are marked with, and their ids; `src_lang` and `tgt_lang` stand in `config`."""


def read(path: str | os.PathLike[str], overrides: Mapping[str, Any]) -> tuple[Any, Settings]:
    """Read the tokenizer of a folder, or of one vocabulary file; `overrides` win over what its files say.

    Raises CheckpointError for missing or unreadable files, ArgumentError for an override that is not known.
    """
    for key in overrides:
        if key not in OVERRIDES:
            raise ArgumentError(f"from_pretrained() has no argument {key!r}{nearest(key, OVERRIDES)}")
    vocabulary = _vocabulary_file(Path(path))
    stored, config, added = _configuration(vocabulary.parent, overrides)
    formats.check_options(config)
    raw = vocabulary.suffix == ".json" and vocabulary.name != "vocab.json"
    rust = _read_json(vocabulary) if raw else None
    name = _class_name(vocabulary, rust, config)
    known = formats.FAMILIES.get(name)
    family = known or formats.Family("", {})

    tokens = {key: config.get(key, family.special.get(key)) for key in SPECIAL}
    extra = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    if not isinstance(extra, (list, tuple)):
        extra = []  # a dictionary of model-specific names: their tokens are in tokenizer.json; kept in `config`
    named = {key: _content(token) for key, token in tokens.items() if token is not None}
    whole = {**family.special, **named}
    if rust is None:
        family = known = formats.family_of(vocabulary, name)
        if vocabulary.suffix == ".txt":
            rust = _read_vocab_txt(vocabulary, whole["unk_token"])
        else:
            rust = formats.read(vocabulary, family, config, whole)
        extra = extra or [token for token in formats.extra_tokens(rust, family) if token not in named.values()]
        if family.mask_takes_space and isinstance(tokens["mask_token"], str):
            tokens["mask_token"] = AddedToken(named["mask_token"], lstrip=True, normalized=False, special=True)
    else:
        formats.change_pipeline(rust, family, config, overrides)
    _register(rust, added, [*[tokens[key] for key in named], *extra], vocabulary.parent)
    if isinstance(rust.normalizer, normalizers.BertNormalizer):
        for key, attribute in _BERT_NORMALIZER.items():
            if key in config:
                setattr(rust.normalizer, attribute, config[key])

    codes = {code: i for code in family.languages if (i := rust.token_to_id(code)) is not None}
    asked_for = [key for key in ("src_lang", "tgt_lang") if (config if codes else overrides).get(key)]
    spoken = {key: formats.language(config[key], key, list(codes)) for key in asked_for}
    if codes:
        spoken.setdefault("src_lang", "en_XX" if "en_XX" in codes else next(iter(codes)))
    around = ({"cls_token", "sep_token"} & overrides.keys()) if "cls_token" in family.special else set()
    around |= {"add_bos_token", "add_eos_token"} & config.keys()
    if known and (not raw or around or codes):
        formats.use_template(rust, family, {**whole, "language": spoken.get("src_lang", "")}, config)

    asked = {key: value for key, value in overrides.items() if key in formats.OPTIONS}
    name = (family.saved_as or name) if known else config.get("tokenizer_class", "")
    settings = Settings(
        special=named,
        extra=[_content(token) for token in extra],
        model_max_length=_limit(config),
        model_input_names=list(config.get("model_input_names") or family.inputs),
        clean_up_tokenization_spaces=bool(config.get("clean_up_tokenization_spaces", False)),
        config={**stored, **asked, **spoken, **({"tokenizer_class": name} if name else {})},
        languages=codes,
        **_sides(rust, family, config),
    )
    return rust, settings


def _configuration(
    folder: Path, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[int, AddedToken]]:
    """(tokenizer_config.json, all settings of the folder under the overrides, tokens beyond the vocabulary by id)."""
    stored = _json(folder / "tokenizer_config.json")
    config = {**stored, **overrides}
    added = _added_tokens(folder, config)
    if "added_tokens_decoder" not in stored:  # the older of the two places, and the one that older files mean
        config = {**config, **_json(folder / "special_tokens_map.json"), **overrides}
    return stored, config, added


def _class_name(vocabulary: Path, rust: RustTokenizer | None, config: Mapping[str, Any]) -> str:
    """The tokenizer class, by the first that says it: settings, kind of model, vocabulary; else empty."""
    name = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if not name or (rust is None and name in formats.NAMELESS):
        model_type = _json(vocabulary.parent / "config.json").get("model_type")
        name = formats.CLASS_OF_MODEL.get(str(model_type), "")
    like_bert = rust is None or isinstance(rust.normalizer, normalizers.BertNormalizer)
    if not name and (vocabulary.suffix == ".txt" or (rust and isinstance(rust.model, WordPiece) and like_bert)):
        name = "BertTokenizer"
    return name


def _limit(config: Mapping[str, Any]) -> int:
    limit = config.get("model_max_length", config.get("max_len"))
    if limit is None:
        return NO_LIMIT
    if not isinstance(limit, (int, float)) or isinstance(limit, bool) or limit < 1 or limit % 1:
        what = f"model_max_length={limit!r:.60} ({type(limit).__name__})"
        raise ArgumentError(f"{what} is no number of tokens; give a whole number above 0")
    return int(limit)


def _sides(rust: Any, family: formats.Family, config: Mapping[str, Any]) -> dict[str, str]:
    """`padding_side` and `truncation_side`, by the settings, tokenizer.json or the family; lengths fixed there are dropped."""
    sides = {}
    for key, state, usual in (
        ("padding_side", rust.padding, family.padding_side), ("truncation_side", rust.truncation, "right")
    ):  # fmt: skip
        sides[key] = config.get(key) or (state or {}).get("direction") or usual
        if sides[key] not in ("left", "right"):
            raise ArgumentError(f"{key}={sides[key]!r} is not known; allowed are 'left' and 'right'")
    rust.no_padding()
    rust.no_truncation()
    return sides


def write(folder: str | os.PathLike[str], rust: Any, settings: Settings) -> tuple[str, ...]:
    """Write tokenizer.json (or the vocabulary files that say more), tokenizer_config.json, special_tokens_map.json; returns paths.

    Each file appears whole or not at all. Raises CheckpointError when the folder cannot be written.
    """
    specials: dict[str, Any] = dict(settings.special)
    if settings.extra:
        specials["additional_special_tokens"] = settings.extra
    config = {k: v for k, v in settings.config.items() if k not in _NOT_WRITTEN}
    if isinstance(settings.config.get("extra_special_tokens"), dict):
        config["extra_special_tokens"] = settings.config["extra_special_tokens"]
    config.update(specials)
    config.update({key: getattr(settings, key) for key in PLAIN})
    if isinstance(rust.normalizer, normalizers.BertNormalizer):  # transformers rebuilds the normalizer from these
        config.update({key: getattr(rust.normalizer, name) for key, name in _BERT_NORMALIZER.items()})
    config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    if isinstance(rust, Spelled):
        flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        added = rust.get_added_tokens_decoder().items()
        config["added_tokens_decoder"] = {str(i): {flag: getattr(t, flag) for flag in flags} for i, t in added}
        texts = dict(rust.files)
    else:
        texts = {"tokenizer.json": rust.to_str(pretty=True).encode()}
    texts["tokenizer_config.json"] = (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    texts["special_tokens_map.json"] = (json.dumps(specials, indent=2, ensure_ascii=False) + "\n").encode()
    target = Path(folder).expanduser()
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = target / f"{name}.part"
            part.write_bytes(text)
            os.replace(part, target / name)
    except OSError as error:
        advice = "free some space" if error.errno == errno.ENOSPC else "give a folder that can be written"
        wrong = f"the tokenizer cannot be saved to {str(target)!r} ({error.strerror or error})"
        raise CheckpointError(f"{wrong}; {advice}") from error
    return tuple(str(target / name) for name in texts)


def _vocabulary_file(path: Path) -> Path:
    if path.is_dir():
        two_sides = (path / "source.spm").is_file() and (path / "vocab.json").is_file()
        for name in ("vocab.json",) if two_sides else VOCABULARIES:  # a tokenizer.json has but one side
            if (path / name).is_file():
                return path / name
        there = listing(sorted(p.name for p in path.iterdir())) or "nothing"
        wrong = f"the folder {str(path)!r} has no tokenizer files ({', '.join(VOCABULARIES)})"
        raise CheckpointError(f"{wrong}; it holds: {there}; give the folder of a checkpoint")
    if not path.is_file():
        raise CheckpointError(f"tokenizer {str(path)!r}: there is no such file or folder; check the path")
    if path.suffix not in (".json", ".txt", ".model"):
        how = f"give a tokenizer.json, another vocabulary file ({', '.join(VOCABULARIES[1:])}) or the folder of one"
        raise CheckpointError(f"tokenizer {str(path)!r} is a {path.suffix or 'nameless'} file; {how}")
    return path


def _json(path: Path) -> dict[str, Any]:
    """The dictionary in a JSON file, or an empty one when there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}); restore the file or remove it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{str(path)!r} holds a {type(found).__name__}, not a dictionary; restore the file")
    return found


def _read_json(path: Path) -> RustTokenizer:
    try:
        return RustTokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception for whatever is wrong with a file
        said = formats.first_line(error)
        raise CheckpointError(f"{str(path)!r} is not a readable tokenizer.json ({said}); copy it again") from error


def _read_vocab_txt(path: Path, unknown: str) -> RustTokenizer:
    """WordPiece with BERT's rules; a token's id is its line number, and of two equal lines the later counts."""
    try:
        vocabulary = WordPiece.read_file(str(path))  # its own reader: what it strips of a line decides a token
    except Exception as error:  # the Rust side raises bare Exception
        raise CheckpointError(f"{str(path)!r} cannot be read as UTF-8 text ({error}); copy it again") from error
    if unknown not in vocabulary:
        wrong = f"{str(path)!r} has no line {unknown!r} among its {len(vocabulary)}, so it is no WordPiece vocabulary"
        raise CheckpointError(f"{wrong}; pass unk_token= when its unknown token has another name")
    rust = RustTokenizer(WordPiece(vocabulary, unk_token=unknown))
    formats.use_pipeline(rust, formats.FAMILIES["BertTokenizer"], {}, None)
    return rust


def _content(token: Any) -> str:
    """The text of a special token, which files write as a string or as a dictionary of its properties."""
    if isinstance(token, Mapping):
        if not isinstance(token.get("content"), str):
            raise CheckpointError(
                f'the special token {dict(token)!r:.80} of the tokenizer\'s files has no text; give it a "content"'
            )
        return token["content"]
    return str(getattr(token, "content", token))


def _added_token(token: Any) -> AddedToken:
    if isinstance(token, AddedToken):
        return token
    if isinstance(token, Mapping):
        known = {k: bool(v) for k, v in token.items() if k in ("single_word", "lstrip", "rstrip", "normalized")}
        return AddedToken(_content(token), special=bool(token.get("special", True)), **known)
    return AddedToken(str(token), special=True, normalized=False)


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens beyond the vocabulary that tokenizer_config.json or added_tokens.json list, by id, in order."""
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, Mapping):
        if wrong := next((key for key in listed if not str(key).isdecimal()), None):
            raise CheckpointError(
                f"added_tokens_decoder of {str(folder)!r} has the key {wrong!r:.60}; its keys are token ids"
            )
        return {i: _added_token(listed[key]) for i, key in sorted((int(key), key) for key in listed)}
    special = {_content(config[key]) for key in SPECIAL if config.get(key)}
    return {
        i: AddedToken(token, special=token in special, normalized=token not in special)
        for i, token in sorted((i, token) for token, i in _json(folder / "added_tokens.json").items())
    }


def _register(rust: Any, added: Mapping[int, AddedToken], tokens: list[Any], folder: Path) -> None:
    """Make sure that each token is known as one that is never split; those of `added` must get their ids, others the next free ones."""
    known = {token.content for token in rust.get_added_tokens_decoder().values()}
    for token in map(_added_token, [*added.values(), *tokens]):
        if token.content not in known:
            known.add(token.content)
            (rust.add_special_tokens if token.special else rust.add_tokens)([token])
    for i, token in added.items():
        if (found := rust.token_to_id(token.content)) != i:
            wrong = f"the files of {str(folder)!r} give the added token {token.content!r} the id {i}"
            how = "the vocabulary file belongs to another checkpoint"
            raise CheckpointError(f"{wrong}, but the vocabulary gives it {found}; {how}")


def _blank(item: Any) -> bool:
    """Whether a text, or every text of a batch, has no word."""
    if isinstance(item, (list, tuple)):
        return all(map(_blank, item))
    return isinstance(item, str) and not item.strip()


def train_new(rust: Any, texts: Iterable[Any], vocab_size: int, new: list[Any]) -> RustTokenizer:
    """A tokenizer with the pipeline and the special tokens of `rust` and the `new` ones, trained on texts (or batches of them).

    Raises ArgumentError for arguments that cannot be, DataError when no vocabulary can be learnt from the texts.
    """
    if type(vocab_size) is not int or vocab_size < 1:
        raise ArgumentError(f"vocab_size={vocab_size!r:.60} is no number of tokens; give a whole number above 0")
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise ArgumentError(f"text_iterator is a {type(texts).__name__}; pass texts, or lists of texts, one by one")
    rust = rust.sides["source"] if isinstance(rust, Spelled) else rust
    state = json.loads(rust.to_str())
    model, added, around = state["model"], state["added_tokens"], state["post_processor"]
    options: dict[str, Any] = {}
    if model["type"] == "Unigram":
        options["unk_token"] = model["vocab"][model["unk_id"] or 0][0]
        model.update(unk_id=0, vocab=[[options["unk_token"], 0.0]])
        kept = added
    else:
        model["vocab"] = {}
        kept = [token for token in added if token["special"]]
    if model["type"] == "BPE":
        model["merges"] = []
        affixes = ("continuing_subword_prefix", "end_of_word_suffix")
        options.update({key: model[key] for key in affixes if model[key] is not None})
    if '"ByteLevel"' in json.dumps(state["pre_tokenizer"]):
        options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized")
    special = [*(AddedToken(**{key: token[key] for key in flags}) for token in kept), *new]
    trainer = type(rust.model.get_trainer())(vocab_size=vocab_size, special_tokens=special, show_progress=False, **options)  # fmt: skip
    trained = RustTokenizer.from_str(json.dumps({**state, "added_tokens": [], "post_processor": None}))
    head, rest = [], iter(texts)
    for item in rest:
        head.append(item)
        if not _blank(item):
            break
    else:
        raise DataError("no vocabulary can be learnt: there are no texts, or none of them has a word; pass others")
    try:
        trained.train_from_iterator(chain(head, rest), trainer=trainer)
    except BaseException as error:
        if not formats.from_rust(error):
            raise
        said = formats.first_line(error)
        wrong = f"no vocabulary of {vocab_size} tokens can be learnt from these texts ({said})"
        raise DataError(f"{wrong}; pass more texts, all strings") from error
    _renumber(around, trained)
    return RustTokenizer.from_str(json.dumps({**json.loads(trained.to_str()), "post_processor": around}))


_KINDS = {
    "unigram": ("T5Tokenizer", lambda: Unigram([(t, 0.0) for t in ("<pad>", "</s>", "<unk>")], 2, False)),
    "bpe": ("T5Tokenizer", lambda: BPE(unk_token="<unk>", fuse_unk=True)),
    "byte-bpe": ("GPT2Tokenizer", BPE),
    "wordpiece": ("BertTokenizer", lambda: WordPiece(unk_token="[UNK]")),
}
"""Kinds of vocabularies that can be trained from nothing: the class whose pipeline they have, and their empty model."""


def train_first(
    texts: Iterable[Any], kind: str, vocab_size: int, add_eos: bool | None, more: list[str]
) -> tuple[RustTokenizer, Settings]:  # fmt: skip
    """A tokenizer of a kind, trained on texts (or batches of them) with `more` special tokens; see `AutoTokenizer.from_iterator`."""
    if kind not in _KINDS:
        raise ArgumentError(f"kind={kind!r:.60} is not known{nearest(kind, _KINDS)}; allowed are {', '.join(_KINDS)}")
    family = formats.FAMILIES[_KINDS[kind][0]]
    special = {"pad_token": "<pad>", **family.special}
    first = list(dict.fromkeys([special["pad_token"], *special.values(), *more]))
    rust = RustTokenizer(_KINDS[kind][1]())
    rust.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in first])
    formats.use_pipeline(rust, family, {**family.options, "do_lower_case": False}, normalizers.NFKC())
    ends = family.words == "spaced" if add_eos is None else add_eos
    if kind == "wordpiece" or ends:
        formats.use_template(rust, family, special, {"add_eos_token": True})
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings = Settings(special, more, model_input_names=list(family.inputs), config=config)
    return train_new(rust, texts, vocab_size, []), settings


def _renumber(part: Any, rust: RustTokenizer) -> None:
    """Give a post-processor, as tokenizer.json holds it, the ids that its tokens have in `rust`."""
    if not part:
        return
    for token in part.get("special_tokens", {}).values():
        token["ids"] = [rust.token_to_id(text) for text in token["tokens"]]
    for key in {"sep", "cls"} & part.keys():
        part[key] = [part[key][0], rust.token_to_id(part[key][0])]
    for inner in part.get("processors", ()):
        _renumber(inner, rust)
