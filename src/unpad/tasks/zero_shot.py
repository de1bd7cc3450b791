"""Zero-shot classification: labels that are chosen at the call, by a model that was trained to tell whether a text entails another.

N texts, K candidate labels, C labels of the model. Each text is read with each label, written as a sentence by a template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unpad.errors import ArgumentError, DataError, listing
from unpad.tasks._task import Features, Reader
from unpad.tasks._untrained import Untrained

if TYPE_CHECKING:
    from unpad.config import ModelConfig

TEMPLATE = "This example is {}."


class ZeroShotClassification(Untrained):
    """See `Task`. Options: `candidate_labels` (a list, or one text with commas), `hypothesis_template` (a sentence with {} for the
    label), `multi_label` (each label is judged by itself, else they share a probability of 1)."""

    name = "zero-shot-classification"
    head = "sequence-classification"
    auto_class = "AutoModelForSequenceClassification"
    default_model = "facebook/bart-large-mnli"
    options = ("candidate_labels", "hypothesis_template", "multi_label")
    positional = ("candidate_labels",)
    pairs = False
    refusal = (
        "zero-shot-classification is not trained or evaluated itself; use text-classification with pairs labelled entailment, neutral and "
        "contradiction (such as MNLI), whose model then answers here"
    )

    def inputs(self, inputs: Any, options: dict[str, Any]) -> Any:
        """The texts, which may also come as `sequences=`."""
        return options.pop("sequences", inputs)

    def checked(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`candidate_labels` as a list. Raises ArgumentError for an empty one, for what is no text, and for a template without {}."""
        out = dict(options)
        if "candidate_labels" in out:
            labels = out["candidate_labels"]
            if isinstance(labels, str):
                labels = [part.strip() for part in labels.split(",") if part.strip()]
            if not isinstance(labels, (list, tuple)) or not labels:
                raise ArgumentError(
                    f"candidate_labels={out['candidate_labels']!r:.60} names no label; give a list of texts, or 'a, b'"
                )
            odd = next((one for one in labels if not isinstance(one, str) or not one.strip()), None)
            if odd is not None or None in labels:
                raise ArgumentError(f"candidate_labels holds {odd!r:.40}, which is no label; give texts")
            out["candidate_labels"] = list(labels)
        template = out.get("hypothesis_template", TEMPLATE)
        if not isinstance(template, str) or "{}" not in template:
            raise ArgumentError(
                f"hypothesis_template={template!r:.80} has no {{}} where the label goes; write e.g. {TEMPLATE!r}"
            )
        if not isinstance(out.get("multi_label", False), bool):
            raise ArgumentError(f"multi_label={out['multi_label']!r} must be True or False")
        return out

    def encode(self, inputs: Sequence[Any], reader: Reader, options: Mapping[str, Any]) -> Features:
        """N K pairs of text and label sentence; of long ones the text is cut. `notes` are the texts."""
        if reader.config is not None:
            entailment(reader.config)
        if "candidate_labels" not in options:
            raise ArgumentError("zero-shot-classification needs candidate_labels=; give a list of texts, or 'a, b'")
        for number, text in enumerate(inputs, reader.first):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"input {number} is {text!r:.40}, not a text that could be classified; leave it out")
        template = options.get("hypothesis_template", TEMPLATE)
        sentences = [template.replace("{}", label) for label in options["candidate_labels"]]
        pairs = ([text for text in inputs for _ in sentences], sentences * len(inputs))
        try:
            cut = "only_first" if reader.truncation is True else reader.truncation
            found = replace(reader, truncation=cut).features(*pairs)
        except DataError:  # nothing of the text is left
            raise ArgumentError(
                f"the candidate label {max(options['candidate_labels'], key=len)!r:.40} in its template is too long for the {reader.limit} "
                "tokens of the model; shorten it"
            ) from None
        return replace(found, notes=list(inputs), cut=np.unique(found.cut // len(sentences)))

    def answers(self, found: Any, features: Features, config: ModelConfig, options: Mapping[str, Any]) -> list[Any]:
        """For each text `{"sequence": text, "labels": names, "scores": probabilities}`, best first, as in `transformers`.

        One probability is shared by all labels (softmax over their entailment logits); with `multi_label`, or for a single label,
        each has its own (softmax over entailment and the model's first other label, the last where entailment is the first).
        """
        import torch

        labels, right = options["candidate_labels"], entailment(config)
        logits_NKC = found.view(len(features.notes), len(labels), -1)
        if options.get("multi_label") or len(labels) == 1:
            wrong = -1 if right == 0 else 0
            scores_NK = torch.stack([logits_NKC[..., wrong], logits_NKC[..., right]], -1).softmax(-1)[..., 1]
        else:
            scores_NK = logits_NKC[..., right].softmax(-1)
        answers = []
        for text, scores in zip(features.notes, scores_NK.numpy(), strict=True):
            order = np.argsort(-scores, kind="stable")
            answers.append({"sequence": text, "labels": [labels[i] for i in order], "scores": scores[order].tolist()})
        return answers


TASK = ZeroShotClassification()


def entailment(config: ModelConfig) -> int:
    """The label of the model that begins with "entail", in any case. Raises ArgumentError where there is none, or two."""
    found = [i for name, i in config.label2id.items() if str(name).lower().startswith("entail")]
    if len(found) != 1:
        raise ArgumentError(
            f"zero-shot-classification needs a model with one label that begins with 'entail', this one has {len(found)} among: "
            f"{listing(config.label2id)}; give a model that was trained on natural language inference (such as MNLI)"
        )
    return found[0]
