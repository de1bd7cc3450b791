"""The data of a command: which splits it learns from and judges on, and what is held out when there is no such split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unpad.errors import ArgumentError, DataError, TrainingError, listing, nearest
from unpad.notices import say

HELD_OUT = 0.1
"""Share of the training rows that is held out for evaluation when the data have no split for it."""


@dataclass(frozen=True)
class Splits:
    """What a run learns from and is judged on."""

    train: Any
    eval: Any
    """None when nothing is evaluated."""
    eval_name: str
    """Name of the evaluation split, for people."""
    others: tuple[str, ...] = ()
    """Splits of the data that the run does not touch."""
    whole: Any = None
    """The training split before rows were held out of it; None when none were."""
    kept: Any = None
    """Its rows that are learned from, as numbers [N]."""
    held: Any = None
    """Its rows that are held out, as numbers."""

    def raw(self) -> dict[str, Any]:
        """What is to be prepared. Held-out rows are still in their place there: messages then count rows as the file does, and a
        label that only they have is known."""
        return self.parts() if self.whole is None else {"train": self.whole}

    def parts(self) -> dict[str, Any]:
        """The splits by themselves, for tasks that make several rows of one."""
        return {"train": self.train} | ({} if self.eval is None else {"validation": self.eval})

    def apart(self, prepared: Any) -> Any:
        """The prepared `raw()` as a `DatasetDict` of train and validation."""
        if self.whole is None:
            return prepared
        train = prepared["train"]
        return type(prepared)({"train": train.select(self.kept), "validation": train.select(self.held)})

    def told(self, error: TrainingError, data: str) -> TrainingError:
        """The error with the rows that it names counted as in `data`, too."""
        if not error.rows or self.kept is None:
            return error
        rows = listing(self.kept[list(error.rows)])
        return TrainingError(f"{error}. In {data}, from which rows were held out, these are rows {rows}")


def load_splits(
    data: str, data_name: str | None, train_split: str, eval_split: str | None, eval_data: str | None, seed: int
) -> Splits:
    """The training and the evaluation split.

    Without `eval_split` the evaluation split is "validation"; where there is none, a tenth of the training rows, drawn with
    `seed`, is held out, and that is said. Raises DataError for splits that do not exist and for empty ones.
    """
    import numpy as np

    from unpad.data.load import load_dataset
    from unpad.tasks.glue import GLUE

    raw: Any = load_dataset(data, data_name)
    if eval_split is eval_data is None and data_name in GLUE and GLUE[data_name].eval_split in raw:
        eval_split = GLUE[data_name].eval_split
    train = _split(raw, train_split, data, data_name)
    if len(train) == 0:
        raise DataError(f"split {train_split!r} of {data!r} has no rows; there is nothing to learn from")
    others = tuple(name for name in raw if name not in (train_split, eval_split))
    if eval_data is not None:
        other: Any = load_dataset(eval_data)
        name = eval_split or next((n for n in ("validation", "test") if n in other), next(iter(other)))
        return Splits(train, _split(other, name, eval_data, None), f"{name} of {eval_data}", others)
    if eval_split is not None:
        return Splits(train, _split(raw, eval_split, data, data_name), eval_split, others)
    if "validation" in raw and train_split != "validation":
        return Splits(train, raw["validation"], "validation", tuple(n for n in others if n != "validation"))
    if len(train) < 2:
        say(f"{data} has no validation split and a single row: nothing is evaluated")
        return Splits(train, None, "", others)
    order = np.random.default_rng(seed).permutation(len(train))  # of the number of rows and the seed alone
    count = max(1, round(HELD_OUT * len(train)))
    kept, held = np.sort(order[count:]), np.sort(order[:count])
    rows = f"{len(held)} of its {len(train)} training rows, drawn with seed={seed}, are held out for evaluation"
    say(f"{data} has no validation split: {rows}; give --eval_split or --eval_data to choose")
    return Splits(train.select(kept), train.select(held), f"held out of {train_split}", others, train, kept, held)


def load_split(data: str, data_name: str | None, split: str) -> Any:
    """One split of a data set, by name or in the notation "train[:100]"."""
    from unpad.data.load import load_dataset

    return _split(load_dataset(data, data_name), split, data, data_name)


def longest_input(asked: Any, model: str, config: Any, tokenizer: Any) -> int:
    """Tokens that an input may have: what was asked for, else what model and tokenizer can hold. Raises ArgumentError."""
    most = int(config.longest)
    if asked is None:
        return min(most, int(tokenizer.model_max_length))
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
        allowed = f"1..{most}, the tokens that {model} can hold"
        raise ArgumentError(f"max_length={asked!r} is outside {allowed}; give less, or leave it out")
    return asked


def tokenizer_for(task: Any, model: str) -> Any:
    """The model's tokenizer, which sets words apart that a task reads one by one: byte-level ones need a space before each."""
    from unpad.text.formats import glues_words
    from unpad.text.tokenizer import AutoTokenizer

    found = AutoTokenizer.from_pretrained(model)
    spaced = task.words and glues_words(found.backend_tokenizer)
    return AutoTokenizer.from_pretrained(model, add_prefix_space=True) if spaced else found


