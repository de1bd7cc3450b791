"""What turns a model and batches into steps: device, precision, optimizer, schedules, accumulation, saved state."""

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""Names that `TrainingArguments.optim` takes; here, so that arguments can be checked without loading PyTorch."""
