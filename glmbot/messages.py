"""What an adapter and the core share: messages going in, reply snapshots coming out. See `glmbot.ports`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from glmbot.completions import TokenScore
from glmbot.content import ToolCall
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.openings import SlashCommand, slash_command

__all__ = [
    "HIDDEN",
    "LONGEST_REF",
    "MOST_PIECES",
    "QUIET",
    "Act",
    "Action",
    "Addressed",
    "Announce",
    "Ask",
    "Attachment",
    "ChatKey",
    "ChatKind",
    "CommandInfo",
    "ConversationKey",
    "ConversationSummary",
    "Edit",
    "Health",
    "Intent",
    "Message",
    "Obstacle",
    "PastTurn",
    "Press",
    "PressedButton",
    "Reply",
    "ReplyState",
    "Role",
    "Unfinished",
    "Usage",
    "UserKey",
    "Visibility",
    "asks_of_tools",
    "is_anybodys",
]

HIDDEN = "hidden"
QUIET = frozenset({"stop", "tools", "poll"})
"""Commands whose buttons need no message: what comes of them is seen in the answer that they stand under, or by
who pressed alone."""

# What every store can keep of a number.
_LARGEST_NUMBER = 2**63 - 1
# Characters that are kept of what a message says, and that its names and notes may have: more than platforms send.
_LONGEST_TEXT = 1_000_000
_KEPT = {"quoted": 500_000, "quoted_from": 256, "user_name": 256, "language": 64, "media": 256}
_IDS = ("update_id", "ref", "replies_to", "source")
_MOST_NOTES, _LONGEST_NOTE = 32, 4096
# Characters that the platform's own names of updates and messages may have.
LONGEST_REF = 512
# Of one act: Telegram forwards at most 100 messages at once.
MOST_PIECES = 100
_ANYBODYS_BUTTON = re.compile(r"(?:tool(?:yes|here|no|(?:pick|type)[a-z])|poll[a-j])[a-z]{8}")
_SEALED = re.compile(r"sealed:gAAAAA[0-9A-Za-z_-]+={0,2}")


class ChatKind(StrEnum):
    PRIVATE = "private"
    GROUP = "group"


class Addressed(StrEnum):
    """How a message turns to the bot. A group's mode says which of these are answered there."""

    DIRECTLY = "directly"
    BY_COMMAND = "command"
    BY_MENTION = "mention"
    BY_REPLY = "reply"
    NOT = "not"


class Visibility(StrEnum):
    """Who sees the answer. It says nothing about who may do what: that is the chat's and the role's business."""

    EVERYONE = "everyone"
    ASKER = "asker"


class Role(StrEnum):
    USER = "user"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Ask:
    """Something is said that is no command."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The message with the same `ref` says this now. Accepting it stops that one's answer, and its own takes that
    one's place."""


@dataclass(frozen=True, slots=True)
class Press:
    """A button for `command` was pressed under the message `ref`, which shows an answer: what comes belongs into
    that message."""

    ref: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Announce:
    """Nobody asked: the bot says something of its own."""


Intent = Ask | Edit | Press | SlashCommand | Announce
"""What a message is meant for: one thing."""


@dataclass(frozen=True, slots=True)
class Act:
    """What tells that several messages are one act of a person (see `glmbot.dialogue.acts`); by default nothing.

    `at` is when the message was sent, in whole Unix seconds by the platform's own clock. `album` is what the
    messages of an album have in common. `cut` is the length of a text, in UTF-16 units, that is so long that the
    platform's client may have cut it there, and what follows at once is its rest. `forwarded`: said elsewhere.
    `pieces`, of a message that holds a whole act: the refs of its later messages, in order, each with how many
    characters of the text there are from where its own begin. Raises ValueError.
    """

    album: str = ""
    at: int = 0
    cut: int = 0
    forwarded: bool = False
    pieces: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        _check_numbers(self.at, self.cut, *self.pieces.values())
        if min(self.at, self.cut, *self.pieces.values(), 0) < 0 or type(self.forwarded) is not bool:
            raise ValueError("times and lengths of an act are no less than 0, and forwarded is true or false")
        if len(self.pieces) > MOST_PIECES:
            raise ValueError(f"an act has {len(self.pieces)} pieces, and at most {MOST_PIECES} are kept")
        for ref in (self.album, *self.pieces):
            if len(_valid("act", ref)) > LONGEST_REF:
                raise ValueError(f"an act's ids have at most {LONGEST_REF} characters")


