"""A run with dropout that saves every other step, for tests that kill its processes: `elastic.py FOLDER STEPS`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from runs import trainer

if __name__ == "__main__":
    folder, steps = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    run = trainer("bert", folder / "run", 0.1, max_steps=steps, save_strategy="steps", save_steps=2, save_total_limit=2)
    (folder / f"pid-{os.environ.get('RANK', 0)}").write_text(str(os.getpid()))
    run.train()
    run.save_model()
    run.accelerator.print("finished", flush=True)
