"""What a tokenizer call is given: texts and options, checked, in the shape that the Rust tokenizer takes.

A row is what one encoding is made of: a string, a list of words, or a tuple of two of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from unpad.compat import modern
from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.notices import say_once
from unpad.text.formats import first_line, from_rust

if TYPE_CHECKING:
    from unpad.text.tokenizer import Tokenizer

_PADDING = {
    False: None, None: None, "do_not_pad": None, True: "longest", "longest": "longest", "max_length": "max_length",
}  # fmt: skip
_TRUNCATION = {
    False: None, None: None, "do_not_truncate": None, True: "longest_first",
    "longest_first": "longest_first", "only_first": "only_first", "only_second": "only_second",
}  # fmt: skip


class Plan(NamedTuple):
    """How the Rust tokenizer must be set for one call."""

    truncation: dict[str, Any] | None
    padding: dict[str, Any] | None
    side: str | None = None
    """"source" or "target" where these differ: the language code that a text is marked with, or else that word."""


@dataclass
class TruncationReport:
    """What truncation has cost since the tokenizer was made or `reset_truncation_report` was called."""

    texts: int = 0
    """Rows (texts, or pairs of texts) encoded with truncation on."""
    truncated: int = 0
    """Rows of which something was lost."""
    tokens_before: int = 0
    """Tokens of these rows before truncation, without special tokens."""
    tokens_lost: int = 0
    """Tokens that no returned row holds; what comes back as overflowing rows is not lost."""

    @property
    def share(self) -> float:
        """Share of tokens lost, 0 to 1."""
        return self.tokens_lost / self.tokens_before if self.tokens_before else 0.0

    def __str__(self) -> str:
        return f"{self.truncated} of {self.texts} texts were truncated; {self.share:.1%} of their tokens were lost"


def plan_for(
    tokenizer: Tokenizer,
    padding: Any,
    truncation: Any,
    max_length: int | None,
    stride: int,
    multiple: int | None,
    side: str | None,
    specials: int,
) -> Plan:
    """Check the options of a call that adds `specials` special tokens to a row; raises ArgumentError."""
    for name, number in (("max_length", max_length), ("stride", stride), ("pad_to_multiple_of", multiple)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise ArgumentError(f"{name}={number!r} is a {type(number).__name__}; give a whole number of tokens")
    if max_length is not None and padding is False and truncation is None:
        truncation = True
    pad = _choice("padding", padding, _PADDING)
    cut = _choice("truncation", truncation, _TRUNCATION)
    if pad == "longest" and max_length is not None and cut is None:
        how = "pass truncation=True or padding='max_length'"
        say_once(f"max_length has no effect with padding=True and no truncation; {how}")
    limit = tokenizer.model_max_length if max_length is None else max_length
    if limit >= 10**20:  # no limit is known, so there is nothing to pad or cut to
        pad, cut = (None if pad == "max_length" else pad), None
    side, cut_side = side or tokenizer.padding_side, tokenizer.truncation_side
    room = limit - specials
    if pad and tokenizer.pad_token is None:
        how = "set tokenizer.pad_token = tokenizer.eos_token, or call add_special_tokens({'pad_token': '[PAD]'})"
        raise ArgumentError(f"padding needs a pad token and this tokenizer has none; {how}")
    for name, value in (("padding_side", side), ("truncation_side", cut_side)):
        if value not in ("left", "right"):
            raise ArgumentError(f"{name}={value!r} is not known; allowed are 'left' and 'right'")
    if multiple is not None and multiple < 1:
        raise ArgumentError(f"pad_to_multiple_of={multiple} is not possible; give 1 or more")
    if pad and cut and multiple and limit % multiple:
        raise ArgumentError(f"max_length={limit} is no multiple of pad_to_multiple_of={multiple}; round one of them")
    if cut and room < 0:
        raise ArgumentError(f"max_length={limit} leaves no room for {specials} special tokens; give {specials} or more")
    if cut and not 0 <= stride < max(1, room):
        allowed = f"max_length less special tokens ({limit} - {specials} = {room})"
        raise ArgumentError(f"stride={stride} must be from 0 to below {allowed}")
    cutting = {"max_length": limit, "stride": stride, "strategy": cut, "direction": cut_side}
    filling = {
        "length": limit if pad == "max_length" else None, "direction": side, "pad_id": tokenizer.pad_token_id,
        "pad_token": tokenizer.pad_token, "pad_type_id": tokenizer.pad_token_type_id, "pad_to_multiple_of": multiple,
    }  # fmt: skip
    return Plan(cutting if cut else None, filling if pad else None)


def older(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with those in `unknown` as they are spelled today; raises ArgumentError for what never was one."""
    unknown = given.pop("unknown")
    today = modern("tokenizer", {name: value for name, value in unknown.items() if name != "verbose"})
    for name in today:
        if name not in given:
            raise ArgumentError(f"the tokenizer has no argument {name!r}{nearest(name, given)}")
    if "padding" in today and given["padding"] is not False:
        del today["padding"]
    elif "padding" in today and given["max_length"] is None:
        today["padding"] = "longest"
    elif "padding" in today and given["truncation"] is None:
        today.setdefault("truncation", True)
    return {**given, **today}