def new_model(folder: Path, options: dict[str, Any], rows: Any, columns: Any) -> str:
    """The folder `new` below that of the run with the tokenizer, trained on the texts of `rows`, and the configuration of a model from
    scratch. A run that is resumed has made them: where pieces of words tie, another training may choose otherwise."""
    from unpad.checkpoint.files import writing_to
    from unpad.families import family
    from unpad.models.scratch import new_config, new_tokenizer
    from unpad.tasks import task as find_task

    place, kind, task = folder / "new", options["new_model"], find_task(options["task"])
    heads = family(kind, "new_model").heads
    if task.head not in heads:
        wrong = f"{kind} models have no such head as {task.name} needs"
        raise ArgumentError(f"new_model: {wrong}; they have {', '.join(heads)}")
    if options["resume"] and (place / "config.json").is_file():
        return str(place)
    values = _values(options["new_config"] or "")
    new_config(kind, None, **values)  # slips are told before the tokenizer is trained
    languages = {options["source_lang"], options["target_lang"]} - {None}
    size = 8000 if options["vocab_size"] is None else options["vocab_size"]
    tokenizer = new_tokenizer(kind, _texts(rows, columns, languages), size)
    config = new_config(kind, tokenizer, **values)
    say(f"a new {kind} model with {len(tokenizer)} tokens; its configuration and tokenizer are in {place}")
    with writing_to(place):
        tokenizer.save_pretrained(place)
        config.save_pretrained(place)
    return str(place)


def _values(text: str) -> dict[str, Any]:
    """The values of "n_layer=6,tie_word_embeddings=true"."""
    import yaml

    parts = [part.partition("=") for part in text.split(",") if part.strip()]
    if wrong := [name for name, equals, _ in parts if not equals]:
        raise ArgumentError(f"new_config: {wrong[0].strip()!r} is not KEY=VALUE; write such as n_layer=6,n_embd=384")
    return {name.strip(): yaml.safe_load(value) for name, _, value in parts}


def _texts(rows: Any, columns: Any, languages: set[str]) -> Iterator[str]:
    """The texts of the columns; of dictionaries by language those of `languages` (all where none of them is there)."""
    for name in dict.fromkeys(columns.used):
        for value in rows[name]:
            parts = [value]
            if isinstance(value, dict):
                parts = [text for language, text in value.items() if language in (languages & value.keys() or value)]
            yield from (text for text in parts if isinstance(text, str))


def set_writing(model: Any, task: Any, options: dict[str, Any]) -> None:
    """Put `num_beams` and `max_new_tokens` into the model's settings of generation."""
    from unpad.generate.settings import settle

    given = {name: options[name] for name in ("num_beams", "max_new_tokens") if options[name] is not None}
    if given and not task.generates:
        raise ArgumentError(f"{next(iter(given))} is no option of {task.name}, whose models write no texts")
    if given:
        settle(model.generation_config, model.config, None, given)  # refuses what cannot be
    if "max_new_tokens" in given:
        model.generation_config.max_length = None
    for name, value in given.items():
        setattr(model.generation_config, name, value)


def asking(task: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a pipeline by which texts are read as in the run with these options."""
    longest = options.get("max_source_length")
    found = {
        "prefix": options.get("prefix"), "src_lang": options.get("source_lang"), "tgt_lang": options.get("target_lang"),
        "max_source_length": options.get("max_length") if longest is None else longest,
    }  # fmt: skip
    return {name: value for name, value in found.items() if name in task.options and value is not None}


@contextmanager
def naming(data: str, splits: Splits | None = None) -> Iterator[None]:
    """Mistakes in the data get its name, and advice about options in the words of a command line ("--text_column", not "text=").
    `splits` whose parts were read apart: rows are counted as in the file, before some were held out."""
    try:
        yield
    except DataError as error:
        text = re.sub(r"\b(text|text_pair|label)=", r"--\1_column", str(error))
        text = re.sub(r"\b(bad_answers|empty_targets)='drop'", r"--\1 drop", text)
        text = re.sub(r"\b(source_lang|target_lang)=", r"--\1", text)
        if splits is not None and splits.kept is not None:
            rows = {"train": splits.kept, "validation": splits.held}
            named = r"\brow (\d+) of '(train|validation)'"
            text = re.sub(named, lambda m: f"row {rows[m[2]][int(m[1])]} of 'train'", text)
        raise DataError(f"{data}: {text}") from None


def slug(data: str, data_name: str | None = None) -> str:
    """A short name for a data set that can be part of a folder's name."""
    path = Path(data)
    text = path.name.split(".")[0] if os.path.exists(data) or path.is_absolute() or data.startswith(".") else data
    return re.sub(r"[^\w.]+", "-", f"{text} {data_name or ''}").strip("-.").lower() or "data"


def _split(raw: Any, split: str, data: str, data_name: str | None) -> Any:
    from unpad.data.load import load_dataset

    if split in raw:
        return raw[split]
    if "[" in split or "+" in split:
        return load_dataset(data, data_name, split=split)
    raise DataError(f"{data!r} has no split {split!r}{nearest(split, raw)}; its splits are: {listing(raw)}")
