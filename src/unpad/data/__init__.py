"""Data: reading data sets, the bundled one, token stores, samplers and collators."""