@dataclass(frozen=True, slots=True)
class Message:
    """One normalised message from a platform.

    `update_id` is unique on its platform and stays the same when the platform sends the update again.
    `vouched` is set only by adapters that know by themselves who is speaking (the operator's own terminal,
    a web page behind a login); everybody else is looked up in the access lists.
    `origin` is the adapter's own note of where to answer; the core stores it and never reads it.
    `ref` is the platform's id of this very message in its chat, "" where there is none.
    `intent` follows from the text where it can: `Ask` becomes a `SlashCommand` where the text is one, and a
    `Press` takes its command from there. So adapters give it for what is neither asked nor commanded in words, and
    words that were sealed in the store say what they are meant for once they are open again.
    `replies_to` is the ref of the message that this one answers, `quoted` that one's text, or a text that was
    forwarded; where `text` says nothing, it is the question. It is never a command. `quoted_from` is the name of
    whose words a forwarded text is, "" where it is not known.
    `visibility`: on some platforms the answer to a command in a group is shown to the one who gave it alone.
    `media` names what came along and can't be read ("photo"); HIDDEN is text that the platform keeps back.
    `anonymous`: said in the name of a chat, `user` (a group's administrators, a channel), and nobody can know by
    whom.
    `source` is what a person can't choose, where the platform's ids can be chosen: a network address or a token,
    hashed by the adapter. Limits hold for it too; "" where a person is known by the platform.
    `act` tells which other messages were sent with this one, so that all of them get one answer.
    Text is made valid Unicode: JSON can carry half a surrogate pair, which no store and no socket takes; and it is
    shortened where it is longer than platforms send it. Raises ValueError for what is no text, as a broken update
    may have it, and for ids and notes that are too long to be any.
    """

    update_id: str
    conversation: ConversationKey
    user: UserKey
    text: str
    chat_kind: ChatKind = ChatKind.PRIVATE
    user_name: str = ""
    language: str = ""
    vouched: Role | None = None
    origin: Mapping[str, str] = field(default_factory=dict[str, str])
    ref: str = ""
    intent: Intent = field(default_factory=Ask)
    replies_to: str = ""
    quoted: str = ""
    quoted_from: str = ""
    addressed: Addressed = Addressed.DIRECTLY
    media: str = ""
    source: str = ""
    visibility: Visibility = Visibility.EVERYONE
    anonymous: bool = False
    act: Act = field(default_factory=Act)

    @property
    def chat(self) -> ChatKey:
        # Released versions wrote "0" for nobody, and so filed the terminal's chat of root, whose id it is, too.
        owner = self.user.id if self.chat_kind is ChatKind.PRIVATE and self.user.id != "0" else ""
        return ChatKey(self.conversation.platform, self.conversation.chat, owner)

    @property
    def command(self) -> SlashCommand | None:
        """The one that is given, in whichever way."""
        match self.intent:
            case SlashCommand():
                return self.intent
            case Edit() | Press():
                return slash_command(self.text)
            case Ask() | Announce():
                return None

    @property
    def about(self) -> str:
        """The ref of the message that a button stands under, or that is replied to; "" for none."""
        return self.intent.ref if isinstance(self.intent, Press) else self.replies_to

    @property
    def replaces(self) -> bool:
        """Whether its answer takes the place of an earlier one."""
        return isinstance(self.intent, Edit | Press)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _shortened(_valid("text", self.text)))
        self._settle()
        for name, length in _KEPT.items():
            value = _valid(name, getattr(self, name))
            object.__setattr__(self, name, value[: _room(value, length)])
        for name in _IDS:
            object.__setattr__(self, name, _checked_id(name, getattr(self, name)))
        if len(self.origin) > _MOST_NOTES:
            raise ValueError(f"an origin has {len(self.origin)} notes, and at most {_MOST_NOTES} are kept")
        notes = {_valid("origin", name): _valid("origin", note) for name, note in self.origin.items()}
        if any(len(text) > _LONGEST_NOTE for text in (*notes, *notes.values())):
            raise ValueError(f"a note of an origin has more than {_LONGEST_NOTE} characters")
        object.__setattr__(self, "origin", notes)

    def _settle(self) -> None:
        """See `intent`."""
        match self.intent:
            case Ask() | SlashCommand():
                object.__setattr__(self, "intent", slash_command(self.text) or Ask())
            case Press(ref, command):
                given = slash_command(self.text)
                pressed = Press(_checked_id("ref", ref), given.name if given else _valid("command", command))
                object.__setattr__(self, "intent", pressed)
            case Edit() | Announce():
                pass
            case _:
                raise ValueError(f"an intent can't be {type(self.intent).__name__}")


