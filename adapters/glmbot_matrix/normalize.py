"""An event of a room as a Message, or as what else it says to us; None where nobody speaks to us. Pure.

https://spec.matrix.org/v1.15/client-server-api/#instant-messaging, and for how messages belong together
https://spec.matrix.org/v1.15/client-server-api/#forming-relationships-between-events
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import quote

from glmbot.http.fields import Fields, fields_of, matching, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, Ask, ChatKind, Edit, Message
from glmbot.openings import has_prefix, slash_command, without

__all__ = [
    "BUTTONS",
    "PLATFORM",
    "Deleted",
    "Edited",
    "Place",
    "Reacted",
    "Self",
    "Unreadable",
    "Upgraded",
    "event_id",
    "from_event",
    "is_too_old",
    "room_id",
    "since_invited",
]

PLATFORM = "matrix"
BUTTONS = "glmbot.buttons"
"""In what the bot says: whose answer it is, in which thread, and what its reactions are for."""

# https://spec.matrix.org/v1.15/appendices/#identifier-grammar: each at most 255 bytes, sigil and domain included.
_EVENT = re.compile(r"\$[^\s\x00]{1,254}")
_ROOM = re.compile(r"![^\s\x00]{1,254}")
_USER = re.compile(r"@[^\s:\x00]{0,254}:[^\s\x00]{1,254}")
_SAID = frozenset({"m.text", "m.emote"})
# https://spec.matrix.org/v1.15/client-server-api/#mroommessage-msgtypes; the bot itself speaks in m.notice, which
# "clients MUST NOT" answer: bots that answer each other never end.
_MEDIA = {
    "m.image": "photo",
    "m.file": "document",
    "m.audio": "audio",
    "m.video": "video",
    "m.location": "location",
}
# What a reply quoted until v1.13 of the spec, and some clients still do.
_FALLBACK = re.compile(r"> (?:\* )?<(?P<author>@[^>\s]{1,255})>(?P<words>[^\n]*(?:\n> ?[^\n]*)*)\n{0,2}")
_SIGN = re.compile(r"[!！](?P<name>[A-Za-z]{1,64})\b")
_LARGEST_TIME = 2**53
_MOST_MENTIONS = 1000
_LONGEST_KEY = 64


@dataclass(frozen=True, slots=True)
class Self:
    """Who the bot is. sent: what it said of late. threads: whether a question opens one. commands: by name."""

    user: str
    name: str = ""
    threads: bool = False
    commands: Collection[str] = ()
    sent: Container[str] = field(default_factory=frozenset[str])


@dataclass(frozen=True, slots=True)
class Place:
    """A room, as it is now: whether it is one person's and ours alone."""

    room: str
    private: bool


@dataclass(frozen=True, slots=True)
class Edited:
    """An edit does not say in which thread its message stands: `message.ref` finds it."""

    message: Message


@dataclass(frozen=True, slots=True)
class Reacted:
    place: Place
    under: str
    user: str
    key: str
    update_id: str


@dataclass(frozen=True, slots=True)
class Deleted:
    room: str
    ref: str
    at: float


@dataclass(frozen=True, slots=True)
class Upgraded:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It is encrypted, and can't be decrypted here."""

    room: str


Read = Message | Edited | Reacted | Deleted | Upgraded | Unreadable


def from_event(event: Fields, place: Place, me: Self) -> Read | None:
    """Raises ValueError for what no homeserver sends."""
    sender = matching(_USER, event.get("sender"))
    content = fields_of(event, "content")
    if sender == me.user:
        return None
    match text_of(event, "type"):
        case "m.room.message" if "state_key" not in event:
            return _message(event, content, place, me)
        case "m.reaction":
            return _reaction(event, content, place)
        case "m.room.redaction":
            # Until version 11 of rooms it stood beside the content.
            gone = content.get("redacts") or event.get("redacts")
            return Deleted(place.room, event_id(gone), _at(event)) if gone else None
        case "m.room.tombstone" if event.get("state_key") == "":
            new = content.get("replacement_room")
            return Upgraded(place.room, room_id(new)) if new else None
        case "m.room.encrypted":
            return Unreadable(place.room)
        case _:
            return None


def event_id(given: object) -> str:
    """Raises ValueError."""
    return matching(_EVENT, given)


def room_id(given: object) -> str:
    """Raises ValueError."""
    return matching(_ROOM, given)


def is_too_old(event: Fields, now: float, oldest_s: float) -> bool:
    """By the age that our own homeserver tells, else by the sender's clock."""
    age = fields_of(event, "unsigned").get("age")
    if type(age) is int:
        return age > oldest_s * 1000
    return _at(event) < now - oldest_s


def since_invited(events: Sequence[Fields], user: str) -> Sequence[Fields]:
    """Of the events of a room that the bot has come to with these: what was said since it was asked to come. What
    was said before was said to nobody here."""
    joined = next((at for at, event in enumerate(events) if _comes(event, user)), None)
    if joined is None:
        return events
    invited = [at for at, event in enumerate(events[:joined]) if _is_of(event, user, "invite")]
    return events[invited[-1] if invited else joined :]


def _comes(event: Fields, user: str) -> bool:
    """A member who changes their name joins once more."""
    before = fields_of(fields_of(event, "unsigned"), "prev_content")
    return _is_of(event, user, "join") and before.get("membership") != "join"


def _is_of(event: Fields, user: str, membership: str) -> bool:
    return (
        event.get("type") == "m.room.member"
        and event.get("state_key") == user
        and fields_of(event, "content").get("membership") == membership
    )


# ---- messages ---------------------------------------------------------------------------------------------------


