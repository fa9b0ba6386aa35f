"""Runs `glmbot run` again and again, each time in a fork that dies at a named point, as by kill -9.

It has imported everything once, so that a life costs a second. One line on its input is a life: the configuration
file, when ("before", "after", "never" or "slow"), what, and which occurrence (or milliseconds a step). It answers with
the process id. "wait" and a process id is answered with how that one ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import telegram.request
from slack_sdk.web.async_client import AsyncWebClient

import glmbot_onebot.delivery
import glmbot_slack.delivery
import glmbot_telegram.delivery
from glmbot.app import adapter_settings, run
from glmbot.config.load import load_configuration
from glmbot.config.section import secrets_of
from glmbot.engine.local import LocalEngine
from glmbot.engine.runner import ModelRunner
from glmbot.logs import set_up_logging
from glmbot.store.journal import JournaledRedisStore
from glmbot.store.sqlite import SqliteStore
from glmbot_onebot.session import Session

STORE = (
    "accept", "claim", "mark", "finish", "delivered", "lease", "settings", "answer", "epoch", "last_turns",
    "open_conversations",
)  # fmt: skip
# Short pieces, so that a short answer has several.
glmbot_telegram.delivery._SPLIT_AT = glmbot_slack.delivery._SPLIT_AT = glmbot_onebot.delivery._SPLIT_AT = 250


class Fuse:
    def __init__(self, when: str, what: str, occurrence: int) -> None:
        self.when, self.what, self.left = when, what, occurrence

    def pass_by(self, when: str, what: str) -> None:
        if (when, what) == (self.when, self.what):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def arm(fuse: Fuse) -> None:
    for store in (SqliteStore, JournaledRedisStore):
        for name in STORE:
            setattr(store, name, watched(getattr(store, name), always(name), fuse))
    requests: tuple[tuple[Any, str], ...] = (
        (telegram.request.HTTPXRequest, "do_request"),
        (AsyncWebClient, "api_call"),
        (Session, "ask"),
    )
    for client, method in requests:
        setattr(client, method, watched(getattr(client, method), name_of_request, fuse))
    step = ModelRunner.step

    def stepped(self: ModelRunner, chunks: Any) -> Any:
        fuse.pass_by("before", "step")
        if fuse.when == "slow":
            # So that a fault has an answer to fall into.
            time.sleep(fuse.left / 1000)
        return step(self, chunks)

    ModelRunner.step = stepped
    generate = LocalEngine.generate

    async def generated(self: LocalEngine, *args: Any, **named: Any) -> AsyncGenerator[Any]:
        fuse.pass_by("before", "generate")
        async for progress in generate(self, *args, **named):
            if progress.finish is not None:
                fuse.pass_by("after", "generate")
            yield progress

    LocalEngine.generate = generated  # pyright: ignore[reportAttributeAccessIssue]


def always(name: str) -> Callable[..., str]:
    return lambda *_, **__: name


def name_of_request(what: str = "", *_: Any, url: str = "", **__: Any) -> str:
    """The end of its address, or its method's name."""
    return (url or what).rpartition("/")[2]


def watched(method: Callable[..., Any], name_of: Callable[..., str], fuse: Fuse) -> Callable[..., Any]:
    """name_of: what it is called here, by what it is given."""

    @wraps(method)
    async def called(self: Any, *args: Any, **named: Any) -> Any:
        name = name_of(*args, **named)
        fuse.pass_by("before", name)
        result = await method(self, *args, **named)
        fuse.pass_by("after", name)
        return result

    return called


def live(config: str, when: str, what: str, occurrence: int) -> None:
    log = os.open(Path(config).with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    configuration = load_configuration(Path(config), adapter_settings())
    sections = [configuration.store, configuration.remote, *configuration.adapters.values()]
    set_up_logging("INFO", [secret for section in sections for secret in secrets_of(section)])
    arm(Fuse(when, what, occurrence))
    asyncio.run(run(configuration))


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        if line.startswith("wait "):
            _, status = os.waitpid(int(line.split()[1]), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        config, when, what, occurrence = line.split()
        child = os.fork()
        if child == 0:
            try:
                live(config, when, what, int(occurrence))
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
