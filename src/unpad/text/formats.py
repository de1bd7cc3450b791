"""Vocabulary files that are no tokenizer.json, as `tokenizers` pipelines, and what each tokenizer class adds to them.

Formats: BPE (`vocab.json` with `merges.txt`) and SentencePiece (`*.model`, Unigram or BPE). A class is one row of `FAMILIES`;
its facts are those of the class of that name in transformers 5. WordPiece (`vocab.txt`) is read in `files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE, Unigram

from unpad.errors import ArgumentError, CheckpointError, listing, nearest
from unpad.text import _sentencepiece, _spelled
from unpad.text._sentencepiece import CONTROL, USER_DEFINED, Model

_Facts = Mapping[str, Any]

_IDS_MASK = ("input_ids", "attention_mask")
_IDS_TYPES_MASK = ("input_ids", "token_type_ids", "attention_mask")
_CLS_SEP = ("{cls_token}:0 $A:0 {sep_token}:0", "{cls_token}:0 $A:0 {sep_token}:0 $B:1 {sep_token}:1")
_CLS_SEP_SEP = (_CLS_SEP[0], "{cls_token}:0 $A:0 {sep_token}:0 {sep_token}:0 $B:0 {sep_token}:0")


class Family(NamedTuple):
    """What a `tokenizer_class` implies where the files themselves are silent."""

    words: str
    """How texts become pieces: "bert", "bytes" (of UTF-8), "suffixed" (`</w>` ends a word), "continued" (`@@` does not),
    "spaced" (`▁` begins one), "whole" (`▁` is a space like any letter) or "two sides" ("spaced", with a model for each)."""
    special: dict[str, str]
    inputs: tuple[str, ...] = _IDS_MASK
    """Columns that a call returns by default."""
    template: tuple[str, str] = ("$A:0", "$A:0 $B:1")
    """Special tokens and type ids of a text, and of a pair."""
    normalizer: tuple[str, ...] = ()
    """Steps of `_STEPS` that a text passes, in order."""
    options: Mapping[str, Any] = {}
    """Keys of tokenizer_config.json that change the pipeline, with their defaults."""
    first: tuple[str, ...] = ()
    """Special tokens that stand before a SentencePiece vocabulary, and replace its first three pieces."""
    last: tuple[str, ...] = ()
    """Special tokens that stand after it."""
    languages: tuple[str, ...] = ()
    """Language codes, special tokens that stand before `last`; the one of the text fills `{language}` in the template."""
    split: str = ""
    """Regular expression of the words that become bytes, where it is not GPT-2's."""
    extra: tuple[str, ...] = ()
    """Further special tokens, without a name."""
    mask_takes_space: bool = False
    """Whether the space before a mask token belongs to it, as in the published tokenizer.json of the family."""
    padding_side: str = "right"
    saved_as: str | None = None
    """`tokenizer_class` to write where transformers' own class cannot read a tokenizer.json of this family."""


def _named(spelled: str, **more: str) -> dict[str, str]:
    """Named special tokens, from `unk sep pad cls mask` and more."""
    names = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
    return {**more, **dict(zip(names, spelled.split(), strict=True))}


