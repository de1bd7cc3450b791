"""What turns a model and batches into steps: device, precision, optimizer, schedules, accumulation, saved state."""
