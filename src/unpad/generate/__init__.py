"""Text that comes out of a model: settings, processors of the logits, search, and the loop that runs them without padding."""
