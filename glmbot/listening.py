"""Whether a port can be listened on, as far as that can be known before anything else is started."""

from __future__ import annotations

import socket

__all__ = ["listening_error"]


def listening_error(host: str, port: int) -> OSError | None:
    """What listening there would be refused with now; None when it would not be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        # Without the address in Python's form that create_server adds.
        words = str(error.strerror).partition(" (while attempting to bind")[0]
        return OSError(error.errno, words)
    return None
