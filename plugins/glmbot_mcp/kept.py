"""Servers that were added on the operator's page: notes in the store, by name.

What is secret of them is kept as it is, as everything in the store is; [store] encryption_key_file encrypts it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from glmbot.bot import Bot
from glmbot.errors import BookFull
from glmbot.http.address_guard import AddressGuard
from glmbot.notes import Note
from glmbot_mcp.settings import NAME, FromPage, Sandbox, ServerSettings, Settings

__all__ = [
    "Kept",
    "added",
    "checked",
    "guard_of",
    "kept_servers",
    "removed",
    "restarted",
    "restarts",
    "switched",
]

_BOOK = "mcp_servers"
_MOST = 16
# Which one of the configuration is to be begun anew; no server has a name like this.
_RESTART = "restart "
# These reach for files of the bot's own.
_NOT_FROM_PAGE = ("token_file", "read", "write")
# The loader and the C library do what these say, and bubblewrap is run with them before it has walled anything in.
# They are what glibc takes from programs with more rights than who calls them: sysdeps/generic/unsecvars.h.
_READ_BY_SANDBOX = re.compile(
    "(LD_|MALLOC_).*|GCONV_PATH|GETCONF_DIR|GLIBC_TUNABLES|HOSTALIASES|LOCALDOMAIN|LOCPATH|NIS_PATH|NLSPATH"
    "|RESOLV_HOST_CONF|RES_OPTIONS|TMPDIR|TZDIR"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """`version`: another one whenever it was changed, or is to be begun anew. `settings` None: what was kept may
    not be any more, and `trouble` says why."""

    name: str
    on: bool
    version: int
    settings: ServerSettings | None
    trouble: str = ""


async def kept_servers(bot: Bot, settings: Settings) -> Sequence[Kept]:
    """Raises StoreError."""
    return [_read(note, settings) for note in (await _notes(bot))[:_MOST]]


async def _notes(bot: Bot) -> Sequence[Note]:
    notes = await bot.book(_BOOK).page(limit=4 * _MOST)
    return [note for note in notes if NAME.fullmatch(note.name)]


async def restarts(bot: Bot) -> Mapping[str, int]:
    """By server of the configuration, a number that changes when it is to be begun anew. Raises StoreError."""
    notes = await bot.book(_BOOK).page(limit=4 * _MOST)
    return {
        note.name.removeprefix(_RESTART): note.version for note in notes if note.name.startswith(_RESTART)
    }


async def added(bot: Bot, settings: Settings, name: str, given: Mapping[str, Any]) -> ServerSettings:
    """Raises ValueError with what is wrong, without any value of it; StoreError."""
    if not NAME.fullmatch(name):
        raise ValueError("a name has a small letter, and 23 small letters, digits and - at most")
    server = checked(settings, given)
    if server.url:
        url = guard_of(settings).url(server.url)
        await guard_of(settings).addresses(url.raw_host or "", url.port or 0)
    if name in settings.servers:
        raise ValueError(f"the configuration has a server {name}")
    full = f"there are {_MOST} servers already"
    if len(await _notes(bot)) >= _MOST:
        raise ValueError(full)
    book = bot.book(_BOOK)
    try:
        note = await book.put(Note(name, json.dumps({"on": True, "settings": dict(given)})))
    except BookFull as error:
        raise ValueError("there is no room for it") from error
    if note is None:
        raise ValueError(f"there is a server {name}")
    if len(await _notes(bot)) > _MOST:
        # Somebody else was adding one, too.
        await book.remove(note)
        raise ValueError(full)
    return server


async def switched(bot: Bot, name: str, *, on: bool) -> bool:
    """False where there is none. Raises StoreError."""
    note = await bot.book(_BOOK).get(name) if NAME.fullmatch(name) else None
    if note is None:
        return False
    fields = json.loads(note.text)
    text = json.dumps({**fields, "on": on})
    return await bot.book(_BOOK).put(Note(note.name, text, "", note.version)) is not None


async def restarted(bot: Bot, name: str, *, configured: bool) -> bool:
    """Raises StoreError."""
    book, at = bot.book(_BOOK), f"{_RESTART}{name}" if configured else name
    note = await book.get(at)
    if note is None and not configured:
        return False
    return await book.put(Note(at, "again") if note is None else note) is not None


async def removed(bot: Bot, name: str) -> bool:
    """Raises StoreError."""
    note = await bot.book(_BOOK).get(name) if NAME.fullmatch(name) else None
    return note is not None and await bot.book(_BOOK).remove(note)


def guard_of(settings: Settings) -> AddressGuard:
    """Any port: which ones servers have, nobody knows."""
    return AddressGuard(frozenset(range(1, 65536)), AddressGuard.networks(settings.allowed_networks))


def checked(settings: Settings, given: Mapping[str, Any]) -> ServerSettings:
    """Raises ValueError with what is wrong, without any value of it."""
    for key in _NOT_FROM_PAGE:
        if key in given:
            raise ValueError(f"{key} can be set in the configuration only")
    try:
        server = ServerSettings.model_validate(dict(given))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{'.'.join(map(str, each['loc'][:1]))}: {each['msg']}".strip(": ") for each in problems[:3]]
        raise ValueError("; ".join(lines)) from None
    may = settings.from_page
    if may is FromPage.NOTHING:
        raise ValueError("nothing may be added here; see [plugins.mcp] from_page")
    if server.url:
        guard_of(settings).url(server.url)
    elif may is FromPage.ADDRESSES:
        raise ValueError("only addresses may be added here; see [plugins.mcp] from_page")
    elif may is FromPage.SANDBOXED:
        return _walled_in(server)
    return server


def _walled_in(server: ServerSettings) -> ServerSettings:
    """Raises ValueError for what would lead out."""
    for name in filter(_READ_BY_SANDBOX.fullmatch, server.env):
        raise ValueError(f"{name} is read by the sandbox, too; let the command begin with env {name}=…")
    if server.network and "network" in server.model_fields_set:
        raise ValueError("a program that is added here has no network; see [plugins.mcp] from_page")
    # What listens on this machine, or in its network, may trust whoever comes from here.
    return server.model_copy(update={"sandbox": Sandbox.REQUIRED, "network": False})


def _read(note: Note, settings: Settings) -> Kept:
    try:
        fields = cast(dict[str, Any], json.loads(note.text))
        on = bool(fields["on"])
        return Kept(note.name, on, note.version, checked(settings, fields["settings"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else "what is kept of it is damaged"
        return Kept(note.name, False, note.version, None, why)
