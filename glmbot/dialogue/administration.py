"""What the commands of administrators do: people, limits, group modes, system prompts, broadcast, reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from glmbot import i18n
from glmbot.dialogue.commands import Command
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.lanes import Lanes
from glmbot.dialogue.moderation import Direction
from glmbot.dialogue.outbox import broadcast
from glmbot.dialogue.people import pair
from glmbot.dialogue.replies import notice
from glmbot.dialogue.settings import InForce
from glmbot.messages import ChatKind, Message, Reply, ReplyState, Role, UserKey
from glmbot.store.base import Store

__all__ = ["Administration", "Reloaded", "bad_user", "echo", "number_from", "user_from"]

_MODES = ("mention", "all", "command")
_LONGEST_PROMPT = 4000
_LONGEST_BROADCAST = 4000
_LARGEST_LIMIT = 1_000_000
_DEAD_LISTED = 20
_LONGEST_REASON = 300
_LONGEST_ECHO = 64
# Their people can be let in also by a process that does not serve them.
_PLATFORMS = frozenset({"telegram", "discord", "web", "console"})
_BROADCAST_REACHES_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the configuration again: sections in force now, sections that wait for a restart, or
    what is wrong with the file (then everything is as it was)."""

    applied: Sequence[str] = ()
    waiting: Sequence[str] = ()
    error: str = ""

    def describe(self, language: str) -> str:
        if self.error:
            return i18n.text(language, "reload.failed", error=self.error)
        parts = [
            i18n.text(language, key, sections=", ".join(sections))
            for key, sections in (("reload.applied", self.applied), ("reload.waiting", self.waiting))
            if sections
        ]
        return "\n".join(parts) or i18n.text(language, "reload.same")


