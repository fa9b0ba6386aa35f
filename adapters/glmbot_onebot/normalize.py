"""An event of OneBot 11 as what was said or recalled, or None where nobody speaks to us. Pure.

https://github.com/botuniverse/onebot-11/blob/master/event/message.md and notice.md. Pokes, requests and other
notices are nobody's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from glmbot.http.fields import as_object
from glmbot.keys import ChatKey, ConversationKey, UserKey, numeric_id
from glmbot.messages import Act, Addressed, ChatKind, Message
from glmbot.openings import has_prefix, slash_command, without
from glmbot_onebot.segments import Segment, media_of, segments, words_of

__all__ = [
    "PLATFORM",
    "TEMPORARY",
    "Quoted",
    "Recalled",
    "Said",
    "forwarded_words",
    "group_of",
    "quoted_from",
    "read_event",
    "to_message",
]

PLATFORM = "onebot"
TEMPORARY = "temporary"
"""A note of where to answer: the group by way of which somebody who is no friend writes in private."""

# Of what was forwarded: more is nobody's question.
_MOST_NODES = 100
_LONGEST_FORWARD = 50_000
# What people say to each other in a group without a word.
_GESTURES = frozenset({"sticker", "dice"})


@dataclass(frozen=True, slots=True)
class Said:
    """A message as it came. The implementation is still to be asked about what it replies to, and forwards."""

    self_id: str
    user: str
    name: str
    group: str
    temporary: str
    ref: str
    at: int
    anonymous: bool
    parts: Sequence[Segment]

    @property
    def chat(self) -> str:
        return f"g{self.group}" if self.group else self.user

    @property
    def replies_to(self) -> str:
        return next((part.data.get("id", "") for part in self.parts if part.type == "reply"), "")

    @property
    def forward(self) -> str:
        return next((part.data.get("id", "") for part in self.parts if part.type == "forward"), "")


@dataclass(frozen=True, slots=True)
class Quoted:
    """The message that another one replies to."""

    by_us: bool = False
    text: str = ""
    media: str = ""
    forward: str = ""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A message was taken back. `user`: by whom it was."""

    chat: ChatKey
    conversation: ConversationKey
    ref: str


def group_of(chat: str) -> str:
    """The number of a group by its id here, "" for a private chat. People and groups have the same numbers."""
    return chat[1:] if chat.startswith("g") else ""


def read_event(event: Mapping[str, Any]) -> Said | Recalled | None:
    """Raises ValueError for what is broken."""
    match event.get("post_type"):
        case "message":
            return _said(event)
        case "notice" if event.get("notice_type") in ("group_recall", "friend_recall"):
            return _recalled(event)
        case _:
            return None


def to_message(
    said: Said, quoted: Quoted | None, forwarded: str, *, keywords: Sequence[str], language: str
) -> Message | None:
    """`forwarded`: the words of what was forwarded, here or in what is replied to."""
    private = not said.group
    text, mentions = _text(said)
    media = media_of(said.parts)
    if not private and _begins_with(text, keywords):
        word = next(each for each in keywords if each and text.lstrip().lower().startswith(each.lower()))
        start = len(text) - len(text.lstrip())
        mentions = [(start, start + len(word)), *(each for each in mentions if each[0] >= start + len(word))]
    by_us = quoted is not None and quoted.by_us
    addressed = Addressed.DIRECTLY if private else _addressed(text, mentions, by_us=by_us)
    if addressed is None:
        return None
    words = without(text, mentions) if mentions else text
    if addressed is Addressed.NOT and not words.strip():
        return None
    if not private and not words.strip() and not mentions and media in _GESTURES:
        return None
    if media == "forward" and forwarded:
        media = ""
    about, about_media = _about(quoted, words)
    return Message(
        update_id=f"{said.chat}:{said.ref}",
        conversation=ConversationKey(PLATFORM, said.chat, "" if private else said.user),
        user=UserKey(PLATFORM, said.user),
        text=words,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=said.name,
        language=language,
        origin={TEMPORARY: said.temporary} if said.temporary else {},
        ref=said.ref,
        replies_to=said.replies_to,
        quoted="\n".join(filter(None, (about, forwarded))),
        addressed=addressed,
        media=media or ("" if forwarded else about_media),
        anonymous=said.anonymous,
        act=Act(at=said.at),
    )


def quoted_from(answer: object, self_id: str) -> Quoted:
    """What `get_msg` answered. Raises ValueError."""
    fields = as_object(answer)
    parts = segments(fields.get("message"))
    sender = fields.get("sender")
    author = cast(dict[str, Any], sender).get("user_id") if isinstance(sender, dict) else None
    forward = next((part.data.get("id", "") for part in parts if part.type == "forward"), "")
    return Quoted(str(author) == self_id, words_of(parts), media_of(parts), forward)


