"""What the tasks share that only answer: their models have learnt another task, or have no head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from unpad.errors import ArgumentError
from unpad.tasks._task import Columns, Judge, Prepared, Task
from unpad.tasks.text_classification import TASK as FINDER

if TYPE_CHECKING:
    from unpad.config import ModelConfig


class Untrained(Task):
    """Base of these tasks. Training and judging them raise ArgumentError."""

    default_data = "helpdesk/tickets"
    refusal: ClassVar[str]
    """Why, and what to do instead."""

    def columns(
        self, dataset: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None, labelled: bool | None = None
    ) -> Columns:  # fmt: skip
        """The columns of the texts that a pipeline reads, found like those of text classification."""
        if labelled:
            raise ArgumentError(self.refusal)
        found = FINDER.columns(dataset, text, text_pair if self.pairs else None, labelled=False)
        return found if self.pairs else Columns(found.text)

    def prepare(self, *args: Any, **settings: Any) -> Prepared:
        raise ArgumentError(self.refusal)

    def metrics(self, config: ModelConfig, notes: Any = None) -> Judge:
        raise ArgumentError(self.refusal)
