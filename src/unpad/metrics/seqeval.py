"""Precision, recall and F1 of the entities that tag sequences spell, and the accuracy of the tags.

Figures and readings of tags are those of the package `seqeval` (the reference in the tests): without `mode` tags are
read as the CoNLL evaluation does, which forgives wrong prefixes; `mode="strict"` reads them by the rules of a scheme.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import contains, eq
from typing import Any

from unpad.errors import ArgumentError, DataError, listing, nearest
from unpad.metrics._metric import Accumulator, Metric, check_lengths
from unpad.notices import say_once

Span = tuple[str, int, int]
"""Type, first position, position after the last."""

SCHEMES = {
    "IOB1": ("IOB", "OI* II! BI* IB= BB=", "BI= II=", "II! IO* IB* BO* BI! BB="),
    "IOB2": ("IOB", ".B*", "BI= II=", "IO* II! IB* BO* BI! BB*"),
    "IOE1": ("IOE", "OI* II! EI* EE=", "II= IE=", "II! IO* IE! EI= EE="),
    "IOE2": ("IOE", "OI* OE* EI* EE* II! IE!", "II= IE=", "E.*"),
    "IOBES": ("IOBES", ".B* .S*", "BI= BE= II= IE=", "S.* E.*"),
    "BILOU": ("BILOU", ".B* .U*", "BI= BL= II= IL=", "U.* L.*"),
}
"""Prefixes of each scheme, then what starts an entity, what continues it, and what must follow for it to count.

