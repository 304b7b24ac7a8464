"""Ctrl-C, SIGTERM and SIGHUP as a request that a loop answers when it suits it."""

from __future__ import annotations

import os
import signal
import threading


class StopRequest:
    """While this is open, the first SIGINT, SIGTERM or SIGHUP only sets `signal_number`; a second SIGINT interrupts at
    once.

    A signal that the process was started to ignore (nohup) stays ignored. Outside the main thread Python cannot watch
    signals; then nothing is changed and `signal_number` stays None.
    """

    _watched = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}
        self._process = os.getpid()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heeded = [number for number in self._watched if signal.getsignal(number) != signal.SIG_IGN]
            self._previous = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(self, *_error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame) -> None:
        if os.getpid() != self._process:
            return  # in a process forked while this was open: the request is not for it
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
