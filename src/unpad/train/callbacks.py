"""Callbacks: what watches a run and may steer it. Their state is part of every checkpoint."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from unpad.errors import ArgumentError
from unpad.notices import say
from unpad.train.arguments import TrainingArguments as Args
from unpad.train.notebook import NOT_SHOWN, NotebookView, in_notebook
from unpad.train.state import TrainerControl as Control
from unpad.train.state import TrainerState as State


class TrainerCallback:
    """Base of callbacks. Every event gets the arguments, the state and the control of the run, and keywords:
    `model` always, `logs` in on_log, `metrics` in on_evaluate. `state_dict` is saved and given back on resume."""

    reads_model: ClassVar[bool] = True
    """It may look at the model: False spares bringing the word vectors together before each of its events."""

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """Before the first step (or the first after a resume)."""

    def on_epoch_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After an optimizer step."""

    def on_log(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After a record was logged (`logs`)."""

    def on_evaluate(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After an evaluation (`metrics`)."""

    def on_save(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After a checkpoint was written."""

    def on_epoch_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After the last step of an epoch."""

    def on_train_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        """After the last step of the run."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values to be saved with each checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class EarlyStoppingCallback(TrainerCallback):
    """Stop when `metric_for_best_model` has not improved by more than `early_stopping_threshold` in
    `early_stopping_patience` evaluations. The count survives a resume."""

    reads_model = False

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0) -> None:
        if early_stopping_patience < 1:
            raise ArgumentError(f"early_stopping_patience={early_stopping_patience} must be 1 or more evaluations")
        self.patience, self.threshold = early_stopping_patience, early_stopping_threshold
        self.best: float | None = None
        self.waited = 0

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if args.eval_strategy == "no":
            raise ArgumentError("EarlyStoppingCallback needs evaluations; set eval_strategy='epoch' or 'steps'")
        if state.global_step == 0:  # another run of the same Trainer
            self.best, self.waited = None, 0

    def on_evaluate(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        value = kwargs["metrics"].get(args.best_metric)
        if value is None:
            found = ", ".join(kwargs["metrics"])
            what = f"early stopping watches {args.best_metric}, but the evaluation gave {found}"
            raise ArgumentError(f"{what}; set metric_for_best_model=")
        gain = 0.0 if self.best is None else (value - self.best if args.best_is_greatest else self.best - value)
        if self.best is None or gain > self.threshold:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            since = f"has not improved on {self.best:.4f} in {self.waited} evaluations"
            say(f"stopping early at step {state.global_step}: {args.best_metric} {since}")
            control.should_training_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited = state["best"], state["waited"]


class ProgressCallback(TrainerCallback):
    """Progress: steps, loss, learning rate, tokens per second, time left.

    In terminals a bar, and a line for each evaluation; in notebooks a bar above the table of losses and metrics.
    """

    reads_model = False

    def __init__(self) -> None:
        self._view: _Bar | NotebookView | None = None
        self._tokens, self._shown, self._since = 0, 0.0, 0.0

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._view = NotebookView(args, state) if in_notebook() else _Bar(state)
        self._tokens, self._since = state.tokens, time.perf_counter()

    def on_step_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        assert self._view is not None
        now, figures = time.perf_counter(), None
        if now - self._shown > 0.5:  # twice a second: reading the loss costs a synchronisation on a GPU
            self._shown = now
            rate = (state.tokens - self._tokens) / max(now - self._since, 1e-9)
            loss, learning_rate = float(kwargs["loss"]), kwargs["learning_rate"]
            figures = {"loss": f"{loss:.4f}", "lr": f"{learning_rate:.1e}", "tok/s": f"{rate:,.0f}"}
        self._view.step(state, figures)

    def on_log(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self._view is not None:
            self._view.logged(state)

    def on_evaluate(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self._view is not None:
            self._view.evaluated(state, kwargs["metrics"])

    def on_train_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self._view is not None:
            self._view.close(state)
            self._view = None


class _Bar:
    """A line of the terminal that follows a run, and lines above it for evaluations."""

    def __init__(self, state: State) -> None:
        from tqdm.auto import tqdm

        steps = {"total": state.max_steps, "initial": state.global_step}
        self._bar = tqdm(**steps, unit="step", desc="train", dynamic_ncols=True)

    def step(self, state: State, figures: dict[str, str] | None) -> None:
        self._bar.update(1)
        if figures is not None:
            self._bar.set_postfix(figures, refresh=False)

    def logged(self, state: State) -> None:
        """The bar shows it already."""

    def evaluated(self, state: State, metrics: dict[str, Any]) -> None:
        numbers = [(k, v) for k, v in metrics.items() if isinstance(v, float)]
        shown = [f"{k} {v:.4f}" for k, v in numbers if not k.endswith(NOT_SHOWN)]
        self._bar.write(f"step {state.global_step}: " + "  ".join(shown))

    def close(self, state: State) -> None:
        self._bar.close()


class TensorBoardCallback(TrainerCallback):
    """Every logged number as a TensorBoard scalar under `output_dir/runs`."""

    reads_model = False

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            how = "run: pip install 'unpad[trackers]'"
            raise ArgumentError(f"report_to='tensorboard' needs the package tensorboard; {how}") from None
        self._make = SummaryWriter
        self._writer: Any = None

    def on_log(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self._writer is None:
            self._writer = self._make(f"{args.output_dir}/runs/{args.run_name or 'run'}")
        for name, value in kwargs["logs"].items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, state.global_step)

    def on_train_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self._writer is not None:
            self._writer.close()


TRACKERS = {"tensorboard": TensorBoardCallback}
