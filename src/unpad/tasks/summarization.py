"""Summarization: a short text for a long one (a headline, a subject, a summary), judged by ROUGE beside the lead of the text itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpad.metrics import load_metric
from unpad.tasks._generation import Figures, TextToText
from unpad.tasks._task import Judge, Part

if TYPE_CHECKING:
    from unpad.config import ModelConfig

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
STEMMED = {"use_stemmer": True}


class Summarization(TextToText):
    """See `TextToText`. The setting `language` tells how sentences are split (default "en")."""

    name = "summarization"
    default_model = "sshleifer/distilbart-cnn-12-6"
    settings = (*TextToText.settings, "language")
    key = "summary"
    sources = ("document", "article", "text", "body", "email_body", "dialogue", "review_body", "content", "source")
    targets = (
        "summary", "highlights", "subject_line", "subject", "headline", "review_title", "title", "abstract", "target",
    )  # fmt: skip

    def parts(self) -> list[Part]:
        metric = load_metric("rouge")
        return [Part(kind, metric, kind, STEMMED) for kind in KINDS]

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge | None:
        """`rouge1`, `rouge2`, `rougeL`, `rougeLsum` with stemming, in percent, `gen_len`, and the same figures as `lead3_...` if the first
        three sentences of each text were its summary. None without summaries to compare with."""
        return None if notes is None else _Rouge(self.parts(), notes)


class _Rouge(Figures):
    scale = 100.0

    def shaped(self, text: str) -> str:
        """One sentence a line, which is what rougeLsum compares."""
        from unpad.metrics.rouge import split_sentences

        return "\n".join(split_sentences(text, self.notes.language))

    def compute(self) -> dict[str, float]:
        from unpad.metrics.rouge import lead_baseline

        notes, every = self.notes, len(self.sizes) == len(self.notes.targets)
        if every and not notes.known:  # the same for every model and every evaluation
            right = list(map(self.shaped, notes.targets))
            found = lead_baseline(notes.sources, right, load_metric("rouge"), notes.language, **STEMMED)
            notes.known.update({f"lead3_{kind}": self.scale * float(found[kind]) for kind in KINDS})
        return {**super().compute(), **(notes.known if every else {})}


TASK = Summarization()
