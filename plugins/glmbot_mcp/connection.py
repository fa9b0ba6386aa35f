"""One server, while the bot runs: connected, asked what it offers, left when it breaks, and tried again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from enum import StrEnum
from logging import Logger
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mcp import Client, MCPError
from mcp.client import ClientRequestContext
from mcp.client._transport import TransportStreams
from mcp.client.session import IncomingMessage
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ErrorData,
    Implementation,
    PaginatedResult,
    PromptListChangedNotification,
    ResourceListChangedNotification,
    ToolListChangedNotification,
)
from pydantic import ValidationError

from glmbot.host import ToolUse
from glmbot.http.address_guard import AddressGuard
from glmbot_mcp.listing import (
    MOST_PAGES,
    Listing,
    in_one_line,
    prompts_of,
    resources_of,
    templates_of,
    tools_of,
)
from glmbot_mcp.metered import Metered
from glmbot_mcp.sampling import refusal, sampled
from glmbot_mcp.sandbox import NoSandbox, clean_environment, command_for
from glmbot_mcp.settings import ServerSettings
from glmbot_mcp.slots import Hold, Slots
from glmbot_mcp.stdio import stdio_transport
from glmbot_mcp.streamable import http_transport

__all__ = ["Away", "Connection", "State", "reason_of"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 300.0
# Whoever held out for so long begins again with the first wait.
_HELD_OUT_S = 60.0
# What a server offers is looked up again so often, which also shows whether it is still there.
_LOOKS_S = 60.0
_BETWEEN_LOOKS_S = 1.0
_ENDS_S = 10.0
_MOST_ITEMS = 500
# A variable may be 1, and that is nothing to hide.
_SHORTEST_SECRET = 4
_CHANGES = (ToolListChangedNotification, ResourceListChangedNotification, PromptListChangedNotification)

_Page = TypeVar("_Page", bound=PaginatedResult)
_Item = TypeVar("_Item")


class State(StrEnum):
    CONNECTING = "connecting"
    READY = "ready"
    AWAY = "away"


class Away(Exception):
    """The server can't be asked now. Its words are for who asked."""


class Answering(Protocol):
    """Answers what a server asks in the middle of a call."""

    def __call__(self, use: ToolUse, params: ElicitRequestParams) -> Coroutine[Any, Any, ElicitResult]: ...


