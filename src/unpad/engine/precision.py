"""Which number format the matrix products run in, chosen by what the hardware has.

`auto` takes bf16 under autocast with fp32 weights where the hardware multiplies bf16 natively (CPUs with AVX512-BF16 or AMX, GPUs
from compute capability 8.0), else fp32. Emulated bf16 is slower than fp32 and is never chosen.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from unpad.engine import one_of
from unpad.notices import say_once

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
_SPELLINGS = {"no": "fp32", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Precision:
    """A number format and why it was chosen."""

    name: str
    reason: str

    def autocast(self, device_type: str) -> Any:
        """The context in which a forward pass runs."""
        import torch

        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device_type, dtype=torch.bfloat16 if self.name == "bf16" else torch.float16)


def has_native_bf16(device: Any) -> bool:
    """Whether `device` multiplies bf16 matrices in hardware."""
    import torch

    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return False


def choose_precision(asked: str, device: Any) -> Precision:
    """The precision for `asked` on `device`. Raises ArgumentError for a name that is not in PRECISIONS."""
    name = _SPELLINGS.get(asked, asked)
    one_of("precision", name, PRECISIONS)
    if name == "fp16" and device.type == "cpu":
        say_once("fp16 needs a GPU; this CPU takes precision='auto' instead")
        name = "auto"
    if name != "auto":
        return Precision(name, "asked for")
    if has_native_bf16(device):
        return Precision("bf16", f"auto: this {_kind(device)} multiplies bf16 natively; weights stay fp32")
    return Precision("fp32", f"auto: this {_kind(device)} has no native bf16")


def _kind(device: Any) -> str:
    return {"cpu": "CPU", "cuda": "GPU"}.get(device.type, device.type)
