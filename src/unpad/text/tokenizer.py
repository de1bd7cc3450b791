"""`Tokenizer` and `AutoTokenizer`: text to token ids and back, over the `tokenizers` library.

Calls take and return what the Hugging Face fast tokenizers take and return; besides, a tokenizer counts what it cuts off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tokenizers import AddedToken, Encoding
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.models import BPE

from unpad.errors import ArgumentError, DataError, nearest
from unpad.hub.pull import resolve, split_options
from unpad.hub.push import also_push, push_tokenizer
from unpad.notices import say_once
from unpad.text import _call, files
from unpad.text._call import Plan, TruncationReport, check_ids, plan_for, rows_of
from unpad.text._spelled import Spelled
from unpad.text.encoding import BatchEncoding, plain
from unpad.text.formats import FAMILIES, from_rust, glues_words, language, use_template


def _language(name: str) -> Any:
    """Property: the language code `name` that texts are marked with, None while it is not set."""

    def get(self: Tokenizer) -> str | None:
        return self._config.get(name)

    def put(self: Tokenizer, code: str) -> None:
        self._config[name] = language(code, name, list(self.lang_code_to_id))

    return property(get, put)


def _token_id(name: str) -> Any:
    """Property: the id of the special token `name`, None while it is not set; setting the id sets the token."""

    def get(self: Tokenizer) -> int | None:
        token = getattr(self, name)
        return None if token is None else self.convert_tokens_to_ids(token)

    def put(self: Tokenizer, value: int | None) -> None:
        setattr(self, name, None if value is None else self.convert_ids_to_tokens(value))

    return property(get, put)


class Tokenizer:
    """Turns texts into token ids and back; see `__call__`.

    The attributes `pad_token`, `cls_token`, ... may be set. A copy or a pickle holds the vocabulary and the settings,
    and nothing that calling changes: so fingerprints of functions that use a tokenizer stay the same.
    """

    bos_token: str | None
    eos_token: str | None
    unk_token: str | None
    sep_token: str | None
    pad_token: str | None
    cls_token: str | None
    mask_token: str | None

    is_fast = True
    pad_token_type_id = 0
    bos_token_id = _token_id("bos_token")
    eos_token_id = _token_id("eos_token")
    unk_token_id = _token_id("unk_token")
    sep_token_id = _token_id("sep_token")
    pad_token_id = _token_id("pad_token")
    cls_token_id = _token_id("cls_token")
    mask_token_id = _token_id("mask_token")
    src_lang = _language("src_lang")
    tgt_lang = _language("tgt_lang")

    def __init__(self, rust: Any, settings: files.Settings | None = None, name_or_path: str = ""):
        settings = settings or files.Settings()
        self.name_or_path = name_or_path
        for name in files.SPECIAL:
            setattr(self, name, settings.special.get(name))
        self.additional_special_tokens = list(settings.extra)
        self.model_max_length = settings.model_max_length
        self.padding_side = settings.padding_side
        self.truncation_side = settings.truncation_side
        self.model_input_names = list(settings.model_input_names)
        self.clean_up_tokenization_spaces = settings.clean_up_tokenization_spaces
        self._config = dict(settings.config)
        self.lang_code_to_id = dict(settings.languages)  # what `src_lang` and `tgt_lang` may be
        self._targets = False  # whether texts are encoded as targets, inside `as_target_tokenizer`
        self._rust = rust
        self._lock = threading.Lock()  # truncation and padding are states of the Rust object, of all threads
        self._applied: Plan | None = None
        self._report = TruncationReport()

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *, push_to_hub: bool = False, repo_id: str | None = None, **hub: Any
    ) -> tuple[str, ...]:  # fmt: skip
        """Write the files that unpad and transformers read; returns their paths. `push_to_hub`: and do that, with `hub`."""
        with self._lock:
            self._apply(Plan(None, None, self._side(False)))
            written = files.write(save_directory, self._rust, self._settings())
        also_push(self, push_to_hub, repo_id, save_directory, hub)
        return written

    push_to_hub = push_tokenizer

    def _settings(self) -> files.Settings:
        return files.Settings(
            special=self.special_tokens_map,
            extra=list(self.additional_special_tokens),
            config=dict(self._config),
            languages=dict(self.lang_code_to_id),
            **{name: getattr(self, name) for name in files.PLAIN},
        )

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:
            self._apply(Plan(None, None, self._side(False)))
            rust = self._rust if isinstance(self._rust, Spelled) else self._rust.to_str()
        return {"rust": rust, "settings": self._settings(), "name_or_path": self.name_or_path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        rust = state["rust"]
        rust = RustTokenizer.from_str(rust) if isinstance(rust, str) else rust
        self.__init__(rust, state["settings"], state["name_or_path"])  # type: ignore[misc]

    def __repr__(self) -> str:
        limit = "none" if self.model_max_length >= files.NO_LIMIT else self.model_max_length
        return (
            f"{type(self).__name__}({self.name_or_path!r}, {len(self)} tokens, model_max_length={limit}, "
            f"padding_side={self.padding_side!r}, truncation_side={self.truncation_side!r}, "
            f"special tokens: {self.special_tokens_map})"
        )

    # ---- vocabulary ----

    def __len__(self) -> int:
        return self._rust.get_vocab_size(with_added_tokens=True)

    @property
    def vocab_size(self) -> int:
        """Tokens of the base vocabulary, without added ones; `len(tokenizer)` counts all."""
        return self._rust.get_vocab_size(with_added_tokens=False)

    @property
    def backend_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` underneath (with Marian and CTRL, what does the work of one)."""
        return self._rust

    def get_vocab(self) -> dict[str, int]:
        """Token to id, added tokens included."""
        return self._rust.get_vocab(with_added_tokens=True)

    vocab = property(get_vocab)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        """The named special tokens that are set."""
        return {name: str(getattr(self, name)) for name in files.SPECIAL if getattr(self, name) is not None}

    @property
    def all_special_tokens(self) -> list[str]:
        """Every special token once: the named ones, then the additional ones."""
        tokens = [*self.special_tokens_map.values(), *map(str, self.additional_special_tokens)]
        return list(dict.fromkeys(tokens))

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of `all_special_tokens`."""
        return self.convert_tokens_to_ids(self.all_special_tokens)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Special tokens that a call adds to a text or to a pair."""
        return self._rust.num_special_tokens_to_add(pair)

    def add_tokens(
        self, new_tokens: str | AddedToken | Sequence[str | AddedToken], special_tokens: bool = False
    ) -> int:
        """Add tokens that are never split, at the end of the vocabulary; returns how many were new.

        The model's embeddings must grow to `len(tokenizer)` afterwards.
        """
        tokens = [new_tokens] if isinstance(new_tokens, (str, AddedToken)) else new_tokens
        if not isinstance(tokens, Iterable) or not all(isinstance(t, (str, AddedToken)) for t in tokens):
            raise ArgumentError(f"new_tokens={new_tokens!r:.60} is no token; pass a string or a list of them")
        tokens = list(tokens)
        return self._rust.add_special_tokens(tokens) if special_tokens else self._rust.add_tokens(tokens)

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any]) -> int:
        """Set named special tokens (`{"pad_token": "[PAD]"}`, `additional_special_tokens`: a list); returns how many were new."""
        added = 0
        for name, value in special_tokens_dict.items():
            if name in ("additional_special_tokens", "extra_special_tokens"):
                self.additional_special_tokens = [str(getattr(t, "content", t)) for t in value]
            elif name in files.SPECIAL:
                setattr(self, name, str(getattr(value, "content", value)))
            else:
                known = (*files.SPECIAL, "additional_special_tokens")
                raise ArgumentError(f"{name!r} is no name of a special token{nearest(name, known)}")
            added += self.add_tokens(value, special_tokens=True)
        return added

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Id of a token, or ids of several; a token that is not in the vocabulary gives the unknown token's id."""
        if not isinstance(tokens, (str, Iterable)):
            raise ArgumentError(f"tokens={tokens!r:.60} is no token; pass a string or a list of them")
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        found = self._rust.token_to_id(tokens)
        if found is None and self.unk_token is not None:
            found = self._rust.token_to_id(self.unk_token)
        return found

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Token of an id, or tokens of several ids (list, numpy array or torch tensor)."""
        ids = plain(ids)
        if isinstance(ids, int):
            check_ids(self._rust, [ids])
            return self._rust.id_to_token(ids)
        check_ids(self._rust, ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else ()
        return [self._rust.id_to_token(i) for i in ids if i not in skipped]

    def train_new_from_iterator(
        self, text_iterator: Iterable[Any], vocab_size: int, length: int | None = None,
        new_special_tokens: Sequence[str | AddedToken] | None = None,
    ) -> Tokenizer:  # fmt: skip
        """A new tokenizer with this pipeline and these special tokens, its vocabulary learnt from texts (or batches of texts).

        length is accepted and has no effect. Raises ArgumentError or DataError for what cannot be trained on.
        """
        new, settings = list(new_special_tokens or ()), self._settings()
        settings.extra += [str(getattr(token, "content", token)) for token in new]
        rust = files.train_new(self._rust, text_iterator, vocab_size, new)
        settings.languages = dict(zip(settings.languages, map(rust.token_to_id, settings.languages), strict=True))  # type: ignore[arg-type]
        if isinstance(self._rust, Spelled):
            settings.config["tokenizer_class"] = "PreTrainedTokenizerFast"
        return Tokenizer(rust, settings)

    def _side(self, target: bool) -> str | None:
        """`Plan.side` of texts that a model reads, or of those that it writes."""
        if isinstance(self._rust, Spelled):
            return "target" if target and "target" in self._rust.sides else "source"
        if not self.lang_code_to_id:
            return None
        if target and not self.tgt_lang:
            say_once(f"targets are marked with the language of the source, {self.src_lang}; set tokenizer.tgt_lang")
        return (target and self.tgt_lang) or self.src_lang

    # ---- text to ids ----

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        *,
        text_target: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        **unknown: Any,
    ) -> BatchEncoding:
        """Encode a text, a pair of texts, or a batch of either.

        text, text_pair: a string, or any sequence of strings (list, numpy array, column of a data set) for a batch;
            with is_split_into_words a list of words, or a sequence of such lists.
        text_target: texts whose ids become the column `labels` (or the whole result, without `text`).
        padding: False; True or "longest" (of the batch); "max_length".
        truncation: False; True or "longest_first"; "only_first"; "only_second". The limit is `max_length`, else
            `model_max_length`. Left out, a `max_length` without padding turns it on.
        stride: tokens that an overflowing row repeats from the row before it.
        pad_to_multiple_of, padding_side: how far and on which side to pad ("left", "right").
        return_overflowing_tokens: what was cut off comes back as further rows, numbered in `overflow_to_sample_mapping`.
        return_tensors: "pt" or "np" for int64 tensors [rows, tokens], None for lists.

        Returns a BatchEncoding whose columns are those of `model_input_names` and those asked for.
        Raises DataError, naming the row, for what is not text; ArgumentError for options that cannot be met.
        """
        if unknown:
            return self(**_call.older({name: value for name, value in locals().items() if name != "self"}))
        if text is None and text_target is None:
            raise ArgumentError("the tokenizer was called without a text; pass text= or text_target=")
        if is_split_into_words and glues_words(self._rust):
            raise ArgumentError("is_split_into_words=True needs from_pretrained(..., add_prefix_space=True)")
        results = []
        for what, first, second in (("text", text, text_pair), ("text_target", text_target, None)):
            if first is None:
                continue
            rows, single, pairs = rows_of(what, first, second, is_split_into_words)
            specials = self.num_special_tokens_to_add(pairs) if add_special_tokens else 0
            plan = plan_for(self, padding, truncation, max_length, stride, pad_to_multiple_of, padding_side, specials)
            plan = plan._replace(side=self._side(self._targets or what == "text_target"))
            words, keep = is_split_into_words, return_overflowing_tokens
            encodings, samples, cut = self._encode(what, rows, pairs, words, add_special_tokens, plan, keep)
            spelled = isinstance(self._rust, Spelled)
            ids = self._rust.ids_of(encodings) if spelled else [e.ids for e in encodings]
            longest = max(map(len, ids), default=0)
            if plan.truncation is None and max_length is None and longest > self.model_max_length:
                found = f"a text of {longest} tokens is longer than the model takes ({self.model_max_length})"
                how = "pass truncation=True unless it is cut later"
                say_once(f"{found} and was not truncated; {how}", key=f"too long for {self.name_or_path}")
            columns: dict[str, Any] = {"input_ids": ids}
            if self._wants("token_type_ids", return_token_type_ids):
                columns["token_type_ids"] = [e.type_ids for e in encodings]
            if self._wants("attention_mask", return_attention_mask):
                padded = plan.padding is not None
                columns["attention_mask"] = [e.attention_mask if padded else [1] * len(e) for e in encodings]
            if return_special_tokens_mask:
                columns["special_tokens_mask"] = [e.special_tokens_mask for e in encodings]
            if return_offsets_mapping:
                columns["offset_mapping"] = [e.offsets for e in encodings]
            if return_length:
                columns["length"] = [len(i) for i in ids]
            if return_overflowing_tokens:
                columns["overflow_to_sample_mapping"] = samples
            if single and return_tensors is None and not return_overflowing_tokens:
                columns = {k: v[0] if isinstance(v[0], list) else v for k, v in columns.items()}
            results.append(BatchEncoding(columns, encodings, return_tensors, 2 if pairs else 1, cut))
        if len(results) == 2:
            results[0]["labels"] = results[1]["input_ids"]
        return results[0]

    encode_plus = batch_encode_plus = __call__  # the older names
    prepare_seq2seq_batch = _call.prepare_seq2seq_batch

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """The `input_ids` of a call."""
        return self(text, text_pair, **options)["input_ids"]

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False, **options: Any) -> list[str]:
        """The tokens of a text or a pair, as strings."""
        tokens = self(text, pair, add_special_tokens=add_special_tokens, **options).tokens()
        return self._rust.spelled(tokens) if isinstance(self._rust, Spelled) else tokens

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[Tokenizer]:
        """The older spelling of `text_target=`: inside the `with` block, texts are encoded as targets."""
        self._targets = True
        try:
            yield self
        finally:
            self._targets = False

    def _wants(self, column: str, asked: bool | None) -> bool:
        return column in self.model_input_names if asked is None else asked

    def _apply(self, plan: Plan) -> None:
        """Set the Rust tokenizer; only under the lock, and only where it differs, since setting it costs a copy."""
        if self._applied == plan:
            return
        if plan.side and plan.side != (self._applied and self._applied.side):
            if isinstance(self._rust, Spelled):
                self._rust.side = plan.side
            else:
                named = {**self.special_tokens_map, "language": plan.side}
                use_template(self._rust, FAMILIES[self._config["tokenizer_class"]], named, self._config)
        self._applied = None
        if plan.truncation is None:
            self._rust.no_truncation()
        else:
            self._rust.enable_truncation(**plan.truncation)
        if plan.padding is None:
            self._rust.no_padding()
        else:
            self._rust.enable_padding(**plan.padding)
        self._applied = plan

    def _encode(
        self, what: str, rows: list[Any], pairs: bool, words: bool, specials: bool, plan: Plan, keep: bool
    ) -> tuple[list[Encoding], list[int], list[int]]:
        """Encodings of the rows (with `keep` also of what was cut off), the row that each is of, and the rows that have lost something."""
        with self._lock:
            self._apply(plan)
            try:
                found = self._rust.encode_batch(rows, is_pretokenized=words, add_special_tokens=specials)
            except BaseException as error:
                if not from_rust(error) or isinstance(error, ArgumentError):
                    raise
                raise _call.explained(self._rust, what, rows, words, specials, error) from error
            if plan.truncation is None:
                return found, list(range(len(found))), []
            # What was cut off a pair comes back as every piece of one text with every piece of the other: a
            # square of pieces that is not worth fetching only to count it.
            recount = pairs and not keep and plan.truncation["strategy"] == "longest_first"
            overflow = [] if recount else [e.overflowing for e in found]
            cut = self._count(found, overflow, rows, pairs, words, specials, plan, keep)
        if not keep:
            return found, list(range(len(found))), cut
        pieces = [[e, *more] for e, more in zip(found, overflow, strict=True)]
        return [e for row in pieces for e in row], [i for i, row in enumerate(pieces) for _ in row], cut

    def _count(
        self, found: list[Encoding], overflow: list[list[Encoding]], rows: list[Any], pairs: bool, words: bool,
        specials: bool, plan: Plan, keep: bool,
    ) -> list[int]:  # fmt: skip
        """Add the rows of a call to the truncation report; gives those that have lost something."""
        assert plan.truncation is not None
        added = self._rust.num_special_tokens_to_add(pairs) if specials else 0
        stride, strategy = plan.truncation["stride"], plan.truncation["strategy"]

        def content(e: Encoding) -> int:
            return (len(e) if plan.padding is None else sum(e.attention_mask)) - added

        kept = [content(e) for e in found]
        before = {}
        if pairs and strategy == "longest_first":
            full = [i for i, n in enumerate(kept) if n + added >= plan.truncation["max_length"]]
            self._apply(Plan(None, None, plan.side))
            again = [rows[i] for i in full]
            whole = self._rust.encode_batch_fast(again, is_pretokenized=words, add_special_tokens=False)
            before = {i: len(e) for i, e in zip(full, whole, strict=True)}
        else:
            other = 0 if strategy == "only_second" else 1  # the text of a pair that every piece repeats whole
            for i, more in enumerate(overflow):
                if more:
                    same = found[i].sequence_ids.count(other) if pairs else 0
                    before[i] = kept[i] + sum(map(content, more)) - len(more) * (same + stride)
        lost = {i: n - kept[i] for i, n in before.items() if n > kept[i]}
        report = self._report
        report.texts += len(found)
        report.tokens_before += sum(kept) + sum(lost.values())
        if keep:
            return []
        report.truncated += len(lost)
        report.tokens_lost += sum(lost.values())
        return list(lost)

    def truncation_report(self) -> TruncationReport:
        """How many texts were truncated in this process, and what share of their tokens was lost."""
        with self._lock:
            return replace(self._report)

    def reset_truncation_report(self) -> None:
        """Start counting anew."""
        with self._lock:
            self._report = TruncationReport()

    # ---- batches of features ----

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Pad features (a list of dictionaries, or one dictionary of columns) to one length.

        `input_ids`, `token_type_ids`, `attention_mask` and `special_tokens_mask` are padded, every other column stays.
        Numpy arrays and torch tensors come back as such. Raises DataError when the features do not have the same keys.
        """
        inputs = encoded_inputs
        if not isinstance(inputs, Iterable) or isinstance(inputs, str):
            raise ArgumentError(f"{inputs!r:.60} is no batch of features; pass what the tokenizer returned")
        data = dict(inputs) if isinstance(inputs, Mapping) else _call.columns_of(list(inputs))
        if "input_ids" not in data:
            there = ", ".join(map(str, data)) or "nothing"
            raise DataError(f"features have no 'input_ids' to pad; they have: {there}; tokenize them first")
        if len(data["input_ids"]) == 0:
            return BatchEncoding(data, tensor_type=return_tensors)
        sample = data["input_ids"] if hasattr(data["input_ids"], "tolist") else data["input_ids"][0]
        if return_tensors is None and hasattr(sample, "tolist"):
            return_tensors = "np" if type(sample).__module__.startswith("numpy") else "pt"
        plan = plan_for(self, padding, None, max_length, 0, pad_to_multiple_of, padding_side, 0)
        rows = {key: plain(data[key]) for key in _call.PADDED if key in data}
        single = not isinstance(rows["input_ids"][0], (list, tuple))
        if single:
            rows = {key: [value] for key, value in rows.items()}
        if self._wants("attention_mask", return_attention_mask):
            rows.setdefault("attention_mask", [[1] * len(row) for row in rows["input_ids"]])
        if plan.padding is not None:
            rows = _call.filled(rows, plan.padding)
        data.update({key: value[0] if single else value for key, value in rows.items()})
        return BatchEncoding(data, tensor_type=return_tensors)

    # ---- ids to text ----

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Text of a row of ids, or a list of texts for several rows (lists, numpy arrays or torch tensors).

        Raises DataError for an id that is not in the vocabulary, such as -100.
        """
        if isinstance(token_ids, Mapping):
            token_ids = token_ids["input_ids"]
        ids = plain(token_ids)
        if isinstance(ids, int):
            ids = [ids]
        if not isinstance(ids, Sequence) or isinstance(ids, str):
            raise ArgumentError(f"{ids!r:.60} is no token id; pass an id, a list of ids or a list of lists")
        if not (len(ids) and isinstance(ids[0], (list, tuple))):
            check_ids(self._rust, ids)
            text = self._rust.decode(ids, skip_special_tokens=skip_special_tokens)
            return self._tidy(text, clean_up_tokenization_spaces)
        ids = [plain(row) for row in ids]
        for i, row in enumerate(ids):
            check_ids(self._rust, row, f" in row {i}")
        texts = self._rust.decode_batch(ids, skip_special_tokens=skip_special_tokens)
        return [self._tidy(text, clean_up_tokenization_spaces) for text in texts]

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        """Texts of several rows of ids; see `decode`."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces)
        return texts if isinstance(texts, list) else [texts] if len(sequences) else []

    def _tidy(self, text: str, close_gaps: bool | None) -> str:
        if not (self.clean_up_tokenization_spaces if close_gaps is None else close_gaps):
            return text
        if isinstance(self._rust.model, BPE):
            return text  # byte-level vocabularies keep the spaces of the text; closing gaps would change it
        return _call.closed(text)


