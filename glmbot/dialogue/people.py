"""Who somebody is at this moment: the configuration's lists, and what administrators decided since.

A stranger is told a pairing code. An administrator who passes it on (/pair CODE, or `glmbot pair CODE` on the
machine itself) lets that person in; nobody gets in by a code alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from glmbot.dialogue.access import Access
from glmbot.messages import ChatKind, Message, Role, UserKey
from glmbot.store.base import Store

__all__ = ["People", "Standing", "pair"]

_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_CODE_LENGTH = 8
_CODE_LIVES_S = 3600.0
_MOST_CODES = 20


@dataclass(frozen=True, slots=True)
class Standing:
    """role None: not let in. `user` and `chat` are the settings of both."""

    role: Role | None
    blocked: bool
    user: Mapping[str, str]
    chat: Mapping[str, str]


class People:
    def __init__(self, store: Store, access: Access, clock: Callable[[], float]) -> None:
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
            elif decided == "user" or (message.chat_kind is ChatKind.GROUP and chat.get("access") == "user"):
                role = Role.USER
        return Standing(role, False, user, chat)

    async def code_for(self, message: Message) -> str:
        """A stranger's pairing code, "" when too many wait already. Asked again it is the same."""
        now = self._clock()
        waiting: dict[str, str] = {}
        for owner, settings in (await self._store.all_settings()).items():
            code, _, until = settings.get("pairing", "").partition(" ")
            if not code:
                continue
            if float(until) > now:
                waiting[owner] = code
            else:
                for name in ("pairing", "name"):
                    await self._store.set_setting(UserKey.parse(owner), name, "")
        known = waiting.get(str(message.user))
        if known or len(waiting) >= _MOST_CODES:
            return known or ""
        code = "".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_LENGTH))
        await self._store.set_setting(message.user, "pairing", f"{code} {now + _CODE_LIVES_S}")
        await self._store.set_setting(message.user, "name", message.user_name[:64])
        return code

    async def listed(self) -> Sequence[tuple[UserKey, Mapping[str, str]]]:
        """Everybody with settings of their own, and everybody named in the configuration."""
        found: dict[UserKey, Mapping[str, str]] = {}
        for user in (*self.access.admins, *self.access.users):
            found[user] = {"access": "admin" if user in self.access.admins else "user"}
        for owner, settings in (await self._store.all_settings()).items():
            if owner.count(":") == 1:
                user = UserKey.parse(owner)
                named = {"access": "admin"} if user in self.access.admins else {}
                found[user] = {**found.get(user, {}), **settings, **named}
        return sorted(found.items(), key=lambda entry: str(entry[0]))


async def pair(store: Store, code: str, role: Role, now: float) -> UserKey | None:
    """Let in whoever has this pairing code. None when no such code waits (any more)."""
    for owner, settings in (await store.all_settings()).items():
        known, _, until = settings.get("pairing", "").partition(" ")
        if known and float(until) > now and secrets.compare_digest(known, code.strip().upper()):
            user = UserKey.parse(owner)
            await store.set_setting(user, "access", str(role))
            await store.set_setting(user, "pairing", "")
            return user
    return None
