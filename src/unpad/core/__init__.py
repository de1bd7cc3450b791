"""The one transformer: packed tokens in, hidden states out. Families describe it, heads read it, nothing subclasses it."""
