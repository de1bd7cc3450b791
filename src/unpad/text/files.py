"""Tokenizer files of a folder: find them, read them into a `tokenizers.Tokenizer` and `Settings`, write them back.

Read are `tokenizer.json` or, where that is missing, a WordPiece `vocab.txt`; beside them `tokenizer_config.json`,
`special_tokens_map.json` and `added_tokens.json`. Written is what both unpad and transformers read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import WordPiece

from unpad.errors import ArgumentError, CheckpointError, listing, nearest

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NO_LIMIT = int(1e30)
"""`model_max_length` of a tokenizer whose files name none: the Hugging Face convention for "not known"."""

FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)
_NOT_WRITTEN = (
    "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file", "added_tokens_decoder",
    "extra_special_tokens", "max_len",
)  # fmt: skip
"""Keys of tokenizer_config.json that are paths of another machine, or that tokenizer.json now holds."""


class Kind(NamedTuple):
    """What a `tokenizer_class` implies where the files themselves are silent."""

    inputs: tuple[str, ...]
    special: dict[str, str]


_IDS_MASK = ("input_ids", "attention_mask")
_IDS_TYPES_MASK = ("input_ids", "token_type_ids", "attention_mask")
_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
KINDS = {
    "BertTokenizer": Kind(_IDS_TYPES_MASK, _BERT),
    "ElectraTokenizer": Kind(_IDS_TYPES_MASK, _BERT),
    "DistilBertTokenizer": Kind(_IDS_MASK, _BERT),
}
_GENERIC = Kind(_IDS_MASK, {})
_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "electra": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
}
_BERT_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
OVERRIDES = (
    *SPECIAL, *_BERT_NORMALIZER, "additional_special_tokens", "extra_special_tokens", "model_max_length",
    "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces", "tokenizer_class",
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
    model_input_names: list[str] = field(default_factory=lambda: list(_IDS_MASK))
    """Columns that a call returns by default."""
    clean_up_tokenization_spaces: bool = False
    """Whether decoding closes the gap before punctuation."""
    config: dict[str, Any] = field(default_factory=dict)
    """tokenizer_config.json as it was read, so that keys we do not use are written back."""


def read(
    path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> tuple[RustTokenizer, Settings]:
    """Read the tokenizer of a folder, or of one `tokenizer.json` or `vocab.txt`; `overrides` win over its files.

    Raises CheckpointError for missing or unreadable files, ArgumentError for an override that is not known.
    """
    overrides = dict(overrides or {})
    for key in overrides:
        if key not in OVERRIDES:
            raise ArgumentError(f"from_pretrained() has no argument {key!r}{nearest(key, OVERRIDES)}")
    path = Path(path)
    vocabulary = _vocabulary_file(path)
    folder = vocabulary.parent
    stored = _json(folder / "tokenizer_config.json")
    config = {**stored, **overrides}
    added = _added_tokens(folder, config)
    if "added_tokens_decoder" not in stored:  # the older of the two places, and the one that older files mean
        config = {**config, **_json(folder / "special_tokens_map.json"), **overrides}
    raw = vocabulary.name.endswith(".json")
    rust = _read_json(vocabulary) if raw else _read_vocab_txt(vocabulary, config)

    name = config.get("tokenizer_class") or _CLASS_OF_MODEL.get(
        str(_json(folder / "config.json").get("model_type"))
    )
    if (
        name is None
        and isinstance(rust.model, WordPiece)
        and isinstance(rust.normalizer, normalizers.BertNormalizer)
    ):
        name = "BertTokenizer"
    kind = KINDS.get(str(name).removesuffix("Fast"), _GENERIC)
    tokens = {key: config.get(key, kind.special.get(key)) for key in SPECIAL}
    extra = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    if not isinstance(extra, (list, tuple)):
        extra = []  # a dictionary of model-specific names: their tokens are in tokenizer.json; kept in `config`
    named = {key: _content(token) for key, token in tokens.items() if token is not None}
    _register(rust, [*added.values(), *[tokens[key] for key in named], *extra])
    for i, token in added.items():
        if rust.token_to_id(token.content) != i:
            raise CheckpointError(
                f"the files of {str(folder)!r} give the added token {token.content!r} the id {i}, but the vocabulary "
                f"gives it {rust.token_to_id(token.content)}; the vocabulary file belongs to another checkpoint"
            )
    if isinstance(rust.normalizer, normalizers.BertNormalizer):
        for key, attribute in _BERT_NORMALIZER.items():
            if key in config:
                setattr(rust.normalizer, attribute, config[key])
    if not raw or (kind.special is _BERT and {"cls_token", "sep_token"} & overrides.keys()):
        _use_bert_template(rust, named["cls_token"], named["sep_token"])

    # Fixed lengths of one program that saved the file must not reach calls; its sides are the tokenizer's own.
    sides = {
        "padding_side": (rust.padding or {}).get("direction"),
        "truncation_side": (rust.truncation or {}).get("direction"),
    }
    rust.no_padding()
    rust.no_truncation()
    for key in sides:
        sides[key] = config.get(key) or sides[key] or "right"
        if sides[key] not in ("left", "right"):
            raise ArgumentError(f"{key}={sides[key]!r} is not known; allowed are 'left' and 'right'")
    limit = config.get("model_max_length", config.get("max_len"))
    settings = Settings(
        special=named,
        extra=[_content(token) for token in extra],
        model_max_length=NO_LIMIT if limit is None else int(limit),
        padding_side=str(sides["padding_side"]),
        truncation_side=str(sides["truncation_side"]),
        model_input_names=list(config.get("model_input_names") or kind.inputs),
        clean_up_tokenization_spaces=bool(config.get("clean_up_tokenization_spaces", False)),
        config={**stored, **({"tokenizer_class": name} if name else {})},
    )
    return rust, settings


def write(folder: str | os.PathLike[str], rust: RustTokenizer, settings: Settings) -> tuple[str, ...]:
    """Write tokenizer.json, tokenizer_config.json and special_tokens_map.json; returns their paths.

    Each file appears whole or not at all. Raises CheckpointError when the folder cannot be written.
    """
    specials: dict[str, Any] = dict(settings.special)
    if settings.extra:
        specials["additional_special_tokens"] = settings.extra
    config = {k: v for k, v in settings.config.items() if k not in _NOT_WRITTEN or isinstance(v, dict)}
    config.pop("added_tokens_decoder", None)
    for key in (*SPECIAL, "additional_special_tokens"):
        config.pop(key, None)
    config.update(specials)
    if isinstance(
        rust.normalizer, normalizers.BertNormalizer
    ):  # transformers rebuilds the normalizer from these
        config.update({key: getattr(rust.normalizer, name) for key, name in _BERT_NORMALIZER.items()})
    config.update(
        model_max_length=settings.model_max_length,
        padding_side=settings.padding_side,
        truncation_side=settings.truncation_side,
        model_input_names=list(settings.model_input_names),
        clean_up_tokenization_spaces=settings.clean_up_tokenization_spaces,
    )
    config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    texts = {
        "tokenizer.json": rust.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        "special_tokens_map.json": json.dumps(specials, indent=2, ensure_ascii=False) + "\n",
    }
    target = Path(folder).expanduser()
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            part = target / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            os.replace(part, target / name)
    except OSError as error:
        raise CheckpointError(
            f"the tokenizer cannot be saved to {str(target)!r} ({error.strerror or error}); give a folder that can be written"
        ) from error
    return tuple(str(target / name) for name in texts)


def _vocabulary_file(path: Path) -> Path:
    if path.is_dir():
        for name in ("tokenizer.json", "vocab.txt"):
            if (path / name).is_file():
                return path / name
        there = sorted(p.name for p in path.iterdir())
        raise CheckpointError(
            f"the folder {str(path)!r} has no tokenizer files (tokenizer.json or vocab.txt); "
            f"it holds: {listing(there) or 'nothing'}; give the folder of a checkpoint"
        )
    if not path.is_file():
        raise CheckpointError(f"tokenizer {str(path)!r}: there is no such file or folder; check the path")
    if path.suffix not in (".json", ".txt"):
        raise CheckpointError(
            f"tokenizer {str(path)!r} is a {path.suffix or 'nameless'} file; give a tokenizer.json, a vocab.txt or their folder"
        )
    return path


def _json(path: Path) -> dict[str, Any]:
    """The dictionary in a JSON file, or an empty one when there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({error}); restore the file or remove it"
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{str(path)!r} holds a {type(found).__name__}, not a dictionary; restore the file"
        )
    return found


