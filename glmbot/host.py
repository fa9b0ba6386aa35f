"""What a plug-in is handed, and what it registers there.

A plug-in is a package with an entry point in the group `glmbot.plugins`, which names a function:

    def register(host: Host) -> None:
        settings = host.settings(Weather)                  # [plugins.weather] of the configuration, checked
        host.command(Command("weather", weather, argument="TOWN"))

What it raises there, wrong settings included, leaves this plug-in out and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from logging import Logger
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from glmbot.bot import Bot
from glmbot.content import Content, ToolCall
from glmbot.forms import Form
from glmbot.http.routes import Route
from glmbot.messages import ChatKind, Message, Reply, ReplyState, Role
from glmbot.ports import Adapter

__all__ = [
    "Advice",
    "Background",
    "Call",
    "ChatEngine",
    "ChatRequest",
    "Command",
    "Commandbox",
    "Direction",
    "EngineStart",
    "Exchange",
    "Finding",
    "Follows",
    "Host",
    "ModerationSettings",
    "Moderator",
    "ModeratorStart",
    "Nature",
    "Obey",
    "Panel",
    "Passage",
    "Step",
    "Tool",
    "ToolFailed",
    "ToolFunction",
    "ToolUse",
    "Toolbox",
    "Transform",
    "Watch",
]

SettingsModel = TypeVar("SettingsModel", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a command: who gave it where, what stands behind its name, and the bot that obeys.

    `language` is the person's; `words` finds the lines of the plug-in, and those of the bot, in it.
    """

    message: Message
    argument: str
    role: Role
    language: str
    bot: Bot
    words: Callable[..., str]

    def text(self, key: str, **values: object) -> str:
        """A line with its {fields} filled in. Raises KeyError for an unknown one."""
        return self.words(self.language, key, **values)

    def say(self, key: str, **values: object) -> Reply:
        return Reply("", ReplyState.FINAL, self.text(key, **values))

    def fail(self, key: str, **values: object) -> Reply:
        return Reply("", ReplyState.FAILED, self.text(key, **values))


Obey = Callable[[Call], Awaitable[Reply]] | Callable[[Call], AsyncGenerator[Reply, None]]
"""What a command does: it returns a reply, or yields snapshots of one that grows."""


@dataclass(frozen=True, slots=True)
class Command:
    """`/name argument`. What it is for stands in the word lists as "command.NAME".

    `role` is who may give it; `role_for`, given its argument and where it is said, where that is not always the
    same. `private`: what it answers with is nobody else's business. `asks`: it is no action but a question to the
    model ("ask", "retry", "continue"), and `obey` is not called. `says`: its argument is a text of a person's own,
    which may still be changed while it is written. The lower the `rank`, the sooner it stands in menus. `title`:
    what it is for, by language, where no word list says it.
    """

    name: str
    obey: Obey | None = None
    role: Role = Role.USER
    argument: str = ""
    private: bool = False
    role_for: Callable[[str, ChatKind], Role] | None = None
    asks: str = ""
    says: bool = False
    rank: int = 1000
    title: Mapping[str, str] = field(default_factory=dict[str, str])

    def needs(self, argument: str, chat_kind: ChatKind) -> Role:
        return self.role if self.role_for is None else self.role_for(argument, chat_kind)


class Nature(StrEnum):
    """What a tool does to the world, which says who may have it called where nobody has said so."""

    PURE = "pure"
    """It reads nothing that is anybody's, and changes nothing: allowed."""
    READS = "reads"
    """It reads what is private, or the network: asked about each time."""
    ACTS = "acts"
    """It changes something: closed until the operator opens it."""


class ToolFailed(Exception):
    """Raised by a tool: its words are what the model is told."""


