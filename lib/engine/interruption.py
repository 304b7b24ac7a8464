"""Turn Ctrl-C, SIGTERM and SIGHUP into a flag that a loop checks between steps."""

from __future__ import annotations

import os
import signal
import threading


class StopRequest:
    """In a `with` block, the first SIGINT, SIGTERM or SIGHUP only sets `signal_number`; a second SIGINT raises
    KeyboardInterrupt.

    A signal that the process was started to ignore (nohup) stays ignored. Outside the main thread Python cannot handle
    signals: nothing is changed then, and `signal_number` stays None.
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
            return  # in a process forked inside the block: only its parent handles the request
        if self.signal_number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
