"""`Seq2SeqTrainer`: the Trainer whose evaluations let an encoder-decoder write, and judge the texts.

It generates from the token store without padding, in the precision of the run; a streaming metric that `generates` makes the plain
Trainer do the same. N rows, S tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unpad.generate.settings import GenerationConfig
from unpad.train.arguments import TrainingArguments, accept_old_spellings
from unpad.train.evaluate import PredictionOutput
from unpad.train.trainer import Trainer


@dataclass
class Seq2SeqTrainingArguments(TrainingArguments):
    """`TrainingArguments` and how evaluations generate."""

    predict_with_generate: bool = False
    """Evaluate and predict with generated texts; False: with the loss alone."""
    generation_max_length: int | None = None
    """`max_length` of evaluations that are not given one; None: the model's own length, or that of the longest target in training."""
    generation_num_beams: int | None = None
    """`num_beams` of evaluations that are not given any; None: the model's own."""
    generation_config: Any = None
    """A `GenerationConfig`, or the name of a folder or Hub id with one, that replaces the model's own."""

    def to_dict(self) -> dict[str, Any]:
        found = self.generation_config
        return {**super().to_dict(), "generation_config": found.to_dict() if hasattr(found, "to_dict") else found}


accept_old_spellings(Seq2SeqTrainingArguments)


class Seq2SeqTrainer(Trainer):
    """A `Trainer`, with the same arguments, for models that answer a text with another (see `Seq2SeqTrainingArguments`).

    With `predict_with_generate`, `compute_metrics` gets an `EvalPrediction` of `predictions` int64 [N, S], generated ids behind the
    decoder's start token, filled up with the pad token, and `label_ids` [N, S'], filled up with -100; or it is a streaming
    metric that `generates`, which gets the new tokens and labels as lists of arrays.
    """

    def __init__(self, model: Any = None, args: TrainingArguments | None = None, *more: Any, **named: Any) -> None:
        super().__init__(model, Seq2SeqTrainingArguments() if args is None else args, *more, **named)
        given = getattr(self.args, "generation_config", None)
        if given is not None:
            given = given if isinstance(given, GenerationConfig) else GenerationConfig.from_pretrained(given)
            self.model.generation_config = given
        self._writes()  # refuses now what cannot write

    def evaluate(
        self, eval_dataset: Any = None, metric_key_prefix: str = "eval", **generation: Any
    ) -> dict[str, float]:
        """Loss and metrics as `Trainer.evaluate`; `generation` are settings of `GenerationConfig` (max_length=, num_beams=, ...)."""
        self._generation = self._settings(generation)
        return super().evaluate(eval_dataset, metric_key_prefix)

    def predict(self, test_dataset: Any, metric_key_prefix: str = "test", **generation: Any) -> PredictionOutput:
        """Generated ids [N, S] (see above) in the order of `test_dataset`, labels [N, S'] (None where it has none) and metrics."""
        self._generation = self._settings(generation)
        return super().predict(test_dataset, metric_key_prefix)

    def _settings(self, given: dict[str, Any]) -> GenerationConfig:
        """What a call asks for, before what the arguments ask for."""
        most, beams = (getattr(self.args, f"generation_{name}", None) for name in ("max_length", "num_beams"))
        defaults = {} if "max_new_tokens" in given else {"max_length": most}
        return GenerationConfig(**{**defaults, "num_beams": beams, **given})
