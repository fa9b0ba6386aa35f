"""The calls of one answer: looked at, asked about, noted, made, and what came of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from typing import Any

from glmbot import i18n
from glmbot.content import Part, ToolCall, ToolResult
from glmbot.dialogue.exchange import Exchange
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.tool_asks import Ask, button_of
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.dialogue.tool_journal import Journal, Open, State
from glmbot.dialogue.tool_rights import Right
from glmbot.dialogue.tool_run import ENDED, UNKNOWN, Came, Use, run
from glmbot.dialogue.tool_sampling import Sampled
from glmbot.dialogue.tool_words import plain, shown_arguments, title_of
from glmbot.dialogue.toolset import Offered, unfit
from glmbot.engine.base import CallSoFar
from glmbot.errors import BookFull, ClaimLost, StoreUnavailable
from glmbot.host import Direction, Nature
from glmbot.messages import Action, Message, Reply

__all__ = ["Calls", "call_of"]

_log = logging.getLogger(__name__)

_UNREADABLE = "_unreadable"
_LONGEST_UNREADABLE = 500
# Platforms cut the bot's own line behind so much.
_ARGUMENTS_SHOWN, _QUESTION_SHOWN, _CHOICE_SHOWN = 110, 150, 30
_MOST_CHOICES, _MOST_QUESTIONS = 5, 5
_ENDS_S = 2.0
_STORE_PAUSE_S = 0.5


def call_of(message: Message, number: int, call: CallSoFar) -> ToolCall:
    """The `number`-th of this message's answer, under an id of ours: that of an engine may come twice. What no
    call can be made of keeps its words, and is refused when it is looked at."""
    call_id = sha256(f"{message.conversation} {message.update_id} {number}".encode()).hexdigest()[:9]
    try:
        return ToolCall(call_id, call.name, call.arguments.strip() or "{}")
    except ValueError:
        said = f"{call.name} {call.arguments}"[:_LONGEST_UNREADABLE]
        return ToolCall(call_id, _UNREADABLE, json.dumps({_UNREADABLE: said}))


class Calls:
    def __init__(
        self, desk: ToolDesk, exchange: Exchange, ticket: Ticket, journal: Journal, said: list[Part]
    ) -> None:
        """said: grows here, by what comes of calls."""
        self._desk = desk
        self._exchange = exchange
        self._message = exchange.message
        self._ticket = ticket
        self._journal = journal
        self._said = said
        self._settings = exchange.settings.tools
        self._changed = asyncio.Event()
        self._questions: list[tuple[Ask, bool]] = []
        self._one_question = asyncio.Lock()
        self._asked = self._sampled = 0
        self.asked_s = self.spent_s = 0.0

    def words(self, key: str, **values: object) -> str:
        return i18n.text(self._exchange.language, key, **values)

    async def note(self, opened: Mapping[str, Open], rounds: int | None = None) -> None:
        """Durably. Raises StoreError; ClaimLost where another process answers by now."""
        rounds = self._journal.rounds if rounds is None else rounds
        if not await self._journal.write(tuple(self._said), opened, rounds):
            raise ClaimLost(self._message.conversation)

    async def made(self, before: Reply) -> AsyncGenerator[Reply, None]:
        """Whatever is open; `before`: what is shown of the answer meanwhile. A stop ends it early, and nothing is
        open afterwards either way. Raises StoreError and ClaimLost."""
        opened = dict(self._journal.open)
        if not opened:
            return
        came: dict[str, Came] = {}
        ready: dict[str, Use] = {}
        for call in [part for part in self._said if isinstance(part, ToolCall) and part.id in opened]:
            if self._ticket.stop.is_set():
                came[call.id] = Came(ENDED, True, "stopped")
                continue
            offered = self._desk.toolset.now().get(call.name)
            looked = await self._looked_at(call, offered, opened[call.id])
            if looked is Right.ASK and offered is not None:
                looked = Right.NEVER
                ask = await self._ask_about(call, offered, opened)
                if ask is not None:
                    yield self._asking(before, ask)
                    looked = await self._answer_to(ask)
                    await self._settled(call, ask, looked, opened)
            if isinstance(looked, Came) or offered is None or looked is not Right.ALLOW:
                came[call.id] = looked if isinstance(looked, Came) else self._not_allowed()
                continue
            ready[call.id] = self._use(call, offered)
        async for reply in self._run(before, ready, opened, came):
            yield reply
        await self._finished(came)

    # ---- whether -----------------------------------------------------------------------------------------------

    async def _looked_at(self, call: ToolCall, offered: Offered | None, opened: Open) -> Came | Right:
        """Why it is not made, or whether it may be, or has to be asked about. Raises StoreError."""
        arguments: dict[str, Any] = json.loads(call.arguments)
        if call.name == _UNREADABLE:
            return Came(
                "That is no call: the arguments are one JSON object, and the name is a tool's.",
                True,
                "unreadable",
            )
        if offered is None or call.name not in self._exchange.offered.tools:
            return Came(f"There is no tool {call.name} here.", True, "closed")
        if offered.tool.nature is Nature.ACTS and (
            opened.state is State.RUNNING or self._unknown_before(call)
        ):
            return Came(UNKNOWN, True, "unknown")
        wrong = await asyncio.to_thread(unfit, offered.tool, arguments)
        if wrong:
            return Came(f"The arguments do not fit: {wrong}", True, "unfit")
        said = f"{call.name} {json.dumps(arguments, ensure_ascii=False)}"
        if not await self._allowed(Direction.ANSWER, said):
            return Came("These arguments are not allowed by the operator.", True, "refused")
        right = await self._desk.right_now(self._message, offered)
        if right is Right.NEVER:
            return Came(f"The tool {call.name} is closed here.", True, "closed")
        allowed = opened.state in (State.ALLOWED, State.RUNNING) and opened.digest == offered.digest
        if right is Right.ASK and allowed:
            return Right.ALLOW
        return right

    def _unknown_before(self, call: ToolCall) -> bool:
        """Whether the same was called in this answer, and nobody knows whether it was done."""
        unknown = {part.id for part in self._said if isinstance(part, ToolResult) and part.text == UNKNOWN}
        return any(
            part.id in unknown
            and part.name == call.name
            and json.loads(part.arguments) == json.loads(call.arguments)
            for part in self._said
            if isinstance(part, ToolCall)
        )

    async def _allowed(self, direction: Direction, text: str) -> bool:
        moderation = self._exchange.moderation
        return moderation is None or await moderation.allows_in(self._message, direction, text)

    # ---- asking ------------------------------------------------------------------------------------------------

    async def _ask_about(self, call: ToolCall, offered: Offered, opened: dict[str, Open]) -> Ask | None:
        """None where it can't be asked. What was asked before a restart is not asked again."""
        state = opened[call.id]
        if state.state is State.ASKED:
            ask = await self._desk.asks.shown(self._message, state.ask)
            if ask is not None and ask.digest == offered.digest:
                return ask
        tool = offered.tool
        question = self.words(
            "tools.ask_admin" if tool.asks_admins else "tools.ask",
            title=title_of(tool, self._exchange.language),
            arguments=shown_arguments(json.loads(call.arguments), _ARGUMENTS_SHOWN),
        )
        try:
            ask = await self._desk.asks.begin(
                self._message,
                tool.name,
                question,
                self._settings.asks_s,
                arguments=call.arguments,
                of_admins=tool.asks_admins,
                digest=offered.digest,
            )
        except BookFull:
            return None
        opened[call.id] = Open(State.ASKED, ask.id)
        await self.note(opened)
        await self._desk.say_of(self._message, ask, self._question(ask))
        return ask

    async def _answer_to(self, ask: Ask) -> Right:
        answer = await self._awaited(ask)
        return Right.ALLOW if answer in ("yes", "here") else Right.NEVER

    async def _settled(self, call: ToolCall, ask: Ask, looked: Came | Right, opened: dict[str, Open]) -> None:
        """First that it is allowed, then that nobody is asked any more."""
        if looked is Right.ALLOW:
            opened[call.id] = Open(State.ALLOWED, digest=ask.digest)
            await self.note(opened)
        await self._desk.asks.end(ask.id)

    async def _awaited(self, ask: Ask, typed: asyncio.Future[str] | None = None) -> str:
        """ "" when nobody says anything in time, or it is stopped, or typed. Raises StoreError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = asyncio.ensure_future(self._desk.asks.wait(ask.id))
        stopped = asyncio.ensure_future(self._ticket.stop.wait())
        try:
            ways = {waiting, stopped, *([] if typed is None else [typed])}
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            self._ticket.check()
            return waiting.result() if waiting.done() else ""
        finally:
            self.asked_s += loop.time() - began
            for each in (waiting, stopped):
                each.cancel()
            await asyncio.gather(waiting, stopped, return_exceptions=True)

    def _question(self, ask: Ask, typed: bool = False) -> str:
        key = "tools.or_say_which" if ask.choices else "tools.or_say"
        lines = [ask.question, *([self.words("tools.type")] if typed else []), self.words(key, id=ask.id)]
        return "\n".join(lines)

    def _asking(self, before: Reply, ask: Ask, typed: bool = False) -> Reply:
        if ask.choices:
            actions = [
                Action(button_of(ask, str(number), typed), words)
                for number, words in enumerate(ask.choices, 1)
            ]
        else:
            actions = [
                Action(button_of(ask, each), self.words(f"tools.{each}")) for each in ("yes", "here", "no")
            ]
        return replace(before, notice=self._question(ask, typed), actions=tuple(actions))

    def _not_allowed(self) -> Came:
        if self._ticket.stop.is_set():
            return Came(ENDED, True, "stopped")
        return Came("The person did not allow this call. Do not try it again.", True, "not allowed")

    async def _ask_for_tool(self, use: Use, question: str, choices: Sequence[str], typed: bool) -> str | None:
        """See `ToolUse.ask`."""
        self._asked += 1
        shown = [plain(str(each), _CHOICE_SHOWN) for each in choices[:_MOST_CHOICES]]
        if not shown or self._asked > _MOST_QUESTIONS or len(choices) > _MOST_CHOICES:
            return None
        title = title_of(use.offered.tool, self._exchange.language)
        words = f"{title}: {plain(str(question), _QUESTION_SHOWN)}"
        # What is typed is for the one question that is seen.
        async with self._one_question:
            return await self._ask_one(use, words, choices, shown, typed)

    async def _ask_one(
        self, use: Use, words: str, choices: Sequence[str], shown: Sequence[str], typed: bool
    ) -> str | None:
        with ExitStack() as stack:
            wanted = stack.enter_context(self._desk.typed.expected(self._message)) if typed else None
            try:
                ask = await self._desk.asks.begin(
                    self._message, use.offered.tool.name, words, self._settings.asks_s, choices=shown
                )
            except BookFull:
                return None
            self._questions.append((ask, typed))
            self._changed.set()
            try:
                await self._desk.say_of(self._message, ask, self._question(ask, typed))
                answer = await self._awaited(ask, wanted)
            finally:
                self._questions.remove((ask, typed))
                self._changed.set()
        await self._desk.asks.end(ask.id)
        if wanted is not None and wanted.done():
            text = wanted.result()
            return text if await self._allowed(Direction.QUESTION, text) else None
        return choices[int(answer) - 1] if answer.isdigit() else None

    async def _sample_for_tool(self, use: Use, wish: Sampled) -> str:
        """See `ToolUse.sample`. Raises ToolFailed."""
        self._sampled += 1
        return await self._desk.sampling.said(self._exchange, use.offered.tool.name, wish, self._sampled)

    # ---- making ------------------------------------------------------------------------------------------------

    def _use(self, call: ToolCall, offered: Offered) -> Use:
        standing = self._exchange.standing
        chosen = "" if standing is None else standing.user.get("timezone", "")
        return Use(
            f"{sha256(str(self._message.conversation).encode()).hexdigest()[:12]}-{call.id}",
            json.loads(call.arguments),
            self._message,
            self._exchange.language,
            chosen or self._settings.timezone,
            self._desk.bot(self._message),
            offered,
            seconds=max(1.0, self._settings.seconds - self.spent_s),
            questioner=self._ask_for_tool,
            sampler=self._sample_for_tool,
            changed=self._changed.set,
        )

    async def _run(
        self, before: Reply, ready: dict[str, Use], opened: dict[str, Open], came: dict[str, Came]
    ) -> AsyncGenerator[Reply, None]:
        """All at once. Raises StoreError before any has begun."""
        for call, use in list(ready.items()):
            # Others may have been asked about for minutes since it was looked at.
            if await self._desk.right_now(self._message, use.offered) is Right.NEVER:
                came[call] = Came(f"The tool {use.offered.tool.name} is closed here.", True, "closed")
                del ready[call]
        if not ready:
            return
        if any(use.offered.tool.nature is not Nature.PURE for use in ready.values()):
            running_now = {
                call: Open(State.RUNNING, digest=use.offered.digest) for call, use in ready.items()
            }
            await self.note({**opened, **running_now})
        loop = asyncio.get_running_loop()
        began, asked = loop.time(), self.asked_s
        running = {asyncio.create_task(run(use)): call for call, use in ready.items()}
        stopped = asyncio.ensure_future(self._ticket.stop.wait())
        try:
            while (pending := {task for task in running if not task.done()}) and not stopped.done():
                self._changed.clear()
                if self._questions:
                    yield self._asking(before, *self._questions[0])
                else:
                    shown = [ready[running[task]].shown for task in pending]
                    yield replace(before, notice=plain(f"{'; '.join(sorted(shown))}…", 2 * _ARGUMENTS_SHOWN))
                changed = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({*pending, changed, stopped}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            stopped.cancel()
            left = [task for task in running if not task.done()]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_ENDS_S)
            self.spent_s += max(0.0, loop.time() - began - (self.asked_s - asked))
        for task, call in running.items():
            acts = ready[call].offered.tool.nature is Nature.ACTS
            ended = task.done() and not task.cancelled()
            came[call] = task.result() if ended else Came(UNKNOWN if acts else ENDED, True, "stopped")

    # ---- afterwards --------------------------------------------------------------------------------------------

    async def _finished(self, came: Mapping[str, Came]) -> None:
        """What has been done is noted, whatever the store does meanwhile: else it would be unknown. Raises
        ClaimLost."""
        calls = {part.id: part for part in self._said if isinstance(part, ToolCall)}
        for call_id in [each for each in calls if each in came]:
            each, text = came[call_id], came[call_id].text
            if not await self._allowed(Direction.QUESTION, text):
                text = "What came of it may not be read here: the operator does not allow it."
            self._said.append(ToolResult(call_id, text, each.failed or text is not each.text))
        logged = False
        while True:
            try:
                if not logged:
                    for call_id, each in came.items():
                        call = calls[call_id]
                        await self._desk.log.add(
                            self._message, call_id, call.name, call.arguments, each.outcome
                        )
                    logged = True
                if self._journal.begun:
                    await self.note({})
                break
            except StoreUnavailable as error:
                _log.error("%s waits for the store: %s", self._message.conversation, error)
                await asyncio.sleep(_STORE_PAUSE_S)
                self._ticket.check()
        self._journal.open = {}
        self._ticket.check()
