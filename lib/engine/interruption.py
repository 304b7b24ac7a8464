"""Ctrl-C and other requests to stop, as a flag that is checked between updates."""

from __future__ import annotations

import signal
import threading


class StopRequest:
    """While open, the first SIGINT, SIGTERM or SIGHUP only sets `signal_number`; a second SIGINT interrupts at once.

    Outside the main thread Python cannot watch signals; then nothing is changed and `signal_number` stays None.
    """

    _watched = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in self._watched}
        return self

    def __exit__(self, *_error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
