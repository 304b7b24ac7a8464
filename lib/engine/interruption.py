"""Ctrl-C and SIGTERM as a request that the training loop answers when it suits it."""

from __future__ import annotations

import os
import signal
import threading


class StopRequest:
    """While this is open, the first SIGINT or SIGTERM only sets `signal_number`; a second SIGINT interrupts at once.

    Outside the main thread Python cannot watch signals; then nothing is changed and `signal_number` stays None.
    """

    _watched = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}
        self._process = os.getpid()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self._watched}
        return self

    def __exit__(self, *_error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if os.getpid() != self._process:
            # A worker forked while this was open. Ctrl-C reaches it too, but it has batches to deliver.
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