A rule is the prefix before, the prefix now (`.`: any), and whether both types are the same (`=`), differ (`!`) or either (`*`).
"""


class Segments(Accumulator):
    """How often each pair of (reference, prediction) stretches between two `O` of both sides occurred.

    Entities never reach over such an `O`, so these counts hold what every reading needs, and memory grows with the
    variety of the stretches, not with the number of sentences.
    """

    def __init__(self) -> None:
        self.pairs: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
        self.tokens = self.right = 0

    def add(self, predictions: Any, references: Any) -> None:
        """Take one batch of sentences, each a list of tag names."""
        found, truth = _sentences(predictions, "predictions"), _sentences(references, "references")
        check_lengths(len(found), len(truth))
        for i, (p, r) in enumerate(zip(found, truth, strict=True)):
            if len(p) != len(r):
                counts = f"{len(p)} predicted tags but {len(r)} reference tags"
                raise DataError(f"sentence {i} of the batch has {counts}. Leave out the same positions (label -100).")
        for p, r in zip(found, truth, strict=True):
            start = 0
            for end, pair in enumerate([*zip(r, p, strict=True), ("O", "O")]):
                if pair == ("O", "O"):
                    if end > start:
                        self.pairs[tuple(r[start:end]), tuple(p[start:end])] += 1
                    start = end + 1
            self.tokens += len(r)
            self.right += sum(map(eq, p, r))
        self.examples += len(truth)


class Seqeval(Metric):
    """Entity figures per type and over all, from sentences of tag names."""

    name = "seqeval"
    accumulator = Segments

    def result(
        self, state: Segments, *, mode: str | None = None, scheme: str | None = None, suffix: bool = False,
        zero_division: float | str = "warn",
    ) -> dict[str, Any]:  # fmt: skip
        """`{type: {"precision", "recall", "f1", "number"}, ..., "overall_precision", ..., "overall_accuracy"}`.

        `mode="strict"` reads by the rules of `scheme`, a name of `SCHEMES` (by default what the references show);
        with `suffix` the prefix letter stands last (`PER-B`); `zero_division` is the value where nothing was
        predicted or nothing was true: 0 (`"warn"` says so once) or 1.
        """
        if mode not in (None, "strict"):
            raise ArgumentError(f"mode={mode!r} is unknown; pass None or 'strict'.")
        if zero_division not in (0, 1, "warn"):
            raise ArgumentError(f"zero_division={zero_division!r} is not allowed; pass 0, 1 or 'warn'.")
        rules = (scheme or _detect(state, suffix)) if mode else None
        hit, predicted, true = Counter[str](), Counter[str](), Counter[str]()
        for (r, p), times in state.pairs.items():
            truth, found = set(entity_spans(r, rules, suffix)), set(entity_spans(p, rules, suffix))
            for counts, spans in ((hit, truth & found), (predicted, found), (true, truth)):
                for kind, _, _ in spans:
                    counts[kind] += times
        kinds = sorted({*predicted, *true})
        if zero_division == "warn" and not all(predicted[kind] and true[kind] for kind in kinds or [""]):
            what = "seqeval divides by zero for a type that was never predicted or never occurs; it counts as 0 there"
            say_once(f"{what}. Pass zero_division=0 or 1 to choose.", key="zero_division seqeval")
        fill, figures = float(zero_division == 1), dict[str, Any]()
        for kind in kinds:
            figures[kind] = _figures(hit[kind], predicted[kind], true[kind], fill) | {"number": true[kind]}
        overall = _figures(hit.total(), predicted.total(), true.total(), fill)
        overall["accuracy"] = state.right / state.tokens if state.tokens else math.nan
        return figures | {f"overall_{name}": value for name, value in overall.items()}


def entity_spans(tags: Sequence[str], scheme: str | None = None, suffix: bool = False) -> list[Span]:
    """The entities of one sentence, e.g. `[("PER", 0, 2)]` for `["B-PER", "I-PER", "O"]`.

    Without a `scheme` any mixture of B, I, E, S and O is read the forgiving way of the CoNLL evaluation; with one
    (a name of `SCHEMES`) only well-formed entities count, and a prefix of another scheme is an ArgumentError.
    """
    if scheme is not None and scheme not in SCHEMES:
        known = f"{nearest(scheme, SCHEMES)}; there are: {listing(SCHEMES)}"
        raise ArgumentError(f"scheme={scheme!r} is unknown{known}.")
    pairs = [(t[-1], t[:-1].strip("-") or "_") if suffix else (t[0], t[1:].strip("-") or "_") for t in tags]
    prefixes = SCHEMES[scheme][0] if scheme else "OBIES"
    for tag, (prefix, _) in zip(tags, pairs, strict=True):
        if prefix not in prefixes:
            odd = f"tag {tag!r} has none of the prefixes {', '.join(prefixes)}"
            if scheme:
                raise ArgumentError(f"{odd} of scheme {scheme}. Pass another scheme=, or mode=None.")
            say_once(f"seqeval: {odd}; is it a tag of an entity?", key="odd tag seqeval")
    return _strict(pairs, *SCHEMES[scheme][1:]) if scheme else _forgiving(pairs)


def _forgiving(pairs: list[tuple[str, str]]) -> list[Span]:
    spans, begin, last, last_kind = [], 0, "O", "_"
    for i, (prefix, kind) in enumerate([*pairs, ("O", "_")]):
        changed = kind != last_kind
        if last in "ES" or (last in "BI" and prefix in "BSO") or (last not in "O." and changed):
            spans.append((last_kind, begin, i))
        if prefix in "BS" or (last in "ESO" and prefix in "EI") or (prefix not in "O." and changed):
            begin = i
        last, last_kind = prefix, kind
    return spans


def _strict(pairs: list[tuple[str, str]], starts: str, continues: str, ends: str) -> list[Span]:
    spans, i, pairs = [], 1, [("O", "_"), *pairs, ("O", "_")]
    while i < len(pairs):
        begin, i = i, i + 1
        if _fits(starts, *pairs[begin - 1 : begin + 1]):
            while _fits(continues, *pairs[i - 1 : i + 1]):
                i += 1
            if _fits(ends, *pairs[i - 1 : i + 1]):
                spans.append((pairs[begin][1], begin - 1, i - 1))
    return spans


def _fits(rules: str, before: tuple[str, str], now: tuple[str, str]) -> bool:
    options = (f".{before[0]}", f".{now[0]}", "*=" if before[1] == now[1] else "*!")
    return any(all(map(contains, options, rule)) for rule in rules.split())


def _detect(state: Segments, suffix: bool) -> str:
    """The first scheme that has all prefixes of the references, one of which must be other than I and O."""
    seen = {tag[-1 if suffix else 0] for truth, _ in state.pairs for tag in truth}
    for name in ("IOB2", "IOE2", "IOBES", "BILOU"):
        if seen - {"I", "O"} and seen <= {*SCHEMES[name][0]}:
            return name
    prefixes = ", ".join(sorted(seen)) or "only O"
    raise ArgumentError(f"the prefixes of the references ({prefixes}) do not tell the scheme. Pass scheme=.")


def _figures(hit: int, predicted: int, true: int, fill: float) -> dict[str, float]:
    precision, recall = hit / predicted if predicted else fill, hit / true if true else fill
    f1 = 2 * precision * recall / ((precision + recall) or 1.0)
    return {"precision": precision, "recall": recall, "f1": f1}


def _sentences(values: Any, what: str) -> list[list[str]]:
    sentences = []
    for i, row in enumerate([values] if values is None or isinstance(values, str) else values):
        if isinstance(row, str) or not isinstance(row, Iterable):
            needed = "Pass a list of sentences, each a list of tag names"
            raise DataError(f"sentence {i} of the {what} is {row!r:.40}. {needed}.")
        sentences.append(list(row))
        for tag in sentences[-1]:
            if not isinstance(tag, str) or not tag:
                needed = f"Leave out labels of -100 and name the others, e.g. label_names[{tag!r:.40}]"
                raise DataError(f"sentence {i} of the {what} holds {tag!r:.40}, no name of a tag. {needed}.")
    return sentences
