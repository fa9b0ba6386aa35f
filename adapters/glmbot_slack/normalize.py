"""What Slack tells as a Message, a pressed button, a deletion, an opened tab; None for all else. Pure.

https://docs.slack.dev/reference/events/message, https://docs.slack.dev/messaging/formatting-message-text
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from glmbot.http.fields import Fields, fields_of, matching, objects_in, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, Ask, ChatKind, Edit, Message, Press, PressedButton
from glmbot.openings import has_prefix, slash_command, without

__all__ = [
    "PLATFORM",
    "TEAM",
    "Deleted",
    "HomeOpened",
    "Self",
    "button_value",
    "from_command",
    "from_event",
    "from_press",
    "plain_text",
]

PLATFORM = "slack"
# A note of the workspace of who asks, which in a shared channel may be another than the bot's.
TEAM = "team"

# Subtypes of messages that a person wrote; all others tell of joins, topics, bots.
_SAID = frozenset({"", "file_share", "thread_broadcast", "me_message"})
_ID = re.compile(r"[A-Z0-9]{2,64}")
_TS = re.compile(r"[0-9]{1,12}\.[0-9]{1,8}")
_TRIGGER = re.compile(r"[A-Za-z0-9._-]{1,200}")
_BUTTON = re.compile(r"(?P<command>[a-z]{1,20}):(?P<asker>[A-Z0-9]{2,64}):(?P<thread>[0-9.]{0,21})")
_LINK = re.compile(r"<(?P<sign>[@#!]?)(?P<target>[^<>|\n]{1,4000})(?:\|(?P<label>[^<>\n]{0,4000}))?>")
_SLACKBOT = "USLACKBOT"


@dataclass(frozen=True, slots=True)
class Self:
    """Who the bot is: `user` in mentions, `bot` in what it sends. threads: whether a question opens one."""

    user: str
    bot: str = ""
    threads: bool = True


@dataclass(frozen=True, slots=True)
class Deleted:
    conversation: ConversationKey
    ref: str


@dataclass(frozen=True, slots=True)
class HomeOpened:
    user: str


def button_value(command: str, asker: str, thread: str) -> str:
    """At most 2000 characters: https://docs.slack.dev/reference/block-kit/block-elements/button-element"""
    return f"{command}:{asker}:{thread}"


def from_event(event: Fields, me: Self) -> Message | Deleted | HomeOpened | None:
    """The event within an event_callback. A message is known by its channel and time, so that app_mention and
    message, and an event that comes again, are one. Raises ValueError for what Slack never sends."""
    kind, subtype = text_of(event, "type"), text_of(event, "subtype")
    if kind == "app_home_opened" and text_of(event, "tab") == "home":
        return HomeOpened(_id(event.get("user")))
    if kind not in ("message", "app_mention"):
        return None
    channel = _id(event.get("channel"))
    match subtype:
        case "message_changed":
            return _changed(fields_of(event, "message"), fields_of(event, "previous_message"), channel, me)
        case "message_deleted":
            return _deleted(fields_of(event, "previous_message"), channel, me)
        case _ if subtype in _SAID:
            return _said(event, channel, me, edited="")
        case _:
            return None


def from_command(payload: Fields, commands: Collection[str]) -> Message:
    """A slash command: the app has one, such as /glm, and what follows it is a command of the bot's or a question.
    Raises ValueError."""
    channel, user = _id(payload.get("channel_id")), _id(payload.get("user_id"))
    given = text_of(payload, "text").strip()
    word = given.removeprefix("/").partition(" ")[0].lower()
    if not given:
        text = "/help"
    elif given.startswith("/") or word in commands:
        text = f"/{given.removeprefix('/')}"
    else:
        text = f"/ask {given}"
    private = _is_private(channel)
    return Message(
        update_id=f"slash:{matching(_TRIGGER, payload.get('trigger_id'))}",
        conversation=ConversationKey(PLATFORM, channel, "" if private else user),
        user=UserKey(PLATFORM, user),
        text=plain_text(text),
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=text_of(payload, "user_name"),
        addressed=Addressed.DIRECTLY if private else Addressed.BY_COMMAND,
    )


def from_press(payload: Fields) -> PressedButton | None:
    """A block_actions payload; None for a button that is none of ours. Raises ValueError."""
    actions = payload.get("actions")
    if payload.get("type") != "block_actions" or not isinstance(actions, list) or not actions:
        return None
    action = cast(Fields, actions[0])
    data = _BUTTON.fullmatch(text_of(action, "value"))
    if data is None:
        return None
    container, person = fields_of(payload, "container"), fields_of(payload, "user")
    channel, user = _id(container.get("channel_id")), _id(person.get("id"))
    under = matching(_TS, container.get("message_ts"))
    private = _is_private(channel)
    thread = matching(_TS, data["thread"]) if data["thread"] else ""
    message = Message(
        update_id=f"press:{channel}:{under}:{matching(_TS, action.get('action_ts'))}",
        conversation=ConversationKey(PLATFORM, channel, "" if private else data["asker"], thread),
        user=UserKey(PLATFORM, user),
        text=f"/{data['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=text_of(person, "name") or text_of(person, "username"),
        intent=Press(under),
        origin=_from_team(person.get("team_id")),
    )
    return PressedButton(data["asker"], message)


