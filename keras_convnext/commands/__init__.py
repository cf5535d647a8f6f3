"""The commands of `keras-convnext`: one file each, and what several of them need.

A command takes the parsed arguments and returns the exit code. Keras is imported inside the
functions that need a model.
"""


class UsageError(Exception):
    """The command line asks for something that cannot be meant."""
