"""Errors that a user can fix."""


class InputError(ValueError):
    """An error that the user can fix; the message names the file, key or line and what to do.

    Scripts print it in one line, without a traceback, and exit with status 2.
    """