class Administration:
    def __init__(
        self,
        *,
        store: Store,
        in_force: InForce,
        fitting: Fitting,
        lanes: Lanes,
        reload: Callable[[], Reloaded] | None,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._in_force = in_force
        self._fitting = fitting
        self._lanes = lanes
        self._reload = reload
        self._clock = clock

    @property
    def commands(self) -> dict[str, Callable[[Command, Message, str], Awaitable[Reply]]]:
        """By name; each takes the command, its message and the language. They raise StoreError."""
        return {
            "allow": self._allow,
            "block": self._block,
            "pair": self._pair,
            "limit": self._limit,
            "mode": self._mode,
            "prompt": self._prompt,
            "broadcast": self._broadcast,
            "reload": self._read_again,
            "dead": self._dead,
        }

    async def _allow(self, command: Command, message: Message, language: str) -> Reply:
        if command.argument == "here":
            await self._store.set_setting(message.chat, "access", "user")
            return notice(language, "allow.here")
        user = user_from(command.argument, message)
        if user is None:
            return bad_user(command.argument, message, language)
        await self._store.set_setting(user, "access", "user")
        await self._store.set_setting(user, "pairing", "")
        return notice(language, "allow.done", user=user)

    async def _block(self, command: Command, message: Message, language: str) -> Reply:
        if command.argument == "here":
            await self._store.set_setting(message.chat, "access", "")
            return notice(language, "block.here")
        user = user_from(command.argument, message)
        if user is None:
            return bad_user(command.argument, message, language)
        if user == message.user:
            return notice(language, "block.self")
        await self._store.set_setting(user, "access", "blocked")
        self._lanes.stop_user(user)
        return notice(language, "block.done", user=user)

    async def _pair(self, command: Command, message: Message, language: str) -> Reply:
        user = await pair(self._store, command.argument, Role.USER, self._clock())
        return notice(language, "pair.unknown") if user is None else notice(language, "pair.done", user=user)

    async def _limit(self, command: Command, message: Message, language: str) -> Reply:
        who, _, given = command.argument.partition(" ")
        owner = message.chat if who == "here" else user_from(who, message)
        number = given.strip()
        if owner is None and number:
            return bad_user(who, message, language)
        limit = {"off": -1, "none": 0}.get(number, number_from(number, _LARGEST_LIMIT))
        if owner is None or limit is None:
            return notice(language, "limit.usage")
        # "off" takes the special limit away, so that the configured one holds; 0 is no limit, as it is there.
        await self._store.set_setting(owner, "limit", "" if limit < 0 else str(limit))
        words = "limit.off" if limit < 0 else "limit.done" if limit else "limit.none"
        return notice(language, words, owner=owner, limit=limit)

    async def _mode(self, command: Command, message: Message, language: str) -> Reply:
        if message.chat_kind is not ChatKind.GROUP:
            return notice(language, "mode.private")
        wanted = command.argument.lower()
        if wanted not in _MODES:
            now = (await self._store.settings(message.chat)).get("mode", _MODES[0])
            return notice(language, "mode.usage", mode=now)
        await self._store.set_setting(message.chat, "mode", wanted)
        return notice(language, f"mode.{wanted}")

    async def _prompt(self, command: Command, message: Message, language: str) -> Reply:
        words = command.argument
        if not words:
            now = (await self._store.settings(message.chat)).get("prompt", "")
            now = now or self._in_force.settings.system_prompt or "–"
            return notice(language, "prompt.now", prompt=now[:_LONGEST_PROMPT])
        if words == "off":
            await self._store.set_setting(message.chat, "prompt", "")
            return notice(language, "prompt.off")
        try:
            if len(words) > _LONGEST_PROMPT:
                raise ValueError
            await self._fitting.fit(message, (), "", words)
        except ValueError:
            return notice(language, "prompt.too_long")
        if not await self._in_force.moderation.allows(
            Direction.QUESTION, words, user=str(message.user), conversation=str(message.conversation)
        ):
            return notice(language, "prompt.refused")
        await self._store.set_setting(message.chat, "prompt", words)
        return notice(language, "prompt.done")

    async def _broadcast(self, command: Command, message: Message, language: str) -> Reply:
        if not command.argument:
            return notice(language, "broadcast.usage")
        if len(command.argument) > _LONGEST_BROADCAST:
            return notice(language, "broadcast.too_long", most=_LONGEST_BROADCAST)
        chats = await broadcast(
            self._store,
            command.argument,
            name=f"{message.user.platform} {message.update_id}",
            since=self._clock() - _BROADCAST_REACHES_S,
            clock=self._clock,
        )
        return notice(language, "broadcast.done", chats=chats)

    async def _read_again(self, command: Command, message: Message, language: str) -> Reply:
        if self._reload is None:
            return notice(language, "reload.nothing")
        return Reply("", ReplyState.FINAL, self._reload().describe(language))

    async def _dead(self, command: Command, message: Message, language: str) -> Reply:
        """List what was set aside after its last try, have it answered again, or forget it."""
        letters = await self._store.dead_letters()
        verb, _, which = command.argument.lower().partition(" ")
        if verb not in ("replay", "drop"):
            if not letters:
                return notice(language, "dead.none")
            lines = [
                i18n.text(
                    language,
                    "dead.line",
                    number=number,
                    conversation=letter.message.conversation,
                    minutes=max(0, round((self._clock() - letter.at) / 60)),
                    reason=letter.reason[:_LONGEST_REASON],
                )
                for number, letter in enumerate(letters[:_DEAD_LISTED], 1)
            ]
            return Reply(
                "",
                ReplyState.FINAL,
                "\n".join([i18n.text(language, "dead.title", count=len(letters)), *lines]),
            )
        which = which.strip()
        number = number_from(which, len(letters)) or 0
        if which != "all" and not 1 <= number <= len(letters):
            return notice(language, "dead.usage")
        done = 0
        for letter in letters if which == "all" else [letters[number - 1]]:
            done += await (self._store.replay if verb == "replay" else self._store.drop)(letter.message)
        return notice(language, f"dead.{verb}", count=done)


def user_from(argument: str, message: Message) -> UserKey | None:
    """ "telegram:5", or "5" on the platform that the message came from."""
    try:
        user = UserKey.parse(argument if ":" in argument else f"{message.user.platform}:{argument}")
    except ValueError:
        return None
    return user if user.platform in _PLATFORMS or user.platform == message.user.platform else None


def number_from(text: str, most: int) -> int | None:
    """A whole number from 0 to `most`, written in digits; None for anything else, however long."""
    if not text.isascii() or not text.isdigit() or len(text.lstrip("0")) > len(str(most)):
        return None
    number = int(text.lstrip("0") or "0")
    return number if number <= most else None


def bad_user(argument: str, message: Message, language: str) -> Reply:
    with suppress(ValueError):
        platform = UserKey.parse(argument).platform
        known = ", ".join(sorted({*_PLATFORMS, message.user.platform}))
        return notice(language, "reset.bad_platform", platform=echo(platform), known=known)
    return notice(language, "reset.bad_user", given=echo(argument) or "–", platform=message.user.platform)


def echo(argument: str) -> str:
    """The beginning of what somebody wrote, to be repeated to them."""
    return argument if len(argument) <= _LONGEST_ECHO else f"{argument[:_LONGEST_ECHO]}…"