def _message(event: Fields, content: Fields, place: Place, me: Self) -> Message | Edited | None:
    relation = fields_of(content, "m.relates_to")
    kind = text_of(relation, "rel_type")
    if kind == "m.replace":
        said = _said(event, fields_of(content, "m.new_content"), {}, place, me)
        if said is None or said.media:
            return None
        return Edited(replace(said, ref=event_id(relation.get("event_id")), intent=Edit()))
    return _said(event, content, relation, place, me)


def _said(event: Fields, content: Fields, relation: Fields, place: Place, me: Self) -> Message | None:
    msgtype = text_of(content, "msgtype")
    media = _MEDIA.get(msgtype, "")
    if msgtype not in _SAID and not media:
        return None
    sender, ref = matching(_USER, event.get("sender")), event_id(event.get("event_id"))
    body = _words(content, media)
    replies_to = _replies_to(relation)
    author = quoted = ""
    if replies_to and (fallback := _FALLBACK.match(body)):
        author, quoted = fallback["author"], _unquoted(fallback["words"])
        body = body[fallback.end() :]
    mentioned = _mentions(content, body, me)
    text = _commanded(without(body, _spans(body, me)) if mentioned else body, place, mentioned, me)
    private = place.private
    ours = author == me.user or (replies_to in me.sent if replies_to else False)
    addressed = Addressed.DIRECTLY if private else _addressed(body, text, mentioned, ours)
    if not (body or quoted or media) or (addressed is Addressed.NOT and not body):
        return None
    return Message(
        update_id=ref,
        conversation=_conversation(place, sender, ref, relation, me),
        user=UserKey(PLATFORM, sender),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        ref=ref,
        intent=Ask(),
        replies_to=replies_to,
        quoted=quoted,
        addressed=addressed,
        media=media,
        act=Act(at=int(_at(event))),
    )


def _words(content: Fields, media: str) -> str:
    """Of a file they are its caption, where its name is told by itself:
    https://spec.matrix.org/v1.15/client-server-api/#media-captions"""
    body = text_of(content, "body")
    if media:
        name = content.get("filename")
        return body if isinstance(name, str) and name and name != body else ""
    return body


def _conversation(place: Place, sender: str, ref: str, relation: Fields, me: Self) -> ConversationKey:
    if relation.get("rel_type") == "m.thread":
        thread = event_id(relation.get("event_id"))
    else:
        thread = ref if me.threads and not place.private else ""
    # Also where they are alone with the bot: somebody else may be so in the same room later.
    return ConversationKey(PLATFORM, place.room, sender, thread)


def _replies_to(relation: Fields) -> str:
    """In a thread every message names the one before it, for clients that know no threads: that is no reply."""
    if relation.get("rel_type") == "m.thread" and relation.get("is_falling_back") is True:
        return ""
    about = fields_of(relation, "m.in_reply_to").get("event_id")
    return event_id(about) if about else ""


def _unquoted(lines: str) -> str:
    return "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines.strip().split("\n"))


# ---- to whom ----------------------------------------------------------------------------------------------------


def _mentions(content: Fields, body: str, me: Self) -> bool:
    """https://spec.matrix.org/v1.15/client-server-api/#user-and-room-mentions; older clients tell by a link
    alone."""
    given = content.get("m.mentions")
    if isinstance(given, dict):
        users = cast(Fields, given).get("user_ids")
        return isinstance(users, list) and me.user in cast(list[Any], users)[:_MOST_MENTIONS]
    html = content.get("formatted_body")
    if isinstance(html, str) and any(
        f"https://matrix.to/#/{name}" in html for name in {me.user, quote(me.user)}
    ):
        return True
    return me.user in body


def _spans(body: str, me: Self) -> list[tuple[int, int]]:
    """Where the words name the bot: its account anywhere, its name where it is called by it."""
    found = [match.span() for match in re.finditer(rf"{re.escape(me.user)}(?![\w-]|[.:]\w)", body)]
    local = me.user[1:].partition(":")[0]
    for name in sorted({me.name, local} - {""}, key=len, reverse=True):
        match = re.match(rf"\s*@?{re.escape(name)}(?![\w-])", body, re.IGNORECASE)
        if match is None:
            match = re.search(rf"(?:^|(?<=\s))@?{re.escape(name)}[.!?。！？]?\s*$", body, re.IGNORECASE)
        if match is not None and not any(start < match.end() and match.start() < end for start, end in found):
            return [*found, match.span()]
    return found


def _commanded(text: str, place: Place, mentioned: bool, me: Self) -> str:
    """Clients keep words behind "/" for themselves, so "!new" said to the bot is "/new"."""
    match = _SIGN.match(text.strip()) if place.private or mentioned else None
    if match is None or match["name"].lower() not in me.commands:
        return text
    return f"/{text.strip()[1:]}"


def _addressed(body: str, text: str, mentioned: bool, ours: bool) -> Addressed:
    if slash_command(body) is not None:
        return Addressed.BY_COMMAND
    if has_prefix(body):
        return Addressed.NOT
    if mentioned:
        return Addressed.BY_MENTION
    return Addressed.BY_REPLY if ours else Addressed.NOT


def _reaction(event: Fields, content: Fields, place: Place) -> Reacted | None:
    relation = fields_of(content, "m.relates_to")
    key = relation.get("key")
    if relation.get("rel_type") != "m.annotation" or not isinstance(key, str) or len(key) > _LONGEST_KEY:
        return None
    return Reacted(
        place,
        event_id(relation.get("event_id")),
        matching(_USER, event.get("sender")),
        key,
        event_id(event.get("event_id")),
    )


def _at(event: Fields) -> float:
    """In Unix seconds, by the clock of whoever sent it. Raises ValueError."""
    at = event.get("origin_server_ts")
    if type(at) is not int or not 0 <= at <= _LARGEST_TIME:
        raise ValueError("a time is a whole number of milliseconds")
    return at / 1000
