"""Text generation: a language model learns a corpus token by token, and writes on after a prompt.

T tokens. Documents become rows that do not see each other, so nothing is padded and nothing leaks from one into the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.data.chunks import documents_to_rows, token_weights
from unpad.data.collators import DataCollatorForLanguageModeling
from unpad.errors import ArgumentError, DataError, listing
from unpad.notices import say
from unpad.tasks._columns import dataset_of, lists_of, say_read, spent, splits_of, text_array
from unpad.tasks._generation import FORMS, NO_LIMIT, checked, results, tokenized
from unpad.tasks._task import Columns, Example, Features, Prepared, Reader, Task
from unpad.tasks.text_classification import TASK as FINDER

if TYPE_CHECKING:
    from unpad.config import ModelConfig
    from unpad.text.tokenizer import Tokenizer

BLOCK_SIZE = 512
"""Tokens of a row, where the model can hold so many."""
SHOWN = 72
"""Characters of a text that an example gives as a prompt, and of what follows."""


class TextGeneration(Task):
    """See `Task`. Training reads texts alone; the loss and its exponential, the perplexity, judge it."""

    name = "text-generation"
    head = "causal-lm"
    auto_class = "AutoModelForCausalLM"
    default_model = "gpt2"
    default_data = "helpdesk/tickets"
    options = ("prefix", "return_full_text", *FORMS, "stop_sequence")
    settings = ("block_size", "across", "keep_last", "keywords", "keyword_weight")
    classes = one_to_one = pairs = False
    generates = True

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The column of texts, found like that of text classification."""
        if label is not None or text_pair is not None:
            raise ArgumentError(f"{self.name} learns from texts alone; leave {'label' if label else 'text_pair'}={label or text_pair!r} out")  # fmt: skip
        found = FINDER.columns(dataset, text, labelled=False)
        return Columns(found.text, more=() if found.text_pair is None else (found.text_pair,))

    def prepare(
        self, raw: Any, tokenizer: Tokenizer, columns: Columns, max_length: int | None = None, label_names: Sequence[str] | None = None,
        *, block_size: int | None = None, across: bool = False, keep_last: bool = False, keywords: Sequence[str] | str | None = None,
        keyword_weight: float = 1.0, **settings: Any,
    ) -> Prepared:  # fmt: skip
        """Each document, ended by the end token, as rows of at most `block_size` tokens (default 512, or `max_length` if that is less);
        with `across` all documents joined and cut, see `data.chunks.documents_to_rows`.

        Of the rows for training, tokens that are one of the `keywords` (a list, or one text with commas) weigh 1 + `keyword_weight` in
        the loss. Raises ArgumentError for settings out of range, DataError for rows without a text and for too short a corpus.
        """
        from datasets import DatasetDict

        limit = max_length or tokenizer.model_max_length
        size = min(BLOCK_SIZE, limit) if block_size is None else block_size
        if isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= limit:
            raise ArgumentError(f"block_size={size!r} is outside 2..{limit}: the model takes at most {limit} tokens; give a number between")  # fmt: skip
        heavy = _keyword_ids(tokenizer, keywords, keyword_weight)
        splits, before, done = splits_of(raw), tokenizer.truncation_report(), {}
        for split, part in splits.items():
            texts = [t for name in (columns.text, *columns.more) for t in text_array(part, name, split).to_pylist()]
            documents = dataset_of({"input_ids": tokenized(tokenizer, texts, "text", NO_LIMIT, split)}, split)
            rows = documents_to_rows(documents, size, tokenizer.eos_token_id, across=across, keep_last=keep_last, split=split)  # fmt: skip
            weighed = heavy and split == ("train" if "train" in splits else next(iter(splits)))
            done[split] = _weighed(rows, heavy, keyword_weight) if weighed else rows
        if tokenizer.eos_token_id is None:
            say("the tokenizer has no end token, so the model does not learn where a text ends")
        say_read(self.name, listing(map(repr, columns.used)), splits, columns.used)
        return Prepared(DatasetDict(done), columns, spent(before, tokenizer))

    def collator(self, tokenizer: Tokenizer, **settings: Any) -> DataCollatorForLanguageModeling:
        return DataCollatorForLanguageModeling(tokenizer, mlm=False)

    # ---- pipelines ----

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return checked(options)

    def settled(self, options: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, Any]:
        """`stop_sequence`, the field's older name, as `stop_strings`."""
        return {"stop_strings" if name == "stop_sequence" else name: value for name, value in options.items()}

    def writing(self, config: ModelConfig, tokenizer: Tokenizer, options: Mapping[str, Any]) -> dict[str, Any]:
        return config.task_settings.get(self.name, {})

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """Features of prompts, long ones without their beginning; an empty one is the token that begins a text. `notes` are the prompts."""
        prompts = reader.texts(inputs, "give a prompt, or a list of them")
        tokenizer, config = reader.tokenizer, reader.config
        prefix = options.get("prefix") or (config.extra.get("prefix") if config is not None else None) or ""
        side, tokenizer.truncation_side = tokenizer.truncation_side, "left"  # what stands last matters most
        try:
            found = reader.features([prefix + text for text in prompts])
        finally:
            tokenizer.truncation_side = side
        if not found.lengths.all():
            begin = tokenizer.bos_token_id if config is None or config.bos_token_id is None else config.bos_token_id
            empty = np.flatnonzero(found.lengths == 0)
            if begin is None:
                raise DataError(
                    f"{reader.name(int(empty[0]))} has no tokens, and the model none to begin with; give a prompt"
                )
            ids = np.insert(found.input_ids, found.ends[empty], begin)
            found = replace(found, input_ids=ids, lengths=np.maximum(found.lengths, 1))
        return replace(found, notes=(tokenizer, prompts))

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each prompt a list (of `num_return_sequences`) of `{"generated_text": prompt and text}`; without the prompt where
        `return_full_text` is False; with `return_tensors` `{"generated_token_ids": ids of both}`."""
        tokenizer, prompts = features.notes
        before = [ids.tolist() for ids in np.split(features.input_ids, features.ends[:-1])] if len(found) else []
        shown = prompts if options.get("return_full_text", True) else None
        return results(found, tokenizer, "generated", options, before, shown)

    # ---- rows for people ----

    def examples(
        self, pipe: Any, rows: Sequence[Mapping[str, Any]], columns: Columns, prepared: Prepared
    ) -> list[Example]:
        """The beginning of each text, how the model goes on, and how the text does."""
        texts = [row[columns.text] for row in rows]
        cuts = [max(text.rfind(" ", 0, min(SHOWN, len(text) // 2 + 1)), 1) for text in texts]
        prompts = [text[:cut] for text, cut in zip(texts, cuts, strict=True)]
        triples = zip(texts, cuts, pipe(prompts, return_full_text=False, max_new_tokens=24), strict=True)
        return [Example([t[:cut]], answer[0]["generated_text"], t[cut : cut + SHOWN]) for t, cut, answer in triples]


TASK = TextGeneration()


def _keyword_ids(tokenizer: Tokenizer, keywords: Sequence[str] | str | None, weight: float) -> list[int]:
    """The ids of words that are one token, at the start of a text or after a space; others are said."""
    if keywords is None:
        return []
    words = [w.strip() for w in keywords.split(",") if w.strip()] if isinstance(keywords, str) else list(keywords)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < 1e6:
        raise ArgumentError(f"keyword_weight={weight!r} must be a number above 0: keywords weigh 1 + keyword_weight")
    pieces = {w: tokenizer([w, f" {w}"], add_special_tokens=False)["input_ids"] for w in words}
    if several := [word for word, both in pieces.items() if all(len(ids) != 1 for ids in both)]:
        say(f"keywords that are not one token weigh no more than others: {listing(several)}")
    found = [ids[0] for both in pieces.values() for ids in both if len(ids) == 1]
    if not found:
        raise ArgumentError(f"none of the keywords {listing(words)} is one token of this tokenizer; give such words")
    return found


def _weighed(rows: Any, heavy: list[int], weight: float) -> Any:
    """Rows with `weights`, one float32 per token."""
    ids = rows.with_format("arrow")[:]["input_ids"].combine_chunks()
    weights = lists_of(token_weights(ids.flatten().to_numpy(), heavy, weight), np.cumsum(ids.value_lengths()))
    return dataset_of({"input_ids": ids, "weights": weights}, str(rows.split))