def _read_json(path: Path) -> RustTokenizer:
    try:
        return RustTokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception for whatever is wrong with a file
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{str(path)!r} is not a readable tokenizer.json ({said}); copy it again"
        ) from error


def _read_vocab_txt(path: Path, config: Mapping[str, Any]) -> RustTokenizer:
    """WordPiece with BERT's rules; a token's id is its line number, and of two equal lines the later counts."""
    try:
        vocabulary = WordPiece.read_file(
            str(path)
        )  # its own reader: what it strips of a line decides a token
    except Exception as error:  # the Rust side raises bare Exception
        raise CheckpointError(
            f"{str(path)!r} cannot be read as UTF-8 text ({error}); copy it again"
        ) from error
    unknown = _content(config.get("unk_token") or _BERT["unk_token"])
    if unknown not in vocabulary:
        raise CheckpointError(
            f"{str(path)!r} has no line {unknown!r} among its {len(vocabulary)}, so it is no WordPiece vocabulary; "
            "pass unk_token= when its unknown token has another name"
        )
    rust = RustTokenizer(WordPiece(vocabulary, unk_token=unknown))
    rust.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True
    )
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.decoder = decoders.WordPiece(prefix="##")
    return rust


def _use_bert_template(rust: RustTokenizer, first: str, last: str) -> None:
    """`[CLS] a [SEP]` and `[CLS] a [SEP] b [SEP]`, the second text (with its end) of type 1."""
    rust.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, rust.token_to_id(first)), (last, rust.token_to_id(last))],
    )


