"""Training: arguments, the loop, evaluation, callbacks, curves. The Trainer is a client of the Accelerator."""
