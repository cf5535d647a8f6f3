"""What errors of other libraries say, in one line."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or the name of its class if that is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
