"""What a model answers: readable as attributes, as a dictionary and as a tuple, like the Hugging Face outputs."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


class ModelOutput(OrderedDict):
    """The fields that are not None, in order. `output.logits`, `output["logits"]` and `output[0]` all work.

    Beside the fields it carries `loss_sum` and `loss_count`, from which a training loop makes the loss of a global batch; both are
    None when no labels were given.
    """

    def __init__(self, loss_sum: Any = None, loss_count: Any = None, **fields: Any) -> None:
        super().__init__((name, value) for name, value in fields.items() if value is not None)
        self.__dict__["loss_sum"] = loss_sum
        self.__dict__["loss_count"] = loss_count
        self.__dict__["_absent"] = frozenset(name for name, value in fields.items() if value is None)

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        if name in self.__dict__.get("_absent", ()):
            return None
        raise AttributeError(f"the output has no {name!r}; it has {', '.join(self)}")

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are present, as a tuple."""
        return tuple(self.values())
