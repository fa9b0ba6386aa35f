"""Imports what a bot imports once, and is then a `glmbot` of its own for each that is asked for: see program.py.

python program_server.py SOCKET_FD. A request is four descriptors (whom to tell, stdin, stdout, stderr) and a JSON object:
arguments, folder, environment. Told are the process id, and how it ended, a line each.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import socket
import sys
import threading
import traceback
from importlib import import_module
from typing import Any

MOST_BYTES = 1 << 20


def asked_for(requests: socket.socket) -> dict[str, Any] | None:
    """In a process that is to be a glmbot: what it was asked. None in this one, once nobody asks any more."""
    # Nobody waits here for those who keep a glmbot's company.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MOST_BYTES, 4)
        if not message:
            return None
        told, *streams = descriptors
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            bot = os.fork()
            if bot == 0:
                os.close(told)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                return json.loads(message)
            os.write(told, b"%d\n" % bot)
            for stream in streams:
                os.close(stream)
            _, status = os.waitpid(bot, 0)
            os.write(told, b"%d\n" % os.waitstatus_to_exitcode(status))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def main() -> None:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    for module in ("glmbot.cli", "glmbot.doctor", "glmbot.engines", "glmbot.store.journal"):
        import_module(module)
    from glmbot.__main__ import main as glmbot_main
    from glmbot.app import adapters

    adapters()
    # What is collected, or only looked at, would have to be copied first.
    gc.collect()
    gc.freeze()
    asked = asked_for(socket.socket(fileno=int(sys.argv[1])))
    if asked is None:
        return
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["glmbot", *asked["arguments"]]
    status = 0
    try:
        glmbot_main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else ended.code is not None
    except BaseException:
        traceback.print_exc()
        status = 1
    # As any process ends, but that hundreds of modules, which are shared, are not taken apart one by one.
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