def _content(token: Any) -> str:
    """The text of a special token, which files write as a string or as a dictionary of its properties."""
    return token["content"] if isinstance(token, Mapping) else str(getattr(token, "content", token))


def _added_token(token: Any) -> AddedToken:
    if isinstance(token, AddedToken):
        return token
    if isinstance(token, Mapping):
        known = {
            k: bool(v) for k, v in token.items() if k in ("single_word", "lstrip", "rstrip", "normalized")
        }
        return AddedToken(token["content"], special=bool(token.get("special", True)), **known)
    return AddedToken(str(token), special=True, normalized=False)


def _added_tokens(folder: Path, config: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Tokens beyond the vocabulary that tokenizer_config.json or added_tokens.json list, by id, in order."""
    listed = config.get("added_tokens_decoder")
    if isinstance(listed, Mapping):
        return {i: _added_token(listed[key]) for i, key in sorted((int(key), key) for key in listed)}
    special = {_content(config[key]) for key in SPECIAL if config.get(key)}
    return {
        i: AddedToken(token, special=token in special, normalized=token not in special)
        for i, token in sorted((i, token) for token, i in _json(folder / "added_tokens.json").items())
    }


def _register(rust: RustTokenizer, tokens: list[Any]) -> None:
    """Make sure that each token is known as one that is never split; new ones get the next free ids."""
    known = {token.content for token in rust.get_added_tokens_decoder().values()}
    for token in map(_added_token, tokens):
        if token.content not in known:
            known.add(token.content)
            (rust.add_special_tokens if token.special else rust.add_tokens)([token])