_BERT = Family("bert", _named("[UNK] [SEP] [PAD] [CLS] [MASK]"), _IDS_TYPES_MASK, _CLS_SEP)
_ROBERTA = Family(
    "bytes", _named("<unk> </s> <pad> <s> <mask>", bos_token="<s>", eos_token="</s>"), template=_CLS_SEP_SEP,
    options={"add_prefix_space": False}, mask_takes_space=True,
)  # fmt: skip
_BARTHEZ = _ROBERTA._replace(
    words="spaced", normalizer=("charsmap",), options={"add_prefix_space": True}, mask_takes_space=False,
    saved_as="PreTrainedTokenizerFast",
)  # fmt: skip
_ALBERT = Family(
    "spaced", _named("<unk> [SEP] <pad> [CLS] [MASK]", bos_token="[CLS]", eos_token="[SEP]"), _IDS_TYPES_MASK, _CLS_SEP,
    normalizer=("quotes", "accents", "lowercase", "charsmap"), mask_takes_space=True,
    options={"do_lower_case": True, "keep_accents": False, "add_prefix_space": True},
)  # fmt: skip
_BYTES_ENDS = {"add_prefix_space": False, "add_bos_token": False, "add_eos_token": False}
_MBART_CODES = (
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT", "ja_XX", "kk_KZ",
    "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN", "zh_CN",
)  # fmt: skip
_MBART_50_CODES = (
    *_MBART_CODES, "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK", "ml_IN",
    "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA", "ur_PK",
    "xh_ZA", "gl_ES", "sl_SI",
)  # fmt: skip
_T5 = Family(
    "spaced", {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    template=("$A:0 {eos_token}:0", "$A:0 {eos_token}:0 $B:0 {eos_token}:0"),
    normalizer=("charsmap",), options={"add_prefix_space": True, "extra_ids": 100},
)  # fmt: skip
_MBART = Family(
    "spaced", _named("<unk> </s> <pad> <s> <mask>", bos_token="<s>", eos_token="</s>"),
    template=("$A:0 {eos_token}:0 {language}:0", "$A:0 $B:0 {eos_token}:0 {language}:0"), normalizer=("charsmap",),
    first=("bos_token", "pad_token", "eos_token", "unk_token"), last=("mask_token",), mask_takes_space=True,
    languages=_MBART_CODES, extra=_MBART_CODES,
)  # fmt: skip
FAMILIES = {
    "BertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "DistilBertTokenizer": _BERT._replace(inputs=_IDS_MASK),
    "RobertaTokenizer": _ROBERTA,
    "BartTokenizer": _ROBERTA,
    "GPT2Tokenizer": Family(
        "bytes", dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"), options=_BYTES_ENDS
    ),
    "OpenAIGPTTokenizer": Family("suffixed", {"unk_token": "<unk>"}),
    "BarthezTokenizer": _BARTHEZ,
    "XLMRobertaTokenizer": _BARTHEZ._replace(
        first=("bos_token", "pad_token", "eos_token", "unk_token"), last=("mask_token",),
        mask_takes_space=True, saved_as=None,
    ),
    "AlbertTokenizer": _ALBERT,
    "DebertaV2Tokenizer": _ALBERT._replace(
        special=_named("[UNK] [SEP] [PAD] [CLS] [MASK]", bos_token="[CLS]", eos_token="[SEP]"),
        normalizer=("lowercase", "one line"), mask_takes_space=False,
        options={"do_lower_case": False, "split_by_punct": False, "add_prefix_space": True},
    ),
    "XLNetTokenizer": Family(
        "spaced", _named("<unk> <sep> <pad> <cls> <mask>", bos_token="<s>", eos_token="</s>"),
        template=("$A:0 {sep_token}:0 {cls_token}:2", "$A:0 {sep_token}:0 $B:1 {sep_token}:1 {cls_token}:2"),
        normalizer=_ALBERT.normalizer, options={"do_lower_case": False, "keep_accents": False},
        extra=("<eop>", "<eod>"), padding_side="left",
    ),
    "T5Tokenizer": _T5,
    "MT5Tokenizer": _T5,
    "MBartTokenizer": _MBART,
    "MBart50Tokenizer": _MBART._replace(
        special=_named("<unk> </s> <pad> <s> <mask>", eos_token="</s>"),
        template=("{language}:0 $A:0 {eos_token}:0", "{language}:0 $A:0 $B:0 {eos_token}:0"),
        first=("cls_token", "pad_token", "eos_token", "unk_token"),
        languages=_MBART_50_CODES, extra=_MBART_50_CODES,
    ),
    "MarianTokenizer": Family(
        "two sides", _T5.special, template=(_T5.template[0], "$A:0 $B:0 {eos_token}:0"), options={"separate_vocabs": False}
    ),
    "CTRLTokenizer": Family("continued", {"unk_token": "<unk>"}, template=("$A:0", "$A:0 $B:0")),
    "LlamaTokenizer": Family(
        "whole", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}, padding_side="left",
        options={"add_prefix_space": True, "legacy": False, "add_bos_token": True, "add_eos_token": False},
    ),
    "Qwen2Tokenizer": Family(
        "bytes", dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>"), options=_BYTES_ENDS,
        split=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}  # fmt: skip
CLASS_OF_MODEL = {
    "bert": "BertTokenizer", "electra": "BertTokenizer", "distilbert": "DistilBertTokenizer",
    "roberta": "RobertaTokenizer", "bart": "RobertaTokenizer", "xlm-roberta": "XLMRobertaTokenizer",
    "albert": "AlbertTokenizer", "deberta-v2": "DebertaV2Tokenizer", "xlnet": "XLNetTokenizer",
    "gpt2": "GPT2Tokenizer", "openai-gpt": "OpenAIGPTTokenizer", "t5": "T5Tokenizer", "mt5": "T5Tokenizer",
    "marian": "MarianTokenizer", "mbart": "MBartTokenizer", "ctrl": "CTRLTokenizer", "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer", "qwen2": "Qwen2Tokenizer", "qwen3": "Qwen2Tokenizer",
}  # fmt: skip
"""`model_type` of a config.json -> its tokenizer class."""
NAMELESS = ("PreTrainedTokenizer", "TokenizersBackend")
"""Classes that say nothing about the family."""
OPTIONS = {key: type(default) for family in FAMILIES.values() for key, default in family.options.items()}
"""Every pipeline option, with its type."""
VOCABULARIES = ("vocab.json", "spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.model")

_STEPS: dict[str, Callable[[_Facts, Any], list[Any]]] = {
    "quotes": lambda o, c: [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')],
    "accents": lambda o, c: [] if o["keep_accents"] else [normalizers.NFKD(), normalizers.StripAccents()],
    "lowercase": lambda o, c: [normalizers.Lowercase()] if o["do_lower_case"] else [],
    "charsmap": lambda o, c: [c] if c else [],
    "one line": lambda o, c: [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC(), normalizers.Strip(left=False)],
}  # fmt: skip


def check_options(config: _Facts) -> None:
    """ArgumentError for a pipeline option of a wrong type."""
    for key, kind in OPTIONS.items():
        if (value := config.get(key)) is not None and type(value) is not kind:
            raise ArgumentError(f"{key}={value!r:.60} is a {type(value).__name__}; give a {kind.__name__}")


def _options(family: Family, config: _Facts) -> _Facts:
    return {**family.options, **{k: config[k] for k in family.options if config.get(k) is not None}}


def family_of(path: Path, name: str) -> Family:
    """The family of class `name`, which must be one that has such vocabulary files; CheckpointError otherwise."""
    json_kinds = ("bytes", "suffixed", "continued", "two sides")
    by_ending = {".txt": ("bert",), ".json": json_kinds, ".model": ("spaced", "whole")}
    fitting = [key for key, row in FAMILIES.items() if row.words in by_ending[path.suffix]]
    if name not in fitting:
        why = f"a {name} is not known to have such a file" if name else "nothing says of which class it is"
        how = f"pass tokenizer_class= ({', '.join(fitting)}), or give a folder with a tokenizer.json"
        raise CheckpointError(f"{str(path)!r} cannot be read: {why}{nearest(name, fitting)}; {how}")
    return FAMILIES[name]


def language(code: Any, key: str, known: Sequence[str]) -> str:
    """A language code; ArgumentError when it is not among the `known` ones, or there are none."""
    if code not in known:
        wrong = f"{key}={code!r:.60} is no language code of this tokenizer{nearest(code, known)}"
        raise ArgumentError(f"{wrong}; known are: {listing(known) or 'none'}")
    return str(code)


def read(path: Path, family: Family, config: _Facts, named: _Facts) -> Any:
    """The tokenizer over a vocab.json or *.model, still without a template; CheckpointError when the file is no such thing."""
    options = _options(family, config)
    try:
        if family.words == "two sides":
            return _spelled.marian(path, options["separate_vocabs"], set(named.values()), named["unk_token"])
        if family.words == "continued":
            return _spelled.ctrl(path, named["unk_token"])
        if path.suffix == ".json":
            rust, charsmap = RustTokenizer(_bpe(path, family, named.get("unk_token"))), None
        else:
            found = _sentencepiece.read(path)
            rust = _from_model(found, family, options, named)
            charsmap = normalizers.Precompiled(found.charsmap) if found.charsmap else None
        use_pipeline(rust, family, options, charsmap)
    except BaseException as error:
        if not from_rust(error) or isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{str(path)!r} is no usable vocabulary ({first_line(error)}); copy it again") from error
    return rust


def extra_tokens(rust: Any, family: Family) -> list[str]:
    """Special tokens beyond the named ones, when the files list none: those of the family, then the vocabulary's."""
    inside = [token.content for token in rust.get_added_tokens_decoder().values() if token.special]
    return list(dict.fromkeys([*family.extra, *inside]))


def _bpe(path: Path, family: Family, unknown: str | None) -> BPE:
    """BPE from vocab.json (token to id) and the merges.txt beside it (two tokens a line, best merge first)."""
    ids, text, _ = _spelled.read_beside(path, "merges.txt")
    merges = []
    for i, line in enumerate(text.split("\n"), start=1):
        left, _, right = line.removesuffix("\r").partition(" ")
        if line.strip() and not line.startswith("#version"):
            strange = [token for token in (left, right, left + right) if token not in ids]
            if strange:
                where = f"{str(path.with_name('merges.txt'))!r} has a bad line {i}, {line!r:.60}"
                why = f"a merge is two tokens, and vocab.json has no {strange[0]!r:.60}"
                raise CheckpointError(f"{where}: {why}; copy both files again")
            merges.append((left, right))
    suffix = "</w>" if family.words == "suffixed" else ""
    unknown = unknown if suffix else None  # bytes are never unknown
    return BPE(ids, merges, unk_token=unknown, end_of_word_suffix=suffix, continuing_subword_prefix="")


def _from_model(found: Model, family: Family, options: _Facts, named: _Facts) -> RustTokenizer:
    """The model of a SentencePiece file, its pieces in the order that the family gives them."""
    sentinels = [f"<extra_id_{i}>" for i in range(options.get("extra_ids", 0))]
    pieces = [(piece.text, piece.score) for piece in found.pieces]
    if family.first:
        pieces = [*((named[key], 0.0) for key in family.first), *pieces[3:]]
    last = (*family.languages, *(named[key] for key in family.last), *reversed(sentinels))
    pieces += [(token, 0.0) for token in last]
    ids = {text: i for i, (text, _) in enumerate(pieces)}
    unknown, backs = named["unk_token"] if family.first else found.unknown, found.byte_fallback
    if found.kind == "BPE":
        rust = RustTokenizer(BPE(ids, found.merges(), unk_token=unknown, fuse_unk=True, byte_fallback=backs))
    else:
        rust = RustTokenizer(Unigram(pieces, ids[unknown], backs))
    types = {piece.text: piece.type for piece in found.pieces} | dict.fromkeys(sentinels, CONTROL)
    for text, kind in types.items():
        if kind in (CONTROL, USER_DEFINED) and text in ids:
            rust.add_tokens([AddedToken(text, normalized=False, special=kind == CONTROL)])
    return rust


def use_pipeline(rust: RustTokenizer, family: Family, options: _Facts, charsmap: Any) -> None:
    """Set how texts are cleaned, split and put together again; `charsmap`: the `Precompiled` rules of the file, or None."""
    if family.words == "bytes":
        prefix = options["add_prefix_space"]
        rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
        if family.split:
            words = pre_tokenizers.Split(Regex(family.split), behavior="isolated")
            bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=False)
            rust.normalizer, rust.pre_tokenizer = normalizers.NFC(), pre_tokenizers.Sequence([words, bytes_])
        rust.decoder = decoders.ByteLevel()
    elif family.words == "whole":
        prefix = options["add_prefix_space"]
        scheme = ("always" if options["legacy"] else "first") if prefix else "never"
        rust.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=False)
        parts: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        rust.decoder = decoders.Sequence([*parts, *([decoders.Strip(content=" ", left=1)] if prefix else [])])
    elif family.words in ("bert", "suffixed"):
        rust.normalizer = normalizers.BertNormalizer(lowercase=options.get("do_lower_case", True))
        rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        rust.decoder = decoders.WordPiece() if family.words == "bert" else decoders.BPEDecoder(suffix="</w>")
    else:
        steps = [step for name in family.normalizer for step in _STEPS[name](options, charsmap)]
        rust.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)
        one_line = "one line" in family.normalizer
        scheme = "always" if options.get("add_prefix_space", True) else ("first" if one_line else "never")
        splits: list[Any] = [] if one_line else [pre_tokenizers.WhitespaceSplit()]
        if options.get("split_by_punct"):
            splits.append(pre_tokenizers.Punctuation(behavior="isolated"))
        splits.append(pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme))
        rust.pre_tokenizer = pre_tokenizers.Sequence(splits)
        rust.decoder = decoders.Metaspace(replacement="▁", prepend_scheme=scheme)


