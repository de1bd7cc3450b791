"""The tasks of the GLUE benchmark (Wang et al., 2018) by name: columns, label names and the split to judge on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GlueTask:
    """What a GLUE task is. Its figures are also `load_metric("glue", name)`."""

    text: str
    """Column of the (first) text."""
    text_pair: str | None
    """Column of the second text."""
    label_names: tuple[str, ...] | None
    """Names of the labels 0, 1, ...; None for numbers from 0 to 5 (regression)."""
    eval_split: str = "validation"
    """The split to judge on; the labels of the test splits are hidden."""


_ENTAILED = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")
GLUE: dict[str, GlueTask] = {
    "cola": GlueTask("sentence", None, ("unacceptable", "acceptable")),
    "sst2": GlueTask("sentence", None, ("negative", "positive")),
    "mrpc": GlueTask("sentence1", "sentence2", ("not_equivalent", "equivalent")),
    "qqp": GlueTask("question1", "question2", ("not_duplicate", "duplicate")),
    "stsb": GlueTask("sentence1", "sentence2", None),
    "mnli": GlueTask("premise", "hypothesis", _NLI, eval_split="validation_matched"),
    "mnli_matched": GlueTask("premise", "hypothesis", _NLI),
    "mnli_mismatched": GlueTask("premise", "hypothesis", _NLI),
    "qnli": GlueTask("question", "sentence", _ENTAILED),
    "rte": GlueTask("sentence1", "sentence2", _ENTAILED),
    "wnli": GlueTask("sentence1", "sentence2", ("not_entailment", "entailment")),
    "ax": GlueTask("premise", "hypothesis", _NLI, eval_split="test"),
}
"""Name of a configuration of the data set "glue" -> the task."""


def glue_of(name: str | None, text: str, text_pair: str | None) -> GlueTask | None:
    """The GLUE task of the configuration `name` of a data set, if these are its columns of texts."""
    found = GLUE.get(name or "")
    return found if found is not None and (found.text, found.text_pair) == (text, text_pair) else None