class Connection:
    """`listing` is empty while there is no server."""

    def __init__(
        self,
        name: str,
        settings: ServerSettings,
        folder: Path,
        log: Logger,
        answering: Answering,
        guard: AddressGuard | None = None,
    ) -> None:
        """guard: of which addresses it may have; None: the configuration's is the operator's own."""
        self.name = name
        self._guard = guard
        self.settings = settings
        self.state = State.CONNECTING
        self.trouble = ""
        self.listing = Listing()
        self._folder = folder / name
        self._log = log
        self._answering = answering
        self._client: Client | None = None
        self._looks = asyncio.Event()
        self._ended = asyncio.Event()
        self._why = ""
        self._slots = Slots(settings.at_once)
        self._uses: list[tuple[ToolUse | None, Hold]] = []
        self._use: ContextVar[tuple[ToolUse | None, Hold] | None] = ContextVar("use", default=None)
        self.changed = asyncio.Condition()
        """Notified at each change of `state` or `listing`."""

    async def run(self) -> None:
        """Until it is cancelled."""
        wait = _FIRST_WAIT_S
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except (NoSandbox, OSError, TimeoutError, ValueError) as error:
                trouble = self._why or reason_of(error)
            except Exception as error:
                trouble = self._why or reason_of(error)
                self._log.debug("the server %s", self.name, exc_info=error)
            else:
                trouble = self._why or "it has ended"
            trouble = self._without_secrets(trouble)
            if trouble != self.trouble:
                self._log.warning("the server %s is away: %s", self.name, trouble)
            await self._becomes(State.AWAY, Listing(), trouble)
            if time.monotonic() - began > _HELD_OUT_S:
                wait = _FIRST_WAIT_S
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))
            wait = min(_LONGEST_WAIT_S, wait * 2)

    @asynccontextmanager
    async def asked(self, use: ToolUse | None = None, person: str = "") -> AsyncGenerator[Client]:
        """The server, to be asked one thing. use: whose call it is; person: who asks where it is none. Raises
        Away, also for what went wrong with the server within."""
        async with self._slots.taken(use.user if use is not None else person) as hold:
            client = self._client
            if client is None:
                raise Away(self.trouble or "it is not connected yet")
            each = use, hold
            token = self._use.set(each)
            self._uses.append(each)
            try:
                yield client
            except MCPError as error:
                if error.code == CONNECTION_CLOSED or (
                    error.code == INVALID_REQUEST and error.message == "Session terminated"
                ):
                    self._leave("it ended in the middle of a call")
                    raise Away(
                        "it ended in the middle of the call; whether that was done is not known"
                    ) from error
                # Servers repeat what they refuse: a token, say.
                raise MCPError(error.code, self._without_secrets(error.message)) from None
            except (OSError, ValidationError, RuntimeError, ExceptionGroup) as error:
                raise Away(self._without_secrets(reason_of(error))) from error
            finally:
                self._uses.remove(each)
                self._use.reset(token)

    async def _session(self) -> None:
        """In a task of its own: the SDK may swallow a cancellation while it cleans up."""
        task = asyncio.create_task(self._connected())
        # Who leaves it just as it fails does not ask why.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        try:
            await asyncio.wait({task})
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=_ENDS_S)
        if task.cancelled():
            raise ConnectionError("it was left")
        task.result()

    async def _connected(self) -> None:
        self._ended.clear()
        self._why = ""
        client = Client(
            self._transport(),
            read_timeout_seconds=self.settings.timeout_s,
            message_handler=self._hear,
            elicitation_callback=self._elicit,
            sampling_callback=self._sample if self.settings.sampling_calls else None,
            client_info=Implementation(name="glmbot", version="1"),
            # A server says how long its lists are kept, and ours are looked up when they are needed.
            cache=None,
        )
        try:
            async with asyncio.timeout(self.settings.connect_s):
                await client.__aenter__()
        except TimeoutError:
            self._why = self._why or f"it did not come up within {self.settings.connect_s:g} seconds"
            raise
        try:
            await self._look(client)
            self._client = client
            self._log.info("the server %s is there, with %d tools", self.name, len(self.listing.tools))
            await self._stay(client)
        finally:
            self._client = None
            await client.__aexit__(None, None, None)

    async def _stay(self, client: Client) -> None:
        """Until it ends, looking up what it offers whenever that may have changed. Raises what the looks raise."""
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._listen(client))
            ended = group.create_task(self._ended.wait())
            while not ended.done():
                looks = group.create_task(self._looks.wait())
                await asyncio.wait({ended, looks}, timeout=_LOOKS_S, return_when=asyncio.FIRST_COMPLETED)
                looks.cancel()
                if not ended.done():
                    self._looks.clear()
                    began = time.monotonic()
                    await self._look(client)
                    # One that changes all the time is looked at for a twentieth of it.
                    pause = max(_BETWEEN_LOOKS_S, 20 * (time.monotonic() - began))
                    await asyncio.wait({ended}, timeout=pause)
            hearing.cancel()

    async def _listen(self, client: Client) -> None:
        """Servers since 2026-07-28 tell of changes to who listens; where that fails, they are looked up anyway."""
        with suppress(Exception):
            async with client.listen(
                tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True
            ) as events:
                async for _ in events:
                    self._looks.set()

    async def _look(self, client: Client) -> None:
        offers = client.server_capabilities
        async with asyncio.timeout(self.settings.connect_s):
            given = await _all_pages(client.list_tools, lambda page: page.tools) if offers.tools else ()
            before = self.listing.tools
            tools, left_out = await asyncio.to_thread(tools_of, self.name, self.settings, given, before)
            resources = offers.resources is not None and self.settings.resources
            listing = Listing(
                tools,
                resources_of(await _all_pages(client.list_resources, lambda page: page.resources))
                if resources
                else (),
                templates_of(
                    await _all_pages(client.list_resource_templates, lambda page: page.resource_templates)
                )
                if resources
                else (),
                prompts_of(await _all_pages(client.list_prompts, lambda page: page.prompts))
                if offers.prompts
                else (),
                left_out,
            )
        for why in left_out:
            if why not in self.listing.left_out:
                self._log.warning("the server %s: a tool is left out: %s", self.name, why)
        await self._becomes(State.READY, listing, "")

    async def _becomes(self, state: State, listing: Listing, trouble: str) -> None:
        self.state, self.trouble = state, trouble
        if listing != self.listing:
            # The same object while nothing changes: what was made of it is still good.
            self.listing = listing
        async with self.changed:
            self.changed.notify_all()

    @asynccontextmanager
    async def _transport(self) -> AsyncGenerator[TransportStreams]:
        async with self._unmetered() as (read, write):
            yield Metered(read, self._ended.set), write

    @asynccontextmanager
    async def _unmetered(self) -> AsyncGenerator[TransportStreams]:
        if self.settings.url:
            async with http_transport(self.settings, self._guard) as streams:
                yield streams
            return
        await asyncio.to_thread(self._folder.mkdir, 0o700, parents=True, exist_ok=True)
        home = self._folder.resolve()
        command = await command_for(self.settings, home)
        environment = clean_environment(self.settings, home)
        async with stdio_transport(command, environment, home, self._log, self._leave) as streams:
            yield streams

    def _without_secrets(self, words: str) -> str:
        """It is shown to administrators, and who asked."""
        known = [each for each in self.settings.hidden if len(each) >= _SHORTEST_SECRET]
        for secret in sorted(known, key=len, reverse=True):
            words = words.replace(secret, "[secret]")
        return words

    def _leave(self, why: str) -> None:
        self._why = self._why or why
        self._ended.set()

    async def _hear(self, message: IncomingMessage) -> None:
        if isinstance(message, _CHANGES):
            self._looks.set()

    async def _elicit(
        self, context: ClientRequestContext, params: ElicitRequestParams
    ) -> ElicitResult | ErrorData:
        """Before 2026-07-28 it is not said which call it belongs to. Nobody is asked in another one's name."""
        use, hold = self._asking()
        if use is None or hold is None:
            return ElicitResult(action="decline")
        async with hold.lent():
            answer = await hold.meanwhile(self._answering(use, params))
        return answer or ElicitResult(action="cancel")

    async def _sample(
        self, context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult | ErrorData:
        """In the name of whose call it is, and of nobody where that is not known."""
        use, hold = self._asking()
        if use is None or hold is None:
            return refusal("it is not known whose call this is")
        return await hold.meanwhile(sampled(use, hold, self.settings, params)) or refusal("the call is over")

    def _asking(self) -> tuple[ToolUse | None, Hold | None]:
        """Whose call it is in which a server asks something."""
        if (found := self._use.get()) is not None and found[0] is not None:
            return found
        return self._uses[0] if len(self._uses) == 1 else (None, None)


async def _all_pages(
    page_at: Callable[..., Awaitable[_Page]], items: Callable[[_Page], Sequence[_Item]]
) -> Sequence[_Item]:
    """Of a list; some servers offer a kind of thing and know no list of it."""
    found: list[_Item] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        try:
            page = await page_at(cursor=cursor)
        except MCPError as error:
            if error.code == METHOD_NOT_FOUND:
                return found
            raise
        found += items(page)
        if page.next_cursor is None or len(found) >= _MOST_ITEMS:
            break
        cursor = page.next_cursor
    return found


def reason_of(error: BaseException) -> str:
    """In words that fit a line, without what a server wrote in great length."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case FileNotFoundError():
            return f"there is no {error.filename}"
        case TimeoutError():
            return "it took too long"
        case ValidationError():
            return "what it answered is not of the protocol"
        case _:
            return in_one_line(str(error), 200) or type(error).__name__
