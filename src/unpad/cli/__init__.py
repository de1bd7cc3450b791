"""The command line: one file per command, imported when it is called.

`command()` gives its options, `run(argv)` does it and returns the exit code.
"""