def prepare_seq2seq_batch(
    tokenizer: Tokenizer, src_texts: Any, tgt_texts: Any = None, max_length: int | None = None, max_target_length: int | None = None,
    padding: bool | str = "longest", return_tensors: str | None = None, truncation: bool | str = True, **options: Any,
) -> Any:  # fmt: skip
    """Sources, and with `tgt_texts` the column `labels`: the older spelling of a call with `text_target=`."""
    for name in ("src_lang", "tgt_lang"):
        if (code := options.pop(name, None)) is not None:
            setattr(tokenizer, name, code)
    shared = {"padding": padding, "truncation": truncation, "return_tensors": return_tensors, **options}
    batch = tokenizer(src_texts, max_length=max_length, **shared)
    if tgt_texts is not None:
        most = max_length if max_target_length is None else max_target_length
        batch["labels"] = tokenizer(text_target=tgt_texts, max_length=most, **shared)["input_ids"]
    return batch


def _choice(name: str, value: Any, allowed: Mapping[Any, str | None]) -> str | None:
    value = getattr(value, "value", value)  # enumerations of other libraries
    if (value is None or isinstance(value, (bool, str))) and value in allowed:
        return allowed[value]
    words = [k for k in allowed if isinstance(k, str)]
    listed = ", ".join(map(repr, words))
    raise ArgumentError(f"{name}={value!r} is not known; allowed are True, False, {listed}{nearest(str(value), words)}")


def _sequence(what: str, value: Any) -> Any:
    """A string as it is; any other sequence as a list or tuple."""
    if isinstance(value, (str, list, tuple)):
        return value
    columns = getattr(value, "column_names", getattr(value, "columns", None))
    if columns is not None:  # iterating one would give the names of its columns
        names = list(map(str, columns))
        which = f"pass one column, e.g. data[{names[0]!r}]" if names else "pass one column of one with rows"
        raise DataError(f"{what!r} is a table with the columns {listing(names) or 'none'}; {which}")
    for convert in ("to_pylist", "tolist"):
        if hasattr(value, convert):
            found = getattr(value, convert)()
            if isinstance(found, (str, list)):
                return found
    indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if indexed and not isinstance(value, (Mapping, bytes)):
        try:
            return list(value[:])  # a data set column reads a slice at once, but single rows slowly
        except (TypeError, KeyError):
            return list(value)
    raise DataError(f"{what!r} is {value!r:.60} of type {type(value).__name__}; pass a string or a sequence of strings")


def _batch(what: str, value: Any, words: bool) -> tuple[list[Any], bool]:
    """`(rows, whether it was a single text)`."""
    value = _sequence(what, value)
    if isinstance(value, str):
        if words:
            wrong = f"{what!r} is a string, but is_split_into_words=True asks for a list of words"
            raise DataError(f"{wrong}; split it or leave the option out")
        return [value], True
    if not words:
        return list(value), False
    if not value or isinstance(value[0], str) or not hasattr(value[0], "__len__"):
        return [list(value)], True
    return [row if row is None else _sequence(what, row) for row in value], False


def rows_of(what: str, text: Any, text_pair: Any, words: bool) -> tuple[list[Any], bool, bool]:
    """What `encode_batch` takes, whether it was a single text (or pair), and whether the rows are pairs."""
    rows, single = _batch(what, text, words)
    if text_pair is None:
        first = rows[0] if rows else ""
        pairs = isinstance(first, (list, tuple)) and len(first) == 2
        return rows, single, pairs and not (words and isinstance(first[0], str))
    seconds, second_single = _batch(f"{what}_pair", text_pair, words)
    advice = "pass two texts or two batches of the same length"
    if single != second_single:
        one, many = (what, f"{what}_pair") if single else (f"{what}_pair", what)
        raise DataError(f"{one!r} is a single text but {many!r} is a batch; {advice}")
    if len(rows) != len(seconds):
        raise DataError(f"{what!r} has {len(rows)} rows but '{what}_pair' has {len(seconds)}; {advice}")
    return list(zip(rows, seconds, strict=True)), single, True


