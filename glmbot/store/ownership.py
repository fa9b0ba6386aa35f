"""The name of a process in claims and leases, and whether the process behind such a name is gone.

A claim ends by itself when its owner no longer renews it. A name tells more: whoever is started again on the same
machine sees at once that its predecessor is dead, and need not wait for that.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

__all__ = ["is_gone", "owner_name"]

_THIS_RUN = secrets.token_hex(6)


def owner_name() -> str:
    """Names this process: "machine/process id/random", without spaces. Containers count as machines."""
    return f"{_machine()}/{os.getpid()}/{_THIS_RUN}-{secrets.token_hex(3)}"


def is_gone(owner: str) -> bool:
    """True only when the process of that name is certainly dead. One on another machine never is."""
    machine, _, rest = owner.rpartition("/")[0].rpartition("/")
    if machine != _machine() or not rest.isdigit():
        return False
    if int(rest) == os.getpid():
        return not owner.rpartition("/")[2].startswith(_THIS_RUN)
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    """Host name, boot and process namespace: a process id means the same process only within all three."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
        namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        boot = namespace = ""
    return f"{socket.gethostname()}-{boot}-{namespace}".replace(" ", "_")
