"""Where the process begins. Until the loop of a running bot has its own handlers, a signal is simply an end."""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]

_STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}
_ended: list[int] = []


def main() -> None:
    """Entry point. Exit status: 0, 1 for what was refused, 130 after Ctrl-C."""
    for number in _STATUS:
        signal.signal(number, _end)
    try:
        # Importing takes a while, in which a signal may come.
        from glmbot.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_STATUS[signal.SIGINT])
    except Exception:
        if _ended:
            # Who imports lazily makes an import error of whatever comes in the middle of it.
            sys.exit(_ended[0])
        raise


def _end(number: int, _frame: object) -> None:
    _ended.append(_STATUS[signal.Signals(number)])
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(0)


if __name__ == "__main__":
    main()