def change_pipeline(rust: RustTokenizer, family: Family, config: _Facts, asked: _Facts) -> None:
    """Make options true of a pipeline that came out of a tokenizer.json: those `asked` for, and add_prefix_space."""
    if isinstance(rust.pre_tokenizer, pre_tokenizers.ByteLevel):
        if "add_prefix_space" in config:
            for part in (rust.pre_tokenizer, rust.post_processor):
                if isinstance(part, (pre_tokenizers.ByteLevel, processors.RobertaProcessing)):
                    part.add_prefix_space = bool(config["add_prefix_space"])
    elif family.words == "spaced" and family.options.keys() & asked.keys():
        found: Any = rust.normalizer
        steps: list[Any] = list(found) if hasattr(found, "__getitem__") else [found]
        maps = [step for step in steps if isinstance(step, normalizers.Precompiled)]
        use_pipeline(rust, family, _options(family, config), maps[0] if maps else None)


def use_template(rust: Any, family: Family, named: _Facts, config: _Facts) -> None:
    """Set the special tokens around a text and a pair; `named` has the `language` of the text, where there are several."""
    ids: dict[str, Any] = {token: rust.token_to_id(token) for token in named.values()}
    if family.words == "bytes" and family.template is _CLS_SEP_SEP:
        sep, cls = named["sep_token"], named["cls_token"]
        prefix = getattr(rust.pre_tokenizer, "add_prefix_space", False)
        rust.post_processor = processors.RobertaProcessing((sep, ids[sep]), (cls, ids[cls]), True, prefix)
    else:
        single, pair = ([part.format(**named) for part in text.split()] for text in family.template)
        if "add_bos_token" in family.options:
            wanted, ends = _options(family, config), ("bos_token", "eos_token")
            bos, eos = ([named[key]] if wanted[f"add_{key}"] and key in named else [] for key in ends)
            single, again = ([f"{token}:{i}" for token in (*bos, text, *eos)] for i, text in enumerate(("$A", "$B")))
            pair = single + again
        used = [(token, i) for token, i in ids.items() if any(f"{token}:{t}" in pair for t in (0, 1, 2))]
        rust.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)


def glues_words(rust: Any) -> bool:
    """Whether words given one by one would lose the spaces between them, and so become other tokens than in a text."""
    splitter = rust.pre_tokenizer
    if isinstance(splitter, pre_tokenizers.Sequence):
        splitter = list(splitter)[-1]  # type: ignore[call-overload]
    return isinstance(splitter, pre_tokenizers.ByteLevel) and not splitter.add_prefix_space


def from_rust(error: BaseException) -> bool:
    """Whether an error is one that the Rust side raises; its panics are no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
