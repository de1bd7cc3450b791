"""Where a run stands: step, epoch, history, best evaluation. Plain values only, so that it is saved as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TrainerState:
    """The position and history of a run; part of every checkpoint."""

    global_step: int = 0
    """Optimizer steps done."""
    max_steps: int = 0
    """Optimizer steps of the whole run."""
    epoch: float = 0.0
    """Passes over the data done, as a fraction."""
    log_history: list[dict[str, Any]] = field(default_factory=list)
    """Every logged record, in order."""
    best_metric: float | None = None
    """Best value of `metric_for_best_model` so far."""
    best_step: int | None = None
    """Step of that evaluation."""
    best_model_checkpoint: str | None = None
    """Folder of the checkpoint saved there."""
    loss_sum: float = 0.0
    """Sum of the losses since the last log line."""
    loss_count: int = 0
    """Number of steps in it."""
    total_loss: float = 0.0
    """Sum of the losses of all steps."""
    tokens: int = 0
    """Tokens trained on."""
    fingerprint: str = ""
    """Content of the training data: a run continues only on the same."""
    stream: dict[str, Any] | None = None
    """Where a stream of training data stands."""
    owes_evaluation: bool = False
    """The evaluation after this step was left because the run was asked to stop: it is the first thing that a continued run does."""
    stopped_early: bool = False
    """A callback has ended the run before its last step."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """The arguments that decide what step k computes; a run continues only under the same."""


@dataclass
class TrainerControl:
    """What callbacks may ask the loop to do next."""

    should_training_stop: bool = False
    should_log: bool = False
    should_evaluate: bool = False
    should_save: bool = False