@dataclass(frozen=True, slots=True)
class PressedButton:
    """What an adapter reads of one. `asker`: whose answer it stands under, a person's id or a chat's."""

    asker: str
    message: Message

    @property
    def by_asker(self) -> bool:
        return self.asker == self.message.user.id

    @property
    def counts(self) -> bool:
        """It is pressed by who asked, or the dialogue alone knows who may."""
        return self.by_asker or asks_of_tools(self.message)


def asks_of_tools(message: Message) -> bool:
    """Whether a button answers what is asked of a tool (`glmbot.dialogue.tool_asks`), or votes: not only who asked
    the question may press it."""
    return isinstance(message.intent, Press) and is_anybodys(message.intent.command)


def is_anybodys(command: str) -> bool:
    """Whether a button for this is one of those."""
    return _ANYBODYS_BUTTON.fullmatch(command) is not None


def _checked_id(name: str, given: object) -> str:
    value = _valid(name, given)
    if len(value) > LONGEST_REF:
        raise ValueError(f"{name} has {len(value)} characters, and at most {LONGEST_REF} are read")
    return value


def _valid(name: str, given: object) -> str:
    if not isinstance(given, str):
        raise ValueError(f"{name} must be text, not {type(given).__name__}")
    return given.encode("utf-8", "replace").decode().replace("\x00", "")


def _room(text: str, length: int) -> int:
    """What was encrypted for the store (store/sealed.py) is longer than it was, and worth nothing if it is cut."""
    return 6 * length + 200 if _SEALED.fullmatch(text) else length


def _shortened(text: str) -> str:
    """What no model could read as a whole keeps its beginning and its end."""
    half = _LONGEST_TEXT // 2 - 2
    return text if len(text) <= _room(text, _LONGEST_TEXT) else f"{text[:half]}\n…\n{text[-half:]}"


def _check_numbers(*numbers: object) -> None:
    """The types say so; but what platforms send is not checked by types."""
    if not all(type(each) is int and abs(each) <= _LARGEST_NUMBER for each in numbers):
        raise ValueError(f"these must be whole numbers of at most 64 bits: {numbers!r}"[:200])


class ReplyState(StrEnum):
    QUEUED = "queued"
    STREAMING = "streaming"
    FINAL = "final"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return self not in (ReplyState.QUEUED, ReplyState.STREAMING)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, counted by the model's own tokenizer, the chat template included."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Action:
    """A command for a button, with the button's words."""

    command: str
    label: str


@dataclass(frozen=True, slots=True)
class Reply:
    """A snapshot: `text` is all of the answer so far, in the model's Markdown, never a delta. `thought` is what
    the model thought before it, in Markdown too: shown apart, where it is shown at all.

    `notice` is a line from the bot itself (place in the queue, a shortened question, an error), in the
    user's language; it is shown apart from the model's words and is not part of the history.
    `actions` make sense at this moment: stop while it grows, retry and continue afterwards.
    """

    text: str
    state: ReplyState
    notice: str = ""
    place: int | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    attachment: Attachment | None = None
    actions: tuple[Action, ...] = ()
    thought: str = ""
    scores: Sequence[TokenScore] = ()
    prompt_scores: Sequence[TokenScore] = ()
    echo: str = ""
    """The text of the prompt, where it was asked for."""
    calls: tuple[ToolCall, ...] = ()
    """Of an answer to a program that offered tools, once it has ended."""
    resumes: bool = False
    """The answer comes later, perhaps by another process: do not report the message as delivered, but `again`."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An accepted message whose answer its user has not seen to the end. `marks`: what was noted of it so far."""

    message: Message
    marks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CommandInfo:
    name: str
    description: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """For a list of one's conversations. `at` is the Unix time of the last turn."""

    conversation: ConversationKey
    title: str
    turns: int
    at: float


@dataclass(frozen=True, slots=True)
class PastTurn:
    """A turn of the current branch. `branches`: the numbers of all turns that stand in its place (the question in
    other words, another answer), its own among them, in the order in which they were asked. `thought`: what the
    model thought before its answer."""

    ref: str
    question: str
    answer: str
    number: int = 0
    branches: Sequence[int] = ()
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    ok: bool
    model: str
    precision: str
    running: int
    waiting: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A part that does not work, and why, in words that anybody may read. `partial`: it keeps only some from being
    answered (one platform, one conversation)."""

    part: str
    words: str
    partial: bool = False

    def __str__(self) -> str:
        return f"{self.part}: {self.words}"