def plain_text(text: str) -> str:
    """What was written, without Slack's marks: of links words and address, of people and channels the names."""
    return _unescaped(_LINK.sub(_link_words, text))


def _link_words(match: re.Match[str]) -> str:
    sign, target, label = match["sign"], match["target"], match["label"] or ""
    match sign:
        case "@" | "#":
            return f"{sign}{label or target}"
        case "!":
            return label or f"@{target.partition('^')[0]}"
        case _:
            return target if not label or target.endswith(label) else f"{label} ({target})"


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


# ---- messages ---------------------------------------------------------------------------------------------------


def _changed(message: Fields, before: Fields, channel: str, me: Self) -> Message | None:
    """Slack changes messages itself, when it unfolds a link, say: that is no edit."""
    edited = fields_of(message, "edited")
    if not edited or text_of(message, "text") == text_of(before, "text"):
        return None
    if text_of(message, "subtype") not in _SAID:
        return None
    return _said(message, channel, me, edited=matching(_TS, edited.get("ts")))


def _deleted(before: Fields, channel: str, me: Self) -> Deleted | None:
    if not before or _is_bot(before, me) or not text_of(before, "user"):
        return None
    user, ts = _id(before.get("user")), matching(_TS, before.get("ts"))
    return Deleted(_conversation(before, channel, user, ts, me), ts)


def _said(said: Fields, channel: str, me: Self, *, edited: str) -> Message | None:
    if _is_bot(said, me) or not text_of(said, "user"):
        return None
    user, ts = _id(said.get("user")), matching(_TS, said.get("ts"))
    private = _is_private(channel)
    written, media = text_of(said, "text"), _media(said)
    quoted, quoted_from = _shared(said)
    mentions = [] if private else _mentions(written, me)
    addressed = Addressed.DIRECTLY if private else _addressed(said, written, bool(mentions), me)
    if not (written or quoted or media) or (addressed is Addressed.NOT and not written):
        return None
    text = plain_text(without(written, mentions))
    return Message(
        update_id=":".join(filter(None, (channel, ts, edited))),
        conversation=_conversation(said, channel, user, ts, me),
        user=UserKey(PLATFORM, user),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        ref=ts,
        intent=Edit() if edited else Ask(),
        quoted=quoted,
        quoted_from=quoted_from,
        addressed=addressed,
        media=media,
        act=Act(at=int(ts.partition(".")[0])),
        origin=_from_team(said.get("user_team") or said.get("team")),
    )


def _conversation(said: Fields, channel: str, user: str, ts: str, me: Self) -> ConversationKey:
    private = _is_private(channel)
    thread = said.get("thread_ts")
    where = matching(_TS, thread) if thread else ("" if private or not me.threads else ts)
    return ConversationKey(PLATFORM, channel, "" if private else user, where)


def _addressed(said: Fields, written: str, mentioned: bool, me: Self) -> Addressed:
    if slash_command(written) is not None:
        return Addressed.BY_COMMAND
    if has_prefix(written):
        return Addressed.NOT
    if mentioned:
        return Addressed.BY_MENTION
    return Addressed.BY_REPLY if said.get("parent_user_id") == me.user else Addressed.NOT


def _mentions(written: str, me: Self) -> list[tuple[int, int]]:
    found = (
        match for match in _LINK.finditer(written) if match["sign"] == "@" and match["target"] == me.user
    )
    return [match.span() for match in found]


def _is_bot(said: Fields, me: Self) -> bool:
    """Itself, and whatever speaks through an app: bots that answer each other never end."""
    if said.get("bot_id") or said.get("bot_profile"):
        return True
    return said.get("user") in (me.user, _SLACKBOT)


def _media(said: Fields) -> str:
    files = said.get("files")
    if not isinstance(files, list) or not files:
        return ""
    first = cast(list[Any], files)[0]
    kind = text_of(first, "mimetype") if isinstance(first, Mapping) else ""
    return {"image": "photo", "audio": "audio", "video": "video"}.get(kind.partition("/")[0], "document")


def _shared(said: Fields) -> tuple[str, str]:
    """The words of a message that was shared into the chat, and whose they are."""
    for shared in objects_in(said.get("attachments")):
        if shared.get("is_share") or shared.get("is_msg_unfurl"):
            return plain_text(text_of(shared, "text")), text_of(shared, "author_name")
    return "", ""


# ---- fields -----------------------------------------------------------------------------------------------------


def _is_private(channel: str) -> bool:
    """https://docs.slack.dev/apis/web-api/using-the-conversations-api: ids of direct messages begin with D."""
    return channel.startswith("D")


def _from_team(team: object) -> Mapping[str, str]:
    return {TEAM: team} if isinstance(team, str) and _ID.fullmatch(team) else {}


def _id(given: object) -> str:
    return matching(_ID, given)
