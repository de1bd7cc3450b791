"""Masked language modelling: learn from plain text by guessing hidden tokens, and fill in the blanks of a text.

A corpus becomes chunks of equal length, so that no token is lost to truncation. T tokens, M masks, V vocabulary, K guesses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.data import chunks
from unpad.data.collators import DataCollatorForLanguageModeling, DataCollatorForWholeWordMask
from unpad.errors import ArgumentError, DataError, listing
from unpad.notices import say_once
from unpad.tasks._columns import say_read, spent, splits_of, text_array
from unpad.tasks._task import Columns, Example, Features, Prepared, Reader, Task
from unpad.tasks.text_classification import TASK as FINDER

if TYPE_CHECKING:
    from unpad.batch import PackedBatch
    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

TOP_K = 5
SHOWN = 72
"""Characters of a text that an example shows."""


class FillMask(Task):
    """See `Task`. Training reads texts alone; the loss and its exponential, the perplexity, judge it."""

    name = "fill-mask"
    head = "masked-lm"
    auto_class = "AutoModelForMaskedLM"
    default_model = "distilroberta-base"
    default_data = "helpdesk/tickets"
    options = ("top_k", "targets")
    settings = ("chunk_size", "keep_last", "mlm_probability", "whole_word_mask")
    classes = False
    one_to_one = False
    pairs = False

    # ---- data sets ----

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The column of texts, found like that of text classification; both texts of pairs belong to the corpus."""
        if label is not None:
            raise ArgumentError(f"fill-mask learns from texts alone; leave label={label!r} out")
        found = FINDER.columns(dataset, text, text_pair, labelled=False)
        return Columns(found.text, more=() if found.text_pair is None else (found.text_pair,))

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        *, chunk_size: int | None = None, keep_last: bool = False, **settings: Any,
    ) -> Prepared:  # fmt: skip
        """The texts of each split as chunks of `chunk_size` tokens (default 128, or `max_length` if that is less), see
        `data.chunks.chunked`. Raises ArgumentError for settings out of range, DataError for no words and rows without a text.
        """
        from datasets import DatasetDict

        self.collator(tokenizer, **settings)  # wrong settings are refused before the work
        size = chunks.chunk_size(chunk_size, max_length or tokenizer.model_max_length)
        splits = splits_of(raw)
        before, done = tokenizer.truncation_report(), {}
        for split, part in splits.items():
            texts = [text_array(part, name, split) for name in (columns.text, *columns.more)]
            done[split] = chunks.chunked(tokenizer, texts, size, keep_last, split)
        say_read(self.name, listing(map(repr, columns.used)), splits, columns.used)
        return Prepared(DatasetDict(done), columns, spent(before, tokenizer))

    def collator(
        self, tokenizer: Tokenizer, mlm_probability: float = 0.15, whole_word_mask: bool = False, **settings: Any
    ) -> DataCollatorForLanguageModeling:
        if mlm_probability == 0:
            raise ArgumentError("mlm_probability=0 leaves nothing to guess; give a share above 0, such as 0.15")
        kind = DataCollatorForWholeWordMask if whole_word_mask else DataCollatorForLanguageModeling
        return kind(tokenizer, mlm_probability=mlm_probability)

    # ---- pipelines ----

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Features of texts, each with the tokenizer's mask token in it once or more; DataError names a text without."""
        mask = _mask_of(reader.tokenizer)
        found = reader.features(reader.texts(inputs, f"give a text with {mask} in it"))
        asked = np.flatnonzero(found.input_ids == reader.tokenizer.mask_token_id)
        masks = np.diff(np.searchsorted(asked, found.ends), prepend=0)
        if len(masks) and not masks.all():
            i = int(masks.argmin())
            raise DataError(
                f"{reader.name(i)} has {mask} only beyond its first {found.lengths[i]} tokens, which is all that is read; shorten it"
                if mask in inputs[i]
                else f"{reader.name(i)} has no {mask}: {inputs[i]!r:.60}; write {mask} where a word is to be guessed"
            )
        return replace(found, notes=reader.tokenizer, asked=asked)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`top_k` (None: 5) and `targets` (None: all words; a word or a list of words)."""
        out = {name: value for name, value in options.items() if value is not None}
        k, targets = out.get("top_k", TOP_K), out.get("targets", "word")
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ArgumentError(f"top_k={k!r} must be a whole number, 1 or more")
        words = [targets] if isinstance(targets, str) else targets
        if not isinstance(words, (list, tuple)) or not words or not all(isinstance(w, str) and w for w in words):
            raise ArgumentError(f"targets={targets!r:.60} must be a word or a list of words")
        return {**out, "targets": list(words)} if "targets" in out else out

    def settled(self, options: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
        """`targets` as ids, rising. Of a word that is not in the vocabulary the first piece counts, which is said."""
        _mask_of(tokenizer)
        if "targets" not in options:
            return dict(options)
        ids, vocabulary = [], tokenizer.get_vocab()
        for word in options["targets"]:
            pieces = [vocabulary[word]] if word in vocabulary else tokenizer.encode(word, add_special_tokens=False)
            if not pieces:
                raise ArgumentError(f"the target {word!r} gives no token; leave it out of targets=")
            if word not in vocabulary:
                piece = tokenizer.convert_ids_to_tokens(pieces[0])
                say_once(f"the target {word!r} is not in the vocabulary; {piece!r} is judged in its place")
            ids.append(pieces[0])
        return {**options, "targets": sorted(set(ids))}

    def reduce(self, output: Any, batch: PackedBatch, options: Mapping[str, Any]) -> Any:
        """[M, 2, K] fp32: the probabilities of the best guesses and their ids (fp32 holds ids below 2**24 exactly)."""
        import torch

        logits_MV, targets = output["logits"], options.get("targets")
        chosen = logits_MV
        if targets is not None:
            targets = torch.tensor(targets, device=logits_MV.device)
            chosen = logits_MV.index_select(1, targets)
        best = chosen.topk(min(options.get("top_k", TOP_K), chosen.shape[1]))
        ids = best.indices if targets is None else targets[best.indices]
        scores = (best.values - logits_MV.logsumexp(1, keepdim=True)).exp()
        return torch.stack([scores, ids.float()], 1)

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each text the best guesses as dictionaries `score`, `token`, `token_str`, `sequence`; with several masks in a text a
        list of such lists, one for each, in which the other masks and the special tokens are shown."""
        tokenizer: Tokenizer = features.notes
        rows: dict[bool, list[list[int]]] = {True: [], False: []}
        for ids, guesses in zip(np.split(features.input_ids, features.ends[:-1]), found, strict=False):
            for place, (_, tokens) in zip(np.flatnonzero(ids == tokenizer.mask_token_id), guesses, strict=True):
                filled = np.repeat(ids[None], len(tokens), 0)
                filled[:, place] = tokens
                rows[len(guesses) == 1] += [row[row != tokenizer.pad_token_id].tolist() for row in filled]
        texts = {one: iter(tokenizer.batch_decode(some, skip_special_tokens=one)) for one, some in rows.items()}
        known = np.unique(np.concatenate([g[:, 1].ravel() for g in found])).astype(int).tolist() if len(found) else []
        words = dict(zip(known, tokenizer.batch_decode([[i] for i in known]), strict=True))
        out = []
        for guesses in found:
            sequence = texts[len(guesses) == 1]
            parts: list[Any] = [[] for _ in guesses]
            for part, guess in zip(parts, guesses, strict=True):
                for score, i in zip(*guess.tolist(), strict=True):
                    part.append(
                        {"score": score, "token": int(i), "token_str": words[int(i)], "sequence": next(sequence)}
                    )
            out.append(parts[0] if len(parts) == 1 else parts)
        return out

    # ---- rows of raw data, for people ----

    def examples(
        self, pipe: Any, rows: Sequence[Mapping[str, Any]], columns: Columns, prepared: Prepared
    ) -> list[Example]:
        """The beginning of each text with its longest word hidden, the guesses, and whether the first one is right."""
        mask, found = _mask_of(pipe.tokenizer), []
        hidden = [_hidden(row[columns.text]) for row in rows]
        texts = [" ".join([*before, mask, *after]) for before, _, after in hidden]
        for text, (_, word, _), answer in zip(texts, hidden, pipe(texts), strict=True):
            guesses = answer if isinstance(answer[0], dict) else answer[0]  # the text may have masks of its own
            words = [guess["token_str"].strip() for guess in guesses]
            found.append(Example([text], listing(words), word, right=words[0].lower() == word.lower()))
        return found


TASK = FillMask()


def _mask_of(tokenizer: Tokenizer) -> str:
    if tokenizer.mask_token_id is None or tokenizer.mask_token is None:
        raise ArgumentError("the tokenizer has no mask token; use that of a masked language model")
    return tokenizer.mask_token


def _hidden(text: str) -> tuple[list[str], str, list[str]]:
    """The first words of a text: those before its longest one, that one, and those after it."""
    words, size = [], 0
    for word in text.split():
        size += len(word) + 1
        if size > SHOWN:
            break
        words.append(word)
    if not words:
        return [], text[:SHOWN], []
    at = max(range(len(words)), key=lambda i: (words[i].isalpha(), len(words[i]), i))
    return words[:at], words[at], words[at + 1 :]