class ToolUse(Protocol):
    """One call while it runs: for whom, where, and what it can say meanwhile."""

    id: str
    """Of this very call, the same after a restart."""
    arguments: Mapping[str, Any]
    """They hold to the tool's schema."""
    user: str
    """As `str(UserKey)` and, below, `str(ConversationKey)`."""
    user_name: str
    """As the platform shows it; whoever bears it chose it. "" where there is none."""
    conversation: str
    chat_kind: ChatKind
    language: str
    bot: Bot
    timezone: str
    """Of the person, by IANA's name; that of the bot where they have said none."""

    def progress(self, words: str) -> None:
        """What the growing answer shows of it until something else is said, or it ends."""
        ...

    async def ask(self, question: str, choices: Sequence[str], *, typed: bool = False) -> str | None:
        """Which of the choices the person who asked presses; None for none in time, or where nobody can press.
        typed: or what they say there next."""
        ...

    async def sample(
        self,
        turns: Sequence[tuple[str, str]],
        *,
        system: str = "",
        max_tokens: int = 256,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> str:
        """What the model that answers says to these (role, text) pairs, the roles "user" and "assistant", and
        the last one the user's. It is asked in this person's name and counts as a question of theirs, with no
        tools and nothing of the conversation. Raises ToolFailed where it may not be asked, or has not answered."""
        ...


ToolFunction = Callable[[ToolUse], Awaitable[str]]
"""Returns what the model is told. It is cancelled by /stop and by its time limit. Raises ToolFailed."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call. `parameters` is a JSON schema of type "object".

    `asks_admins`: where it has to be asked about, an administrator is asked and not the asker. `timeout_s` of one
    call. `title`: what people are shown of it, by language; its name where there is none. `checked`: it is known
    already that `parameters` are a JSON schema; to find that out takes longer than the event loop should stand.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: ToolFunction
    nature: Nature = Nature.ACTS
    asks_admins: bool = False
    timeout_s: float = 30.0
    title: Mapping[str, str] = field(default_factory=dict[str, str])
    checked: bool = False


class Toolbox(Protocol):
    """Tools that come and go while the bot runs."""

    def tools(self) -> Sequence[Tool]:
        """Those of now. Called on the event loop before each answer, so it is quick."""
        ...


class Commandbox(Protocol):
    """Commands that come and go while the bot runs. They have titles, and names that nobody has registered."""

    def commands(self) -> Sequence[Command]:
        """Those of now. Called on the event loop for each message, so it is quick."""
        ...


class Background(Protocol):
    """What a plug-in does beside the conversations, while the bot runs."""

    async def __call__(self, bot: Bot) -> None:
        """Runs until it is cancelled, at the end of the bot. Where it raises, it is logged and begun again."""
        ...


class Panel(Protocol):
    """A plug-in's part of the operator's page, which only administrators can reach."""

    async def shown(self, bot: Bot) -> Mapping[str, Any]:
        """As JSON has it, and nothing secret. Called while somebody looks, every few seconds."""
        ...

    async def does(self, bot: Bot, wish: Mapping[str, Any], language: str) -> str:
        """Returns what became of it, in words. Raises ValueError with what is wrong with the wish, in words that
        repeat nothing secret."""
        ...


Advice = Callable[[], Sequence[tuple[bool, str]]]
"""What `glmbot doctor` says of a plug-in, each with whether that is well. It looks, and starts nothing."""


class Exchange(Protocol):
    """A message, and what is known of it so far. What a step changes here holds for the steps that follow.

    `reply`: the end of an answer that is not recorded yet, for steps between "answer" and "record". `said`: all
    that came of the question, in order, where that is more than the reply's words (a tool's calls and results). It
    is recorded with them, and engines that read such parts are told it with the next questions. `asked_by`: the
    name of the command by which the model is asked, "" for none. `asked`: the question with what it quotes, behind
    "quota".
    """

    message: Message
    language: str
    asked: str
    reply: Reply | None
    said: Content
    asked_by: str


Follows = Callable[[Any], AsyncGenerator[Reply, None]]
"""What follows a step: called with the exchange, it yields replies."""
Step = Callable[[Any, Follows], AsyncGenerator[Reply, None]]
Transform = Callable[[Message], Awaitable[str]]
"""What came along with a message (`Message.media`), as text: what was said in a voice message."""


class Direction(StrEnum):
    QUESTION = "question"
    """And whatever else reaches the model: a chat's system prompt, the messages of a program."""
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Passage:
    """What a moderator is asked about. `conversation` is "" for a program, which has none."""

    direction: Direction
    text: str
    user: str
    conversation: str


class Finding(Enum):
    """What is found in a text that grows."""

    NOTHING = "nothing"
    PERHAPS = "perhaps"
    """What comes next decides, so this much is not shown yet."""
    WORD = "word"
    """It may not be said."""


class Watch(Protocol):
    """Looks at one text while it grows."""

    def look(self, text: str) -> Finding:
        """`text` is all of it so far. Called on the event loop at each snapshot, so it is quick."""
        ...


@dataclass(frozen=True, slots=True)
class Moderator:
    """Says what may not be asked or said.

    `allows` is asked about each question, each system prompt that is set, each whole answer and thought, and what
    steps say came of a question (`Exchange.said`).
    `watch` makes what looks at a single answer while it grows; without it, answers are shown when they are
    complete and allowed. `allows` is asked about `at_once` texts at a time and has `timeout_s` seconds for each;
    `refuse_on_failure`: a text is refused when it raises or takes longer. `advice`: what `glmbot doctor` says of
    it, each with whether that is well.
    """

    allows: Callable[[Passage], Awaitable[bool]]
    watch: Callable[[], Watch] | None = None
    timeout_s: float = 5.0
    refuse_on_failure: bool = True
    at_once: int = 8
    advice: Sequence[tuple[bool, str]] = ()


