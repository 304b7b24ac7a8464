"""Errors that a user can fix."""


class InputError(ValueError):
    """An error that the user can fix; the message names the file, key or line and what to do.

    Scripts print it in one line, without a traceback, and exit with status 2. Bytes of file names that are not UTF-8
    are in it as \\udcXX, so that it can be printed and logged.
    """

    def __init__(self, message: str) -> None:
        super().__init__(str(message).encode("utf-8", "backslashreplace").decode("utf-8"))
