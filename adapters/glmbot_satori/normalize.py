"""An event of Satori as what was said, changed or deleted, or None where nobody speaks to us. Pure.

https://satori.js.org/en-US/protocol/events.html. Ids are any text; which platform below they are of stands before
them, since two platforms may have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from glmbot.http.fields import as_object
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Act, Addressed, Ask, ChatKind, Edit, Message
from glmbot.openings import has_prefix, slash_command, without
from glmbot_satori.elements import Content, read_content

__all__ = ["BELOW", "CHANNEL", "DIRECT", "PLATFORM", "SELF", "Deleted", "Login", "login_of", "read_event"]

PLATFORM = "satori"
BELOW, SELF, CHANNEL = "platform", "self", "channel"
"""Notes of where to answer: the platform below, the bot's id on it, the channel's."""
DIRECT = 1
"""https://satori.js.org/en-US/resources/channel.html"""

_MESSAGES = frozenset({"message-created", "message-updated"})
_GESTURES = frozenset({"sticker"})


@dataclass(frozen=True, slots=True)
class Login:
    """The bot on one platform, and what it can there."""

    platform: str
    self_id: str
    name: str = ""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Deleted:
    """A message is gone. `user`: by whom it was, "" where that is not told."""

    chat: ChatKey
    conversation: ConversationKey | None
    ref: str
    at: float


def login_of(given: object) -> Login | None:
    """Raises ValueError for what is no login; None while it has no account yet."""
    fields = as_object(given)
    user = as_object(fields.get("user") or {})
    self_id, platform = user.get("id") or fields.get("self_id"), fields.get("platform")
    if not self_id or not platform:
        return None
    features = fields.get("features")
    known = cast(list[object], features)[:500] if isinstance(features, list) else []
    return Login(
        _text(platform),
        _text(self_id),
        str(user.get("nick") or user.get("name") or "")[:100],
        frozenset(each for each in known if isinstance(each, str)),
    )


def read_event(event: Mapping[str, Any], *, language: str) -> Message | Deleted | None:
    """Raises ValueError for what is broken."""
    kind = event.get("type")
    if kind not in _MESSAGES and kind != "message-deleted":
        return None
    login = login_of({"platform": event.get("platform"), "self_id": event.get("self_id"), **_login(event)})
    if login is None:
        raise ValueError("an event of no login")
    message, channel = as_object(event.get("message")), _channel(event)
    ref, channel_id = _text(message.get("id")), _text(channel.get("id"))
    kind_of_channel = channel.get("type")
    direct = kind_of_channel == DIRECT or (kind_of_channel is None and not event.get("guild"))
    chat = f"{login.platform}/{channel_id}"
    author = event.get("user") or message.get("user")
    about = as_object(author) if author else {}
    user_id = f"{login.platform}/{_text(about['id'])}" if about.get("id") else ""
    if kind == "message-deleted":
        return _deleted(chat, user_id, ref, event, direct=direct)
    if not user_id or about.get("id") == login.self_id or about.get("is_bot") is True:
        return None
    content = read_content(str(message.get("content") or ""), login.self_id)
    quoted, by_us = _quoted(message, content, login.self_id)
    addressed = Addressed.DIRECTLY if direct else _addressed(content, by_us=by_us)
    text = without(content.text, content.mentions) if content.mentions else content.text
    text = text.strip("\n")
    silent = kind == "message-updated" or (not direct and not content.mentions and content.media in _GESTURES)
    if addressed is None or not (text.strip() or (content.media and not silent) or _asks(content, direct)):
        return None
    if addressed is Addressed.NOT and not text.strip():
        return None
    member = as_object(event.get("member") or {})
    return Message(
        update_id=f"{login.platform}/{login.self_id}:{channel_id}:{ref}{_version(event)}",
        conversation=ConversationKey(PLATFORM, chat, "" if direct else user_id),
        user=UserKey(PLATFORM, user_id),
        text=text,
        chat_kind=ChatKind.PRIVATE if direct else ChatKind.GROUP,
        user_name=str(member.get("nick") or about.get("nick") or about.get("name") or ""),
        language=language,
        origin={BELOW: login.platform, SELF: login.self_id, CHANNEL: channel_id},
        ref=ref,
        intent=Edit() if kind == "message-updated" else Ask(),
        replies_to=_replies_to(message, content),
        quoted="\n".join(filter(None, (quoted if not by_us or text.strip() else "", content.forwarded))),
        addressed=addressed,
        media=content.media,
        act=Act(at=int(_seconds(event))),
    )


def _asks(content: Content, direct: bool) -> bool:
    """Without words of its own: forwarded ones in private, a mention that asks about what it replies to."""
    return bool(content.mentions) or (direct and bool(content.forwarded))


def _deleted(chat: str, user_id: str, ref: str, event: Mapping[str, Any], *, direct: bool) -> Deleted | None:
    conversation = None
    if direct:
        conversation = ConversationKey(PLATFORM, chat)
    elif user_id:
        conversation = ConversationKey(PLATFORM, chat, user_id)
    owner = user_id if direct else ""
    return Deleted(ChatKey(PLATFORM, chat, owner), conversation, ref, _seconds(event))


def _addressed(content: Content, *, by_us: bool) -> Addressed | None:
    """None: a command for a bot that it names, as ours has other names on each platform."""
    if (command := slash_command(content.text)) is not None:
        return Addressed.BY_COMMAND if command.may_be_for("") else None
    if content.mentions:
        return Addressed.BY_MENTION
    if has_prefix(content.text):
        return Addressed.NOT
    return Addressed.BY_REPLY if by_us else Addressed.NOT


def _quoted(message: Mapping[str, Any], content: Content, self_id: str) -> tuple[str, bool]:
    """The words of what is replied to, and whether they are ours."""
    quote = message.get("quote")
    if not isinstance(quote, dict):
        return content.quoted, False
    fields = cast(dict[str, Any], quote)
    inside = read_content(str(fields.get("content") or ""), self_id)
    author = fields.get("user") or as_object(fields.get("member") or {}).get("user")
    by_us = isinstance(author, dict) and cast(dict[str, Any], author).get("id") == self_id
    words = "\n".join(filter(None, (inside.text.strip(), inside.forwarded)))
    return words or content.quoted, by_us


def _replies_to(message: Mapping[str, Any], content: Content) -> str:
    quote = message.get("quote")
    given = cast(dict[str, Any], quote).get("id") if isinstance(quote, dict) else None
    return given if isinstance(given, str) else content.quote


def _version(event: Mapping[str, Any]) -> str:
    """An edit is something else that was said, and so is the next one."""
    if event.get("type") != "message-updated":
        return ""
    return f":{event.get('timestamp') or event.get('sn', event.get('id'))}"[:40]


def _login(event: Mapping[str, Any]) -> dict[str, Any]:
    login = event.get("login")
    return {key: value for key, value in as_object(login).items() if value} if login else {}


def _channel(event: Mapping[str, Any]) -> dict[str, Any]:
    return as_object(event.get("channel") or as_object(event.get("message")).get("channel"))


def _seconds(event: Mapping[str, Any]) -> float:
    """Events have milliseconds."""
    at = event.get("timestamp")
    return at / 1000 if type(at) is int and 0 <= at < 2**50 else 0.0


def _text(given: object) -> str:
    """Older servers have numbers as ids. Raises ValueError."""
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) < 2**64:
        return str(given)
    if not isinstance(given, str) or not given or len(given) > 512:
        raise ValueError("an id is text")
    return given
