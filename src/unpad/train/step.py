"""The gradients of one optimizer step: micro-batches forward and backward, shared out to the processes, halved where memory is short.

The loss of a step is the mean over its whole global batch: over all micro-batches of all processes. So it is the same however the
batch is cut, and a step that runs out of memory is computed again in halves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unpad.engine.accelerator import Accelerator
from unpad.engine.loader import move
from unpad.engine.optim import PreparedOptimizer
from unpad.errors import TrainingError
from unpad.notices import say
from unpad.train.feed import Feed, Micro, StreamFeed, loss_of


class Stepper:
    """Computes gradients of `model`, the module that training calls, step by step."""

    def __init__(self, engine: Accelerator, model: Any, optimizer: PreparedOptimizer) -> None:
        self.engine, self.model, self.optimizer = engine, model, optimizer
        self.halvings = 0

    def step(self, micros: list[Micro], feed: Feed | StreamFeed, stop: bool) -> tuple[Tensor, int, bool]:
        """Gradients of the mean loss over the global batch of which `micros` are this process's.

        Gives this process's part of that mean, on the device; the tokens of the global batch; and whether any process has `stop` set.
        """
        mine = (sum(micro.count for micro in micros), sum(micro.tokens for micro in micros), int(stop))
        count, tokens, stops = self.engine.world.sums(*mine)
        for _ in range(self.halvings):
            micros = _halved(micros, feed)
        while True:
            try:
                return self._gradients(micros, max(count, 1)), tokens, stops > 0
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                micros = self._smaller(micros, feed)

    def _smaller(self, micros: list[Micro], feed: Feed | StreamFeed) -> list[Micro]:
        """Half the micro-batches, twice as many. Raises TrainingError where that cannot help."""
        largest = max(micros, key=lambda micro: micro.tokens)
        rows = max(len(micro.rows) for micro in micros)
        if rows == 1:
            how = "use gradient_checkpointing=True, shorter rows or a smaller model"
            raise TrainingError(f"out of memory with a micro-batch of one row of {largest.tokens} tokens; {how}")
        if self._sent or self.engine.strategy.sharded:  # the others have begun to add up gradients with this one
            raise TrainingError(
                f"rank {self.engine.process_index} is out of memory with a micro-batch of {rows} rows; halve per_device_train_batch_size "
                "(the global batch stays the same), or use gradient_checkpointing=True"
            )
        self.optimizer.zero_grad()
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        self.halvings += 1
        if self.halvings == 1:
            say(
                f"out of memory with a micro-batch of {rows} rows and {largest.tokens} tokens: micro-batches are halved and twice as many "
                "from here on, which changes neither the global batch nor the result"
            )
        return _halved(micros, feed)

    def _gradients(self, micros: list[Micro], count: int) -> Tensor:
        engine, total = self.engine, None
        self._sent = False
        for i, micro in enumerate(micros, 1):
            if i < len(micros) and engine.num_processes > 1:
                with engine.strategy.apart(self.model):
                    part = self._backward(micro, count, False)
            else:
                part = self._backward(micro, count, engine.num_processes > 1)
            total = part if total is None else total + part
        assert total is not None
        return total

    _sent = False
    """Whether gradients of the step under way may have gone to other processes."""

    def _backward(self, micro: Micro, count: int, sends: bool) -> Tensor:
        """One micro-batch's part of the step's loss. `sends`: its backward pass sends the step's gradients to the other processes."""
        batch = move(micro.batch, self.engine.device)
        self._sent = sends and next(self.model.buffers(), None) is not None  # the forward pass sends those
        with self.engine.autocast():
            output = self.model(**batch) if isinstance(batch, dict) else self.model(batch)
        loss_sum = getattr(output, "loss_sum", None)
        if loss_sum is not None:
            part = loss_sum / count
        else:
            part = loss_of(output)
            if micro.count != count:
                part = part * (micro.count / count)
        if micro.empty or not micro.count:  # a mean over no label is not a number
            part = part.nan_to_num() * 0.0
        self._sent = sends
        # gradients are averaged over the processes, the loss is a sum over them
        self.engine.backward_raw(part * self.engine.num_processes if self.engine.num_processes > 1 else part)
        return part.detach()


def _halved(micros: list[Micro], feed: Feed | StreamFeed) -> list[Micro]:
    return [half for micro in micros for half in feed.halves(micro)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch or Python says that memory ran out, of a GPU or of the machine."""
    words = str(error)
    said = "out of memory" in words or "can't allocate memory" in words
    return said or isinstance(error, (torch.OutOfMemoryError, MemoryError))


def flos(model: nn.Module, tokens: int) -> float:
    """Floating-point operations of training on so many tokens: 6 for each weight outside the embeddings (Kaplan et al., 2020, table 1)."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return 6.0 * tokens * sum(p.numel() for p in model.parameters() if id(p) not in tables)