def forwarded_words(answer: object) -> str:
    """What `get_forward_msg` answered, as lines of "name: words". Raises ValueError."""
    fields = as_object(answer)
    nodes = fields.get("messages", fields.get("message"))
    if not isinstance(nodes, list):
        raise ValueError("what was forwarded is a list")
    lines: list[str] = []
    for node in cast(list[object], nodes)[:_MOST_NODES]:
        name, words = _node(node)
        if words:
            lines.append(f"{name}: {words}" if name else words)
    return "\n".join(lines)[:_LONGEST_FORWARD]


# ---- who said what ----------------------------------------------------------------------------------------------


def _said(event: Mapping[str, Any]) -> Said | None:
    self_id, user = _number(event.get("self_id")), _number(event.get("user_id"))
    kind, sub_type = event.get("message_type"), event.get("sub_type")
    if kind not in ("private", "group"):
        return None
    # Notices of the group's own are messages of a kind, and so are ours that another device sent.
    if user == self_id or sub_type == "notice":
        return None
    sender = event.get("sender")
    about = cast(dict[str, Any], sender) if isinstance(sender, dict) else {}
    group = _number(event.get("group_id")) if kind == "group" else ""
    anonymous = kind == "group" and (sub_type == "anonymous" or bool(event.get("anonymous")))
    temporary = ""
    if kind == "private" and sub_type == "group":
        through = event.get("group_id") or about.get("group_id")
        temporary = _number(through) if through else ""
    at = event.get("time")
    return Said(
        self_id=self_id,
        user=f"g{group}" if anonymous else user,
        name=str(about.get("card") or about.get("nickname") or ""),
        group=group,
        temporary=temporary,
        ref=_ref(event.get("message_id")),
        at=at if type(at) is int and 0 <= at < 2**40 else 0,
        anonymous=anonymous,
        parts=segments(event.get("message")),
    )


def _recalled(event: Mapping[str, Any]) -> Recalled:
    ref, user = _ref(event.get("message_id")), _number(event.get("user_id"))
    if event.get("notice_type") == "friend_recall":
        return Recalled(ChatKey(PLATFORM, user, user), ConversationKey(PLATFORM, user), ref)
    chat = f"g{_number(event.get('group_id'))}"
    return Recalled(ChatKey(PLATFORM, chat), ConversationKey(PLATFORM, chat, user), ref)


def _text(said: Said) -> tuple[str, list[tuple[int, int]]]:
    """What was said, and where in it the bot is mentioned. "@everyone" is said to everyone, and so to nobody."""
    out, length = [""], 0
    mentions: list[tuple[int, int]] = []
    for part in said.parts:
        if part.type == "text":
            words = part.data.get("text", "")
        elif part.type == "at" and part.data.get("qq") == said.self_id:
            words = f"@{said.self_id}"
            mentions.append((length, length + len(words)))
        elif part.type == "at":
            words = f"@{part.data.get('name') or part.data.get('qq', '')} "
        else:
            continue
        out.append(words)
        length += len(words)
    return "".join(out), mentions


def _addressed(text: str, mentions: Sequence[tuple[int, int]], *, by_us: bool) -> Addressed | None:
    """None: a command for a bot that it names, as ours has no such name."""
    if (command := slash_command(text)) is not None:
        return Addressed.BY_COMMAND if command.may_be_for("") else None
    if mentions:
        return Addressed.BY_MENTION
    if has_prefix(text):
        return Addressed.NOT
    return Addressed.BY_REPLY if by_us else Addressed.NOT


def _begins_with(text: str, keywords: Sequence[str]) -> bool:
    begins = text.lstrip().lower()
    return any(each and begins.startswith(each.lower()) for each in keywords)


def _about(quoted: Quoted | None, words: str) -> tuple[str, str]:
    """The words that this message is about, and the name of what can't be read there."""
    if quoted is None:
        return "", ""
    if quoted.by_us:
        # Its words are in the history; a mention that adds none asks nothing about them.
        return quoted.text if words.strip() else "", ""
    return quoted.text, quoted.media


def _node(node: object) -> tuple[str, str]:
    """One message of those that were forwarded: NapCat's and go-cqhttp's form, and the protocol's own."""
    fields = as_object(node)
    if fields.get("type") == "node":
        fields = as_object(fields.get("data"))
    sender = fields.get("sender")
    about = cast(dict[str, Any], sender) if isinstance(sender, dict) else fields
    name = str(about.get("nickname") or about.get("name") or "")[:100]
    return name, words_of(segments(fields.get("content", fields.get("message"))))


def _number(given: object) -> str:
    """Some implementations write numbers as text. Raises ValueError."""
    if isinstance(given, str) and given.isascii() and given.isdecimal() and len(given) < 20:
        given = int(given)
    return numeric_id(given)


def _ref(given: object) -> str:
    """A message's number may be below 0. Raises ValueError."""
    if isinstance(given, str) and given.removeprefix("-").isdecimal() and given.isascii() and len(given) < 20:
        given = int(given)
    return numeric_id(given, signed=True)
