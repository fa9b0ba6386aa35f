"""Prompts of servers, as commands: /SERVER_PROMPT asks the model with one, and /mcp lists those one may use."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from hashlib import sha256
from typing import Any

from mcp import MCPError

from glmbot.host import Call, Command, Exchange, Follows
from glmbot.messages import Reply, ReplyState, Role
from glmbot_mcp.connection import Away, Connection, State
from glmbot_mcp.listing import Listing, ServerPrompt, in_one_line
from glmbot_mcp.results import prompted
from glmbot_mcp.settings import WhoMay
from glmbot_mcp.words import EN, ZH

__all__ = ["Prompts", "arguments_of", "command_names", "may_use"]

_MOST_LISTED = 60
# https://core.telegram.org/bots/api#botcommand; Discord's and Slack's take these, too.
_OTHER = re.compile(r"[^a-z0-9_]")
_DIGESTED = re.compile(r"_[0-9a-f]{6}$")
_LONGEST_NAME, _LONGEST_USAGE = 32, 60

_Wrong = tuple[str, dict[str, Any]]
"""What is wrong, as a line's name and values."""


class Prompts:
    """See `glmbot.host.Commandbox`."""

    def __init__(self, connections: Callable[[], Sequence[Connection]]) -> None:
        self._connections = connections
        self._made: Sequence[tuple[Connection, Listing]] = ()
        self._named: Mapping[str, tuple[Connection, ServerPrompt]] = {}
        self._commands: Sequence[Command] = ()

    def commands(self) -> Sequence[Command]:
        self._look()
        return self._commands

    def named(self, command: str) -> tuple[Connection, ServerPrompt] | None:
        self._look()
        return self._named.get(command)

    async def checking(self, exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
        """A step before what counts questions: that one reads the command where nothing is said behind it."""
        if exchange.asked_by and (found := self.named(exchange.asked_by)) is not None:
            connection, prompt = found
            role = getattr(getattr(exchange, "standing", None), "role", None)
            given = exchange.message.text.strip()
            arguments = _checked(connection, prompt, given, role)
            if isinstance(arguments, tuple):
                yield _refusal(arguments, exchange)
                return
            exchange.message = replace(exchange.message, text=f"/{exchange.asked_by} {given}".strip())
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply

    async def asking(self, exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
        """A step behind what counts questions, so that a server is asked no more often than the model is. The
        prompt takes the place of what was said: it is moderated and kept like any other question."""
        if exchange.asked_by and (found := self.named(exchange.asked_by)) is not None:
            said = exchange.message.text
            given = said.removeprefix(f"/{exchange.asked_by}").strip()
            text = await _prompted(*found, arguments_of(found[1], given), str(exchange.message.user))
            if isinstance(text, tuple):
                yield _refusal(text, exchange)
                return
            exchange.message = replace(exchange.message, text=text)
            exchange.asked = exchange.asked.removesuffix(said) + text
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply

    async def listing(self, call: Call) -> Reply:
        lines: list[str] = []
        for each in self._connections():
            if call.role is Role.ADMIN:
                lines += _status(each, call)
        self._look()
        for name, (connection, prompt) in list(self._named.items())[:_MOST_LISTED]:
            if may_use(connection, call.role):
                line = f"/{name} {_usage(prompt)}".strip()
                lines.append(f"{line} · {prompt.description}" if prompt.description else line)
        return Reply("", ReplyState.FINAL, "\n".join(lines) or call.text("mcp.nothing"))

    def _look(self) -> None:
        """Made anew only where something changed: it is looked at for each message."""
        now = [(each, each.listing) for each in self._connections()]
        same = len(now) == len(self._made) and all(
            one is other and listing is known
            for (one, listing), (other, known) in zip(now, self._made, strict=True)
        )
        if same:
            return
        self._made = now
        offered = [
            (connection, prompt)
            for connection, listing in now
            if connection.settings.prompts is not WhoMay.NOBODY
            for prompt in listing.prompts
        ]
        names = command_names([(connection.name, prompt.name) for connection, prompt in offered])
        self._named = dict(zip(names, offered, strict=True))
        self._commands = [
            Command(
                name,
                asks="ask",
                says=True,
                role=Role.ADMIN if connection.settings.prompts is WhoMay.ADMINS else Role.USER,
                argument=_usage(prompt)[:_LONGEST_USAGE],
                rank=320,
                title=_title(connection, prompt),
            )
            for name, (connection, prompt) in self._named.items()
        ]


def command_names(prompts: Sequence[tuple[str, str]]) -> Sequence[str]:
    """A command for each server and prompt, in the letters that all platforms take. Those that would be called
    alike, or too long, or as if they had one, have a digest at the end."""
    plain = [_OTHER.sub("_", f"{server}_{prompt}".casefold()) for server, prompt in prompts]
    counts = Counter(plain)
    return [
        name
        if counts[name] == 1 and len(name) <= _LONGEST_NAME and not _DIGESTED.search(name)
        else f"{name[: _LONGEST_NAME - 7]}_{sha256(' '.join(of).encode('utf-8', 'replace')).hexdigest()[:6]}"
        for name, of in zip(plain, prompts, strict=True)
    ]


def may_use(connection: Connection, role: Role | None) -> bool:
    who = connection.settings.prompts
    return role is not None and (who is WhoMay.EVERYONE or (who is WhoMay.ADMINS and role is Role.ADMIN))


def arguments_of(prompt: ServerPrompt, given: str) -> dict[str, str] | _Wrong:
    """`name=value` each, with quotes around spaces; where the prompt takes but one, all that is said is its. Else
    what is wrong."""
    names = [name for name, _ in prompt.arguments]
    arguments: dict[str, str] = {}
    if len(names) == 1 and not given.startswith(f"{names[0]}="):
        arguments = {names[0]: given} if given else {}
    else:
        try:
            words = shlex.split(given)
        except ValueError:
            words = given.split()
        pairs = [word.partition("=") for word in words]
        strange = [in_one_line(name, 40) for name, is_one, _ in pairs if not is_one or name not in names]
        if strange:
            return "mcp.unknown", {"names": ", ".join(strange[:5]), "known": ", ".join(names) or "-"}
        arguments = {name: value for name, _, value in pairs}
    missing = [name for name, required in prompt.arguments if required and not arguments.get(name)]
    return ("mcp.missing", {"names": ", ".join(missing)}) if missing else arguments


def _checked(
    connection: Connection, prompt: ServerPrompt, given: str, role: Role | None
) -> dict[str, str] | _Wrong:
    if not may_use(connection, role):
        return "mcp.no_prompt", {"prompt": prompt.name}
    return arguments_of(prompt, given)


def _refusal(wrong: _Wrong, exchange: Exchange) -> Reply:
    key, values = wrong
    lines = ZH if exchange.language == "zh" else EN
    return Reply("", ReplyState.FAILED, lines[key].format(**values))


async def _prompted(
    connection: Connection, prompt: ServerPrompt, arguments: dict[str, str] | _Wrong, person: str
) -> str | _Wrong:
    """The prompt's text, or what is wrong."""
    if isinstance(arguments, tuple):
        return arguments
    try:
        async with (
            asyncio.timeout(connection.settings.timeout_s),
            connection.asked(person=person) as client,
        ):
            text = prompted(await client.get_prompt(prompt.name, arguments))
    except (Away, MCPError, TimeoutError) as error:
        why = in_one_line(error.message if isinstance(error, MCPError) else str(error), 200) or "…"
        return "mcp.failed", {"server": connection.name, "why": why}
    return text or ("mcp.empty", {"server": connection.name})


def _status(connection: Connection, call: Call) -> Sequence[str]:
    listing = connection.listing
    if connection.state is State.READY:
        counts = {"tools": len(listing.tools), "resources": len(listing.resources)}
        first = call.text("mcp.ready", server=connection.name, **counts)
    elif connection.state is State.AWAY:
        first = call.text("mcp.away", server=connection.name, trouble=connection.trouble)
    else:
        first = call.text("mcp.connecting", server=connection.name)
    return [first, *(call.text("mcp.left_out", what=each) for each in listing.left_out[:5])]


def _usage(prompt: ServerPrompt) -> str:
    arguments = (f"{name}=…" if required else f"[{name}=…]" for name, required in prompt.arguments)
    return " ".join(arguments)


def _title(connection: Connection, prompt: ServerPrompt) -> Mapping[str, str]:
    if prompt.description:
        return {"en": prompt.description, "zh": prompt.description}
    return {
        language: lines["mcp.title"].format(prompt=prompt.name, server=connection.name)
        for language, lines in (("en", EN), ("zh", ZH))
    }
