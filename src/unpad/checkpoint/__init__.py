"""Checkpoints: crash-safe folders (`files`), loading into models, saving from them."""
