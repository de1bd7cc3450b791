"""Text to text: any task whose rows are an input and what is to be written for it."""

from __future__ import annotations

from unpad.metrics import load_metric
from unpad.tasks._generation import TextToText
from unpad.tasks._task import Part


class Text2TextGeneration(TextToText):
    """See `TextToText`."""

    name = "text2text-generation"
    default_model = "t5-base"
    key = "generated"
    sources = ("input", "inputs", "source", "text", "prompt", "question", "instruction")
    targets = ("target", "targets", "output", "outputs", "label", "answer", "response", "completion")

    def parts(self) -> list[Part]:
        """chrF, which needs no words."""
        return [Part("chrf", load_metric("chrf"), "score")]


TASK = Text2TextGeneration()
