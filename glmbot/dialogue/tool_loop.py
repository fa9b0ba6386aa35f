"""An answer that calls tools: the model writes, what it calls is made, and it writes on with what came of that.

Nothing is called that was not looked at in this moment: whether there is such a tool, whether this person may have
it called here, whether its arguments hold to its schema and may be said. What goes wrong is told the model, in
place of what would have come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from glmbot.content import Part, Text, Thought, ToolCall, thought_of, words_of
from glmbot.dialogue.exchange import Exchange, Task
from glmbot.dialogue.fitting import Fitting
from glmbot.dialogue.generation import Generated, generated
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.models import Talk
from glmbot.dialogue.tool_calls import Calls, call_of
from glmbot.dialogue.tool_desk import ToolDesk
from glmbot.dialogue.tool_journal import Journal, Open, State
from glmbot.engine.base import CallSoFar, Conversation, Prepared
from glmbot.engine.thoughts import joined
from glmbot.host import Nature
from glmbot.messages import Reply, ReplyState, Usage
from glmbot.tools import Choice

__all__ = ["answered"]

# Of what one answer may have, its calls may take so many times.
_TOKENS = 3
_LEAST_S = 1.0


async def answered(
    desk: ToolDesk,
    fitting: Fitting,
    talk: Talk,
    exchange: Exchange,
    task: Task,
    prompt: Prepared,
    ticket: Ticket,
) -> AsyncGenerator[Reply, None]:
    """Snapshots of the whole answer, the last one ended. Raises EngineError, StoreError and ClaimLost."""
    deadline_s = exchange.settings.deadline_s
    if exchange.conversation is None or not desk.toolset.now():
        async with aclosing(
            generated(talk, exchange, task, prompt, ticket, deadline_s=deadline_s)
        ) as generation:
            async for each in generation:
                yield each.reply
        return
    exchange.journal = journal = await desk.journal(exchange.message)
    answer = _Answer(desk, fitting, talk, exchange, task, ticket, journal, exchange.conversation)
    async with aclosing(answer.replies(prompt)) as replies:
        async for reply in replies:
            yield reply


class _Answer:
    def __init__(
        self,
        desk: ToolDesk,
        fitting: Fitting,
        talk: Talk,
        exchange: Exchange,
        task: Task,
        ticket: Ticket,
        journal: Journal,
        conversation: Conversation,
    ) -> None:
        self._desk = desk
        self._fitting = fitting
        self._talk = talk
        self._exchange = exchange
        self._task = task
        self._ticket = ticket
        self._journal = journal
        self._conversation = conversation
        self._settings = exchange.settings.tools
        self._said: list[Part] = list(journal.said)
        self._rounds = journal.rounds
        self._tokens = 0
        self._enough = False
        self._began = asyncio.get_running_loop().time()
        self._calls = Calls(desk, exchange, ticket, journal, self._said)

    async def replies(self, prompt: Prepared) -> AsyncGenerator[Reply, None]:
        """prompt: that of before any call."""
        while True:
            if self._journal.open or self._said:
                async with aclosing(self._calls.made(self._before())) as made:
                    async for reply in made:
                        yield reply
                self._ticket.check()
                if self._ticket.stop.is_set():
                    yield self._stopped()
                    return
                prompt = await self._prepared()
            last: Generated | None = None
            async with aclosing(self._generated(prompt)) as generation:
                async for last in generation:
                    if not last.calls:
                        yield self._shown(last.reply)
            if last is None or not last.calls:
                return
            if self._enough:
                # It calls although it was told not to.
                yield self._shown(last.reply)
                return
            await self._take(last.reply, last.calls)

    def _generated(self, prompt: Prepared) -> AsyncGenerator[Generated, None]:
        used_s = asyncio.get_running_loop().time() - self._began - self._calls.asked_s
        most = self._talk.sampling.max_tokens
        return generated(
            self._talk,
            self._exchange,
            self._task,
            prompt,
            self._ticket,
            deadline_s=max(_LEAST_S, self._exchange.settings.deadline_s - used_s),
            most_tokens=max(1, min(most, _TOKENS * most - self._tokens)),
        )

    async def _prepared(self) -> Prepared:
        """With what has come so far, cut to what there is room for. Once enough was called, the model is to say
        what it knows. Raises EngineError."""
        settings, spent = self._settings, self._calls.spent_s
        self._enough = enough = (
            self._rounds >= settings.rounds
            or sum(isinstance(part, ToolCall) for part in self._said) >= settings.calls
            or spent >= settings.seconds
            or self._tokens >= (_TOKENS - 1) * self._talk.sampling.max_tokens
        )
        offer = self._exchange.offered.offer
        offer = replace(offer, choice=Choice.NONE) if enough else offer
        conversation = replace(self._conversation, offer=offer, said=tuple(self._said))
        conversation, prompt = await self._fitting.with_results(
            self._exchange.message, self._talk, conversation, settings.share
        )
        # As the model is told it, the next question is told it.
        self._said[:] = conversation.said
        return prompt

    async def _take(self, reply: Reply, calls: tuple[CallSoFar, ...]) -> None:
        """What the model wants done is noted, before anything is. Raises StoreError."""
        self._rounds += 1
        self._tokens += reply.usage.completion_tokens if reply.usage is not None else 0
        room = self._settings.calls - sum(isinstance(part, ToolCall) for part in self._said)
        self._said += [*_parts(reply)]
        wanted = [
            call_of(self._exchange.message, number, call)
            for number, call in enumerate(
                calls[:room], sum(isinstance(part, ToolCall) for part in self._said)
            )
        ]
        self._said += wanted
        opened = {call.id: Open(State.WRITTEN) for call in wanted}
        known = self._exchange.offered.tools
        harmless = all(call.name in known and known[call.name].tool.nature is Nature.PURE for call in wanted)
        if harmless and not self._journal.begun:
            # Nothing is lost, and nobody is harmed, by calling it again.
            self._journal.open, self._journal.rounds = opened, self._rounds
            return
        await self._calls.note(opened, self._rounds)

    def _before(self) -> Reply:
        """What is there already, while something is called."""
        return Reply(words_of(self._said), ReplyState.STREAMING, thought=thought_of(self._said))

    def _shown(self, reply: Reply) -> Reply:
        """Behind what was said before."""
        if not self._said:
            return reply
        text, thought = words_of(self._said), thought_of(self._said)
        usage = reply.usage
        if usage is not None:
            usage = Usage(usage.prompt_tokens, usage.completion_tokens + self._tokens)
        if reply.state.ended:
            self._exchange.said = (*self._said, *_parts(reply))
        state = ReplyState.STREAMING if reply.state is ReplyState.QUEUED and text else reply.state
        whole = "\n\n".join(filter(None, (text, reply.text)))
        return replace(reply, text=whole, thought=joined(thought, reply.thought), usage=usage, state=state)

    def _stopped(self) -> Reply:
        self._exchange.said = tuple(self._said)
        return replace(self._before(), state=ReplyState.STOPPED, notice=self._calls.words("answer.stopped"))


def _parts(reply: Reply) -> tuple[Part, ...]:
    return (
        *((Thought(reply.thought),) if reply.thought else ()),
        *((Text(reply.text),) if reply.text else ()),
    )