class ModerationSettings(Protocol):
    """The section [moderation]."""

    @property
    def words_file(self) -> Path | None: ...

    @property
    def command(self) -> Sequence[str]: ...

    @property
    def timeout_s(self) -> float: ...

    @property
    def refuse_on_failure(self) -> bool: ...


ModeratorStart = Callable[[ModerationSettings], Moderator | None]
"""Makes a moderator out of [moderation], at the start and at each /reload; None where it has nothing to do. What
it raises ends that start or reload, since nobody may be answered without."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What an engine is asked, in the terms of chat completions.

    `messages` are (role, text) pairs, oldest first; the roles are "system", "user" and "assistant". The last one
    is the user's, or the beginning of an answer that is to go on. `temperature` 0 is greedy; `top_k` 0 and `top_p`
    1 are off; `seed` None is random.

    `tools` is for an engine that takes them, and empty where none are offered and none were called: `messages`
    with their calls and results, `tools`, and `tool_choice` and `parallel_tool_calls` where they are not the
    usual, as OpenAI's chat interface has them. Others read of the tools in the words of `messages`. `form`: what
    the answer has to look like, for an engine that holds it to one.
    """

    messages: Sequence[tuple[str, str]]
    user: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int | None
    stop: Sequence[str]
    tools: Mapping[str, Any] = field(default_factory=dict[str, Any])
    form: Form | None = None


class ChatEngine(Protocol):
    """Where it has a method `close`, that is called, and awaited, once nobody asks it any more. One with an
    attribute `takes_tools` that is True is given `ChatRequest.tools`, and one with `takes_forms` the `form`."""

    def generate(self, request: ChatRequest) -> AsyncGenerator[str | ToolCall, None]:
        """Yield an answer in pieces, and whole calls of tools. What is thought stands between <think> and
        </think>, and a call may stand as JSON between <tool_call> and </tool_call>. It is cancelled when its time
        is over or nobody wants it any more."""
        ...


EngineStart = Callable[[Any], ChatEngine | Awaitable[ChatEngine]]
"""Starts an engine with the settings of its [models.NAME] section. A class will do."""


class Host(Protocol):
    """One plug-in's own. Each method raises ValueError for what can't be: a name that is taken, or is none."""

    name: str
    log: Logger

    def settings(self, model: type[SettingsModel]) -> SettingsModel:
        """[plugins.NAME] as this model has it. Raises ConfigError."""
        ...

    def words(self, *, en: Mapping[str, str], zh: Mapping[str, str]) -> None:
        """Lines of the plug-in's own. Both languages have the same keys, and the same {fields} in each line."""
        ...

    def note(self, words: str) -> None:
        """A part that is not there, and what to do: `glmbot plugins` and `glmbot doctor` say it."""
        ...

    def command(self, command: Command) -> None: ...

    def commandbox(self, name: str, box: Commandbox) -> None: ...

    def tool(self, tool: Tool) -> None: ...

    def toolbox(self, name: str, toolbox: Toolbox) -> None: ...

    def background(self, name: str, work: Background) -> None: ...

    def panel(self, name: str, panel: Panel) -> None: ...

    def hide(self, secrets: Sequence[str]) -> None:
        """No log says them from now on; secret settings are hidden anyway."""
        ...

    def advice(self, say: Advice) -> None: ...

    def step(self, name: str, step: Step, *, before: str = "", after: str = "") -> None:
        """Place it right before or right after another one, by that one's name. It has at most the time that an
        answer may take ([dialogue] deadline_s)."""
        ...

    def transform(self, media: str, transform: Transform) -> None:
        """For messages whose `media` is this word ("voice")."""
        ...

    def engine(self, kind: str, settings: type[BaseModel], start: EngineStart) -> None:
        """For `engine = "kind"` in a [models.NAME] section. `settings`: the keys there that are its own."""
        ...

    def moderator(self, name: str, start: ModeratorStart) -> None:
        """All moderators are asked, the bot's own first; what one of them refuses is refused."""
        ...

    def platform(self, name: str, adapter: type[Adapter]) -> None:
        """Its settings are those of the section [NAME]."""
        ...

    def route(self, route: Route) -> None:
        """Answer requests at the HTTP server of [web]. The path begins with /plugins/NAME/, so that it is nobody
        else's, and the route has no door."""
        ...
