"""Syncing: how the bot hears what is said, each thing once, also over a restart.

https://spec.matrix.org/v1.15/client-server-api/#syncing: what follows a token is told again until a later one
is asked for, so a token is kept once what it ends is stored. At its start a process learns in which rooms it
is, of which the token alone tells only what changed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Protocol

from nio import SyncResponse

from glmbot.delivery.outlet import Flooded, NotWritten, Refused
from glmbot.errors import AdapterError, PlatformRefused, StoreError
from glmbot.http.quiet import Quiet
from glmbot.ports import Keeps, Lead
from glmbot_matrix.client import MatrixClient, TooLong
from glmbot_matrix.encryption import tell_keys
from glmbot_matrix.refusals import TOKEN_ENDED, ask

__all__ = ["Sync"]

_log = logging.getLogger(__name__)

_STATE = ["m.room.member", "m.room.create", "m.room.encryption", "m.room.join_rules", "m.room.tombstone"]
_SAID = ["m.room.message", "m.room.encrypted", "m.reaction", "m.room.redaction"]
_NOTHING = {"not_types": ["*"]}
# https://spec.matrix.org/v1.15/client-server-api/#filtering; of what was said while nobody listened, the last
# of each room; fewer where that is more than is read at once.
_MOST_SAID = (50, 5, 1)


def _filter(limit: int, *said: str) -> dict[str, Any]:
    return {
        "presence": _NOTHING,
        "account_data": _NOTHING,
        "room": {
            "include_leave": False,
            "ephemeral": _NOTHING,
            "account_data": _NOTHING,
            "state": {"types": _STATE, "lazy_load_members": True},
            "timeline": {"types": [*_STATE, *said], "limit": limit, "lazy_load_members": True},
        },
    }


def _first() -> dict[str, Any]:
    """Nothing of what was said, which may be much. Never the same one: Synapse answers what it was asked before
    with what held then, for two minutes
    (https://element-hq.github.io/synapse/latest/usage/configuration/config_documentation.html, caches:
    sync_response_cache_duration)."""
    asked = _filter(1)
    asked["room"]["timeline"]["not_types"] = [f"glmbot.{secrets.token_hex(8)}"]
    return asked


_KEPT_EVERY_S = 60.0
_PAUSE_S = 3.0


class _Wanted(Keeps, Lead, Protocol): ...


class Sync:
    def __init__(
        self,
        client: MatrixClient,
        dialogue: _Wanted,
        take: Callable[[SyncResponse, bool], Awaitable[bool]],
        *,
        poll_timeout_s: int,
    ) -> None:
        """take: is given what was told, and whether it is the account of all at the start; returns whether
        something of it was for us. Raises StoreError: then it is told again."""
        self._client = client
        self._dialogue = dialogue
        self._take = take
        self._wait_ms = poll_timeout_s * 1000
        self._since = ""
        self._kept_at = 0.0
        self._quiet = Quiet()

    async def begin(self) -> bool:
        """False where another process listens. Raises NotWritten, StoreError."""
        if not await self._dialogue.leads(f"sync matrix {self._client.user_id}"):
            self._since = ""
            return False
        if not self._since:
            await self._begin()
        return True

    async def listen(self) -> bool:
        """Until it fails. Returns whether anything came. Raises PlatformRefused for a token that has ended."""
        heard = False
        while True:
            try:
                if not await self.begin():
                    await asyncio.sleep(_PAUSE_S)
                    continue
                await self._next()
                heard = True
            except Flooded as flood:
                await asyncio.sleep(flood.retry_after)
            except Refused as error:
                # Of another database of the homeserver's.
                _log.warning("Matrix: it can't be gone on from where we were: %s", error)
                self._since = ""
                await self._forget()
                return heard
            except NotWritten as error:
                if any(code in str(error) for code in TOKEN_ENDED):
                    raise PlatformRefused("[matrix] token was revoked: log in again for a new one") from error
                _log.warning("%s; connecting again", error)
                return heard
            except StoreError as error:
                _log.warning("Matrix: what was said could not be stored, and comes again: %s", error)
                await asyncio.sleep(_PAUSE_S)

    async def _begin(self) -> None:
        name = self._name
        kept = await self._dialogue.kept(name)
        everything = await self._sync("", _first(), 0)
        await self._take(everything, True)
        self._since = kept.strip() or everything.next_batch
        if not kept.strip():
            await self._keep()
        await tell_keys(self._client)

    async def _next(self) -> None:
        told = await self._told()
        if told is None:
            # From now on, and with who is where learned anew: that was missed as well.
            self._since = ""
            await self._forget()
            return
        mattered = await self._take(told, False)
        self._since = told.next_batch
        if mattered or time.monotonic() - self._kept_at > _KEPT_EVERY_S:
            await self._keep()
        await tell_keys(self._client)

    async def _told(self) -> SyncResponse | None:
        """What came since. None where also the least of it is more than is read: asked for again, it stays so."""
        for most in _MOST_SAID:
            try:
                told = await self._sync(self._since, _filter(most, *_SAID), self._wait_ms)
            except TooLong:
                continue
            if most < _MOST_SAID[0] and self._quiet.lets("fewer"):
                _log.warning(
                    "Matrix: too much was said at once; the last %d of each room are read, no more", most
                )
            return told
        if self._quiet.lets("left out"):
            _log.warning(
                "Matrix: what was said since the last answer is too much to be read, and is left out"
            )
        return None

    async def _sync(self, since: str, sync_filter: dict[str, Any], wait_ms: int) -> SyncResponse:
        # What comes a second time is read a second time.
        self._client.next_batch = ""
        asked = self._client.sync(wait_ms, sync_filter, since or None)
        return await ask(asked)

    async def _keep(self) -> None:
        await self._dialogue.keep(self._name, self._since)
        self._kept_at = time.monotonic()

    async def _forget(self) -> None:
        try:
            # Nothing is no note.
            await self._dialogue.keep(self._name, " ")
        except StoreError as error:
            raise AdapterError(f"Matrix: {error}") from error

    @property
    def _name(self) -> str:
        # An account may have signs that no name of a note has, and more of them.
        return f"matrix sync {sha256(self._client.user_id.encode()).hexdigest()[:16]}"
