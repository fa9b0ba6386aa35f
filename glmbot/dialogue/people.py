"""Who somebody is at this moment: the configuration's lists, and what administrators decided since.

A stranger is told a pairing code. An administrator who passes it on (/pair CODE, or `glmbot pair CODE` on the
machine itself) lets that person in; nobody gets in by a code alone.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from glmbot.dialogue.access import Access
from glmbot.keys import ChatKey, UserKey, owner_from
from glmbot.messages import ChatKind, Message, Role
from glmbot.store.base import Settings

__all__ = ["People", "Standing", "pair"]

_log = logging.getLogger(__name__)

_MOVED_FROM = "moved_from"
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_LENGTH = 8
_CODE_LIVES_S = 3600.0
_MOST_CODES = 20
# Several processes may give out one more each at the same time.
_CODES_LOOKED_AT = 100


@dataclass(frozen=True, slots=True)
class Standing:
    """role None: not let in. `user` and `chat` are the settings of both."""

    role: Role | None
    blocked: bool
    user: Mapping[str, str]
    chat: Mapping[str, str]


class People:
    def __init__(self, store: Settings, access: Access, clock: Callable[[], float]) -> None:
        self._store = store
        self.access = access
        self._clock = clock

    async def standing(self, message: Message) -> Standing:
        """Raises StoreError."""
        user = await self._store.settings(message.user)
        chat = await self._store.settings(message.chat)
        role = self.access.role(message)
        decided = user.get("access", "")
        if role is not Role.ADMIN and message.vouched is None:
            if decided == "admin":
                role = Role.ADMIN
            elif decided == "blocked":
                return Standing(None, True, user, chat)
            elif decided == "user" or (
                message.chat_kind is ChatKind.GROUP
                and (chat.get("access") == "user" or self._listed_before(message.chat, chat))
            ):
                role = Role.USER
        return Standing(role, False, user, chat)

    async def moved(self, old: ChatKey, new: UserKey | ChatKey) -> None:
        """A chat has another number now: what the configuration says of the old one holds for it. Raises
        StoreError."""
        await self._store.set_setting(new, _MOVED_FROM, old.id)
        if (old.platform, old.id) in self.access.chats:
            _log.warning(
                "[access] chats: write %s instead of %s, which is its id now; until then both hold",
                UserKey(new.platform, new.id), UserKey(old.platform, old.id),
            )  # fmt: skip

    def _listed_before(self, chat: ChatKey, settings: Mapping[str, str]) -> bool:
        """Whether the configuration lists the number that the chat had."""
        former = settings.get(_MOVED_FROM, "")
        return (chat.platform, former) in self.access.chats

    async def code_for(self, message: Message) -> str:
        """A stranger's pairing code, "" when too many wait already. Asked again it is the same."""
        now = self._clock()
        waiting: dict[str, str] = {}
        for owner, settings in (await self._store.having("pairing", _CODES_LOOKED_AT)).items():
            code = _valid_code(settings, now)
            if code:
                waiting[owner] = code
                continue
            for name in ("pairing", "name"):
                await self._store.set_setting(owner_from(owner), name, "")
        known = waiting.get(str(message.user))
        if known or len(waiting) >= _MOST_CODES:
            return known or ""
        code = "".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_LENGTH))
        await self._store.set_setting(message.user, "pairing", f"{code} {now + _CODE_LIVES_S}")
        await self._store.set_setting(message.user, "name", message.user_name[:64])
        return code

    async def listed(self, limit: int = 50, after: str = "") -> Sequence[tuple[UserKey, Mapping[str, str]]]:
        """A page of everybody with settings of their own, by key; the next one is `after` the last key of this
        one, as long as there were `limit`. On the first page also whom the configuration names, and who waits with
        a code."""
        page = {
            UserKey.parse(owner): found for owner, found in (await self._store.people(limit, after)).items()
        }
        first: dict[UserKey, Mapping[str, str]] = {}
        if not after:
            for owner, found in (await self._store.having("pairing", _MOST_CODES)).items():
                if isinstance(user := owner_from(owner), UserKey):
                    first[user] = found
            for user in sorted((*self.access.admins, *self.access.users), key=str):
                first[user] = await self._store.settings(user)
        both = [*((user, found) for user, found in first.items() if user not in page), *page.items()]
        return [(user, self._with_access(user, found)) for user, found in both]

    def _with_access(self, user: UserKey, settings: Mapping[str, str]) -> Mapping[str, str]:
        """Nothing that was decided since takes an administrator of the configuration their place away."""
        if user in self.access.admins:
            return {**settings, "access": "admin"}
        return {"access": "user", **settings} if user in self.access.users else settings


def _valid_code(settings: Mapping[str, str], now: float) -> str:
    """The code that waits, "" when it has had its time, also by a clock that was put back."""
    code, _, until = settings.get("pairing", "").partition(" ")
    try:
        left = float(until) - now
    except ValueError:
        return ""
    return code if 0 < left <= _CODE_LIVES_S else ""


async def pair(store: Settings, code: str, role: Role, now: float) -> UserKey | None:
    """Let in whoever has this pairing code. None when no such code waits (any more)."""
    given = code.strip().upper().encode()
    for owner, settings in (await store.having("pairing", _CODES_LOOKED_AT)).items():
        known = _valid_code(settings, now)
        if known and secrets.compare_digest(known.encode(), given):
            user = owner_from(owner)
            if not isinstance(user, UserKey):
                continue
            await store.set_setting(user, "access", str(role))
            await store.set_setting(user, "pairing", "")
            return user
    return None