class AutoTokenizer:
    """Finds and reads tokenizers (`from_pretrained`), or trains one on texts (`from_iterator`)."""

    @staticmethod
    def from_iterator(
        text_iterator: Iterable[Any], kind: str = "unigram", vocab_size: int = 8000, *, add_eos_token: bool | None = None,
        special_tokens: Sequence[str] = (), model_max_length: int | None = None,
    ) -> Tokenizer:  # fmt: skip
        """Train a vocabulary from nothing on texts (or lists of texts); give it both languages for one that they share.

        kind: "unigram" or "bpe" (pieces of words after `▁`, as T5's and Marian's: pad, eos, unk; a text ends with eos),
            "byte-bpe" (as GPT-2's, with a pad token; no eos unless add_eos_token=True), "wordpiece" (as BERT's, cased).
        vocab_size: most tokens, special ones included. special_tokens: further ones, never split.
        Where pieces tie, "unigram" and "wordpiece" may choose otherwise in another run: save what you got.

        Raises ArgumentError or DataError for what cannot be trained on.
        """
        found = files.train_first(text_iterator, kind, vocab_size, add_eos_token, list(special_tokens))
        found[1].model_max_length = model_max_length or files.NO_LIMIT
        return Tokenizer(*found)

    @staticmethod
    def from_pretrained(
        name_or_path: str | os.PathLike[str], *, use_fast: bool = True, trust_remote_code: bool = False, **options: Any
    ) -> Tokenizer:
        """Read the tokenizer of a folder, a tokenizer.json, a vocab.txt, "minilm", or a Hub id.

        options: settings that win over the files: pad_token=, model_max_length=, do_lower_case=, ...; of a Hub id, revision= (branch,
            tag or commit), token= (a token, True: that of this machine, False: none), cache_dir=, local_files_only=,
            force_download=, subfolder=.
        use_fast is accepted and has no effect. Raises CheckpointError when there is nothing to read.
        """
        if trust_remote_code:
            raise ArgumentError("trust_remote_code=True: unpad never runs code of a checkpoint; leave it out")
        hub, overrides = split_options(options)
        path = resolve(name_or_path, "tokenizer", files.FILES, files.VOCABULARIES, **hub)
        return Tokenizer(*files.read(path, overrides), os.fspath(name_or_path))