def problem_of(row: Any, words: bool) -> str:
    """Why a row is no text (or pair, or list of words), in words; an empty string when it is one."""
    if isinstance(row, tuple) and len(row) == 2 and not (words and isinstance(row[0], str)):
        for place, part in zip(("first", "second"), row, strict=True):
            problem = problem_of(part, words) if not isinstance(part, tuple) else ""
            if problem:
                return f"a pair whose {place} text is {problem}"
        return ""
    if isinstance(row, str):
        if words:
            return f"the string {row!r:.40}, but is_split_into_words=True asks for lists of words; split it"
        try:
            row.encode()
        except UnicodeEncodeError:
            return f"{row!r:.40}, which holds half of a character (a lone surrogate); read the text as UTF-8 again"
        return ""
    if isinstance(row, (list, tuple)):
        if not words:
            return f"a list of {len(row)} items; pass is_split_into_words=True when these are words"
        for i, word in enumerate(row):
            problem = problem_of(word, False) if isinstance(word, str) else f"{word!r:.40} ({type(word).__name__})"
            if problem:
                return f"a list whose word {i} is {problem}; every word must be a string"
        return ""
    return f"{row!r:.40} ({type(row).__name__}), not a string; drop the row, or fill it with ''"


def explained(rust: Any, what: str, rows: list[Any], words: bool, specials: bool, error: BaseException) -> DataError:
    """The row that made the Rust tokenizer refuse a batch, and why."""
    for i, row in enumerate(rows):
        if problem := problem_of(row, words):
            return DataError(f"row {i} of {what!r} is {problem}")
    for i, row in enumerate(rows):
        try:
            rust.encode_batch([row], is_pretokenized=words, add_special_tokens=specials)
        except BaseException as own:
            if not from_rust(own):
                raise
            return DataError(f"row {i} of {what!r} cannot be encoded: {first_line(own)}; change the row or truncation")
    return DataError(f"{what!r} cannot be encoded: {first_line(error)}")


PADDED = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
"""The columns that padding makes longer."""


def filled(rows: dict[str, list[Any]], padding: dict[str, Any]) -> dict[str, list[Any]]:
    """The rows of each column, all brought to the length of `Plan.padding` (or, without one, to the longest row's)."""
    lengths = [len(row) for row in rows["input_ids"]]
    width = max(lengths) if padding["length"] is None else padding["length"]
    width += -width % (padding["pad_to_multiple_of"] or 1)
    left = padding["direction"] == "left"
    fills = dict(zip(PADDED, (padding["pad_id"], padding["pad_type_id"], 0, 1), strict=True))
    done = {}
    for key, values in rows.items():
        gaps = ([fills[key]] * (width - n) for n in lengths)
        both = zip(gaps, values, strict=True)
        done[key] = [[*gap, *row] if left else [*row, *gap] for gap, row in both]
    return done


def columns_of(features: list[Any]) -> dict[str, list[Any]]:
    """A list of features as one dictionary of columns."""
    if not features:
        raise DataError("there are no features to pad; pass at least one")
    for i, feature in enumerate(features):
        if not isinstance(feature, Mapping):
            kind = type(feature).__name__
            raise DataError(f"feature {i} is a {kind}, not a dictionary; pass what the tokenizer returned")
        if feature.keys() != features[0].keys():
            odd = ", ".join(sorted(map(str, feature.keys() ^ features[0].keys())))
            raise DataError(f"feature {i} and feature 0 differ in the keys {odd}; give all features the same keys")
    return {key: [feature[key] for feature in features] for key in features[0]}


_LOOSE = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"),
    (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What decoding with `clean_up_tokenization_spaces` closes up, in this order."""


def closed(text: str) -> str:
    """A decoded text without the gaps before its punctuation."""
    for gap, without in _LOOSE:
        text = text.replace(gap, without)
    return text


def check_ids(rust: Any, ids: Any, where: str = "") -> None:
    """DataError for ids that are not those of a vocabulary."""
    try:
        low, high = min(ids, default=0), max(ids, default=0)
        whole = isinstance(low, int) and isinstance(high, int)
    except TypeError:
        low, high, whole = ids, ids, False
    if not whole:
        raise DataError(f"{low!r}{where} is no token id; pass integers (of logits take argmax(-1) first)")
    if low < 0:
        how = "replace it first: np.where(ids < 0, tokenizer.pad_token_id, ids)"
        raise DataError(f"{low}{where} is no token id (ignored labels are -100); {how}")
    size = rust.get_vocab_size()
    if high > 0xFFFFFFFF or (high >= size and rust.id_to_token(high) is None):
        wrong = f"{high}{where} is no token id: the vocabulary has {size} tokens"
        raise DataError(f"{wrong}; use the tokenizer that belongs to the model")
