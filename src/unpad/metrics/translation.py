"""BLEU and chrF of generated texts (Post, 2018; Popović, 2015), by sacrebleu, which is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.metrics._metric import Kept, Metric


class Texts(Kept):
    """Generated texts and the lists of their references, kept whole: only `compute` says how to cut them into words."""

    even = True
    """Whether every prediction must have as many references as the first one."""

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch: texts, and for each its reference (a text) or its references (a list of texts)."""
        found, truth = as_texts(predictions, "prediction"), as_texts(references, "reference", several=True)
        if len(found) != len(truth):
            needed = "Pass one text, or one list of texts, for each prediction"
            raise DataError(f"there are {len(found)} predictions but {len(truth)} references. {needed}.")
        expected = len((self.references or truth or [[]])[0])
        for i, row in enumerate(truth):
            if self.even and len(row) != expected:
                counts = f"reference {i} of the batch has {len(row)} texts, but the first of all had {expected}"
                raise DataError(f"{counts}. Pass the same number for every prediction.")
        super().add([row[0] for row in found], truth)


class Bleu(Metric):
    """BLEU of a whole corpus."""

    name = "sacrebleu"
    accumulator = Texts

    def result(
        self, state: Texts, *, smooth_method: str = "exp", smooth_value: float | None = None, force: bool = False,
        lowercase: bool = False, tokenize: str | None = None, use_effective_order: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """`{"score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len", "signature"}`; the score is in percent.

        `tokenize` is "13a" unless given ("zh", "intl", "char", ...), `smooth_method` "exp", "floor", "add-k" or "none";
        `force` says that texts which look tokenized are meant so; `use_effective_order` suits corpora of short texts.
        """
        from sacrebleu.metrics.bleu import BLEU

        methods: Any = BLEU.SMOOTH_DEFAULTS
        choices = (("tokenize", tokenize or "13a", BLEU.TOKENIZERS), ("smooth_method", smooth_method, methods))
        for option, value, known in choices:
            if value not in known:
                near = nearest(value, known)
                raise ArgumentError(f"{option}={value!r} is unknown{near}; there are: {listing(known)}.")
        try:
            bleu = BLEU(lowercase, force, tokenize, smooth_method, smooth_value, effective_order=use_effective_order)
        except (ImportError, RuntimeError, OSError) as error:  # some need a package more, some a file from the network
            why = f"{' '.join(str(error).split())} Or pass another tokenize=."
            raise ArgumentError(f"tokenize={tokenize!r} cannot be used here: {why}") from None
        references = [*zip(*state.references, strict=True)]  # all first references, then all second ones, ...
        score = bleu.corpus_score(state.predictions, references)
        names = ("score", "counts", "totals", "precisions", "bp", "sys_len", "ref_len")
        return {name: getattr(score, name) for name in names} | {"signature": str(bleu.get_signature())}


class Chrf(Metric):
    """chrF of a whole corpus; with `word_order=2` it is chrF++."""

    name = "chrf"
    accumulator = Texts

    def result(
        self, state: Texts, *, char_order: int = 6, word_order: int = 0, beta: int = 2, lowercase: bool = False
    ) -> dict[str, Any]:
        """`{"score", "char_order", "word_order", "beta"}`, score in percent; recall weighs `beta` times precision."""
        from sacrebleu.metrics.chrf import CHRF

        for option, value, least in (("char_order", char_order, 1), ("word_order", word_order, 0), ("beta", beta, 1)):
            if not isinstance(value, int) or value < least:
                raise ArgumentError(f"{option}={value!r} is not allowed; pass a whole number of {least} or more.")
        references = [*zip(*state.references, strict=True)]
        score = CHRF(char_order, word_order, beta, lowercase).corpus_score(state.predictions, references)
        return {"score": score.score, "char_order": char_order, "word_order": word_order, "beta": beta}


def as_texts(values: Any, what: str, several: bool = False) -> list[list[str]]:
    """A list of one text per example, or of `several`, or a DataError that calls the wrong one a `what`."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise DataError(f"the {what}s are {values!r:.40}. Pass a list with one entry per example.")
    rows = list(values)
    found = [list(row) if several and isinstance(row, list | tuple) else [row] for row in rows]
    for i, row in enumerate(found):
        if not row or not all(isinstance(text, str) for text in row):
            needed = "Join tokens to a text first, and turn ids into texts with tokenizer.batch_decode"
            raise DataError(f"{what} {i} of the batch is {rows[i]!r:.60}, not a text{' or texts' * several}. {needed}.")
    return found
