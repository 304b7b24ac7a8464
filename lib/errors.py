"""The one kind of error that is the user's to mend: scripts print its message without a traceback."""


class InputError(ValueError):
    """Something given to the program cannot be used; the message names the file, key or line and what to do."""
