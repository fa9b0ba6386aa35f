"""One exchange: a message, and what becomes of it on its way through the steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from glmbot.content import Content
from glmbot.dialogue.lanes import Ticket
from glmbot.dialogue.models import Talk
from glmbot.dialogue.moderation import Moderation
from glmbot.dialogue.people import Standing
from glmbot.dialogue.settings import DialogueSettings
from glmbot.dialogue.tool_journal import Journal
from glmbot.dialogue.toolset import Offering
from glmbot.engine.base import Conversation, Prepared
from glmbot.messages import Message, Reply
from glmbot.openings import SlashCommand
from glmbot.tracing import Span

__all__ = ["Exchange", "Follows", "Step", "Task", "chained"]


@dataclass(frozen=True, slots=True)
class Task:
    """What to ask the model. `after`: the turn that this one follows, None for the head.

    `begun` is an answer to go on from, and `thought` what came before it; `whole`: it is shown again in front of
    what comes. `again`: another answer than the one there is.
    """

    question: str
    ref: str
    after: int | None
    again: bool = False
    begun: str = ""
    whole: bool = False
    thought: str = ""


@dataclass(slots=True)
class Exchange:
    """Each step finds here what those before it found out, and adds its own.

    `command`: the message is one, and no question; `typed`: it is what a tool has asked for. `wish`: "ask",
    "retry" or "continue"; `asked_by`: the name of the command that it was said by. `system_prompt`: the chat's
    own, "" where the configured one holds. `asked`: the question with what it quotes. `ticket`: its place in its
    conversation. `epoch`: of the history that the answer is for. `talk`: the engine that answers; `hints`:
    what is said beside its answer. `offered`: the tools that it is told of; `conversation`: what it is asked, None
    where it can't call any; `journal`: what it has called. `moderation`: what holds for this answer. `reply`: the
    end of the answer, as it is to be recorded; `task` None then: as no turn. `said`: all that came of the question
    where that is more than the words of `reply`. `recorded`: the end that was.
    """

    message: Message
    settings: DialogueSettings
    language: str
    span: Span
    command: SlashCommand | None = None
    typed: bool = False
    wish: str = "ask"
    asked_by: str = ""
    ticket: Ticket | None = None
    standing: Standing | None = None
    system_prompt: str = ""
    asked: str = ""
    task: Task | None = None
    epoch: int = 0
    talk: Talk | None = None
    hints: Sequence[str] = ()
    offered: Offering = field(default_factory=Offering)
    conversation: Conversation | None = None
    prompt: Prepared | None = None
    moderation: Moderation | None = None
    journal: Journal | None = None
    reply: Reply | None = None
    said: Content = ()
    recorded: Reply | None = None


Follows = Callable[[Exchange], AsyncGenerator[Reply, None]]
"""What follows a step. Whoever calls it closes the generator, by `contextlib.aclosing`."""


class Step(Protocol):
    def __call__(self, exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]: ...


def chained(steps: Sequence[Step]) -> Follows:
    """The steps as one: each is handed what follows it, the last one what yields nothing."""
    follows: Follows = _nothing
    for step in reversed(steps):
        follows = partial(step, following=follows)
    return follows


async def _nothing(exchange: Exchange) -> AsyncGenerator[Reply, None]:
    return
    yield
