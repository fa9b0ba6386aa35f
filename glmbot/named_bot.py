"""A bot with a name of its own, beside others of its platform: its adapter knows nothing of the name.

Between them stands this: what the adapter says of "telegram" is of "telegram.support" for the dialogue, and so in
every key, row, lease and lock; what the dialogue gives it to answer is of "telegram" again. Its log lines, errors
and advice name its section.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from glmbot.errors import AdapterError
from glmbot.http.routes import HttpAnswer, HttpCall, Route, Talk
from glmbot.keys import ChatKey, ConversationKey, UserKey, kind_of
from glmbot.logs import SPEAKS_AS
from glmbot.messages import ConversationSummary, Message, PastTurn, Reply, Unfinished

__all__ = ["routes_of", "spoken_as", "under_name", "with_name"]

_D = TypeVar("_D")
_Key = TypeVar("_Key", bound=UserKey | ChatKey | ConversationKey)


def spoken_as(platform: str, dialogue: _D) -> _D:
    """The dialogue as the adapter of this bot is to have it; the same one for a bot without a name."""
    return dialogue if platform == kind_of(platform) else cast(_D, _Named(platform, dialogue))


def with_name(platform: str, words: str) -> str:
    """Words of an adapter, which names its section and variables as if it were alone."""
    kind = kind_of(platform)
    if platform == kind:
        return words
    variable = f"GLMBOT_{kind.upper()}__"
    own = f"GLMBOT_{platform.replace('.', '__').replace('-', '_').upper()}__"
    return words.replace(f"[{kind}]", f"[{platform}]").replace(variable, own)


@contextmanager
def under_name(platform: str) -> Generator[None]:
    """What is logged in here, and in tasks that begin here, is this bot's; what an adapter raises names it."""
    if platform == kind_of(platform):
        yield
        return
    token = SPEAKS_AS.set(platform)
    try:
        yield
    except AdapterError as error:
        raise type(error)(with_name(platform, str(error))) from error
    finally:
        SPEAKS_AS.reset(token)


def routes_of(platform: str, routes: Sequence[Route]) -> Sequence[Route]:
    """The adapter's routes, which the server's tasks ask."""
    if platform == kind_of(platform):
        return routes
    return [
        replace(
            route,
            handle=_handled(platform, route.handle),
            talk=None if route.talk is None else _talked(platform, route.talk),
        )
        for route in routes
    ]


def _handled(
    platform: str, handle: Callable[[HttpCall], Awaitable[HttpAnswer]]
) -> Callable[[HttpCall], Awaitable[HttpAnswer]]:
    async def handled(call: HttpCall) -> HttpAnswer:
        with under_name(platform):
            return await handle(call)

    return handled


def _talked(
    platform: str, talk: Callable[[HttpCall, Talk], Awaitable[None]]
) -> Callable[[HttpCall, Talk], Awaitable[None]]:
    async def talked(call: HttpCall, line: Talk) -> None:
        with under_name(platform):
            await talk(call, line)

    return talked


class _Named:
    """See `glmbot.ports.Dialogue`; what is not here says nothing of any platform, which a test holds to."""

    def __init__(self, platform: str, dialogue: Any) -> None:
        self._platform = platform
        self._kind = kind_of(platform)
        self._dialogue = dialogue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialogue, name)

    # ---- messages ----------------------------------------------------------------------------------------------

    async def accept(self, message: Message, *, here: bool = False) -> bool:
        return await self._dialogue.accept(self._in(message), here=here)

    async def assigned(self, platform: str) -> AsyncGenerator[Unfinished, None]:
        async with aclosing(self._dialogue.assigned(self._named(platform))) as assigned:
            async for entry in assigned:
                yield replace(entry, message=self._out(entry.message))

    async def respond(self, message: Message) -> AsyncGenerator[Reply, None]:
        async with aclosing(self._dialogue.respond(self._in(message))) as replies:
            async for reply in replies:
                yield reply

    async def again(self, message: Message, reason: str = "") -> bool:
        return await self._dialogue.again(self._in(message), reason)

    async def mark(self, message: Message, marks: Mapping[str, str]) -> None:
        await self._dialogue.mark(self._in(message), marks)

    def check(self, message: Message) -> None:
        self._dialogue.check(self._in(message))

    async def delivered(self, message: Message, shown: Sequence[str] = ()) -> None:
        await self._dialogue.delivered(self._in(message), shown)

    async def shown(self, message: Message) -> Sequence[str]:
        return await self._dialogue.shown(self._in(message))

    # ---- one process, chats, people ----------------------------------------------------------------------------

    async def leads(self, name: str) -> bool:
        return await self._dialogue.leads(f"{name} as {self._platform}")

    async def withdraw(self, conversation: ConversationKey, ref: str) -> Sequence[str]:
        return await self._dialogue.withdraw(self._key_in(conversation), ref)

    async def asked_in(self, chat: ChatKey, ref: str, since: float) -> ConversationKey | None:
        found = await self._dialogue.asked_in(self._key_in(chat), ref, since)
        return None if found is None else self._key_out(found)

    async def moved(self, old: UserKey | ChatKey, new: UserKey | ChatKey) -> None:
        await self._dialogue.moved(self._key_in(old), self._key_in(new))

    async def kept(self, name: str) -> str:
        return await self._dialogue.kept(f"{name} as {self._platform}")

    async def keep(self, name: str, text: str) -> None:
        await self._dialogue.keep(f"{name} as {self._platform}", text)

    async def admits(self, message: Message) -> bool | None:
        return await self._dialogue.admits(self._in(message))

    def administrators(self, platform: str) -> Sequence[UserKey]:
        return [self._key_out(user) for user in self._dialogue.administrators(self._named(platform))]

    # ---- pages -------------------------------------------------------------------------------------------------

    async def conversations(
        self, user: UserKey, limit: int = 100, before: tuple[float, str] | None = None
    ) -> Sequence[ConversationSummary]:
        if before is not None:
            before = (before[0], str(self._key_in(ConversationKey.parse(before[1]))))
        found = await self._dialogue.conversations(self._key_in(user), limit, before)
        return [replace(each, conversation=self._key_out(each.conversation)) for each in found]

    async def history(self, conversation: ConversationKey) -> Sequence[PastTurn]:
        return await self._dialogue.history(self._key_in(conversation))

    async def choose_branch(self, conversation: ConversationKey, turn: int) -> bool:
        return await self._dialogue.choose_branch(self._key_in(conversation), turn)

    # ---- names -------------------------------------------------------------------------------------------------

    def _in(self, message: Message) -> Message:
        return _moved(message, self._key_in)

    def _out(self, message: Message) -> Message:
        return _moved(message, self._key_out)

    def _key_in(self, key: _Key) -> _Key:
        return replace(key, platform=self._named(key.platform))

    def _key_out(self, key: _Key) -> _Key:
        return replace(key, platform=self._kind)

    def _named(self, platform: str) -> str:
        """Raises ValueError for another platform's, which an adapter has no business with."""
        if platform != self._kind:
            raise ValueError(f"the bot {self._platform} speaks of the platform {platform}")
        return self._platform


def _moved(message: Message, key: Callable[[Any], Any]) -> Message:
    return replace(message, conversation=key(message.conversation), user=key(message.user))
