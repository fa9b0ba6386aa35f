"""What Feishu tells as a Message, a pressed button or a deletion, or None where nobody speaks to us. Pure.

https://open.feishu.cn/document/server-docs/im-v1/message/events/receive,
https://open.feishu.cn/document/server-docs/im-v1/message-content-description/message_content,
https://open.feishu.cn/document/feishu-cards/card-callback-communication
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from glmbot.http.fields import Fields, as_fields, fields_of, matching, objects_in, parsed, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, Ask, ChatKind, Message, Press, PressedButton
from glmbot.openings import has_prefix, slash_command, without

__all__ = ["PLATFORM", "Deleted", "button_value", "from_event"]

PLATFORM = "feishu"

_ID = re.compile(r"(?P<kind>om|oc|ou|omt)_[A-Za-z0-9]{1,64}")
_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_COMMAND = re.compile(r"[a-z]{1,20}")
_MILLISECONDS = re.compile(r"[0-9]{10,14}")
# Of messages that are not read, what is said of them.
_MEDIA = {
    "image": "photo", "file": "document", "audio": "voice", "media": "video", "sticker": "sticker",
    "interactive": "card", "share_chat": "contact", "share_user": "contact", "location": "location",
    "folder": "document", "vote": "poll", "todo": "poll", "share_calendar_event": "document", "hongbao": "gift",
    "video_chat": "video", "merge_forward": "document", "calendar": "document", "general_calendar": "document",
}  # fmt: skip
_GESTURES = frozenset({"sticker", "gift"})


@dataclass(frozen=True, slots=True)
class Deleted:
    """`at` is Unix time."""

    chat: str
    ref: str
    at: float


def button_value(command: str, asker: str, thread: str, *, private: bool) -> dict[str, str]:
    """What a pressed button says again, as a callback tells neither the topic nor the kind of chat."""
    kind = {"private": "1"} if private else {}
    return {"glmbot": command, "asker": asker, **({"thread": thread} if thread else {}), **kind}


def from_event(event: Fields, bot: str) -> Message | PressedButton | Deleted | None:
    """An event of schema 2.0. bot: its open_id. Raises ValueError for what Feishu never sends."""
    header, body = fields_of(event, "header"), fields_of(event, "event")
    match header.get("event_type"):
        case "im.message.receive_v1":
            return _said(body, bot)
        case "im.message.recalled_v1":
            at = matching(_MILLISECONDS, body.get("recall_time"))
            return Deleted(_id("oc", body.get("chat_id")), _id("om", body.get("message_id")), int(at) / 1000)
        case "card.action.trigger":
            return _pressed(body, matching(_EVENT_ID, header.get("event_id")))
        case _:
            return None


def _said(body: Fields, bot: str) -> Message | None:
    sender, message = fields_of(body, "sender"), fields_of(body, "message")
    if sender.get("sender_type") != "user":
        # Other bots: two that answer each other never end.
        return None
    user = _id("ou", fields_of(sender, "sender_id").get("open_id"))
    chat, ref = _id("oc", message.get("chat_id")), _id("om", message.get("message_id"))
    private = message.get("chat_type") == "p2p"
    thread = _id("omt", message["thread_id"]) if message.get("thread_id") else ""
    written, media, mentioned = _words(message, bot)
    text = without(written, mentioned)
    if not private and media in _GESTURES and not mentioned:
        return None
    addressed = Addressed.DIRECTLY if private else _addressed(written, bool(mentioned))
    if not (text or media or mentioned) or (addressed is Addressed.NOT and not text):
        return None
    created = matching(_MILLISECONDS, message.get("create_time"))
    return Message(
        update_id=ref,
        conversation=ConversationKey(PLATFORM, chat, "" if private else user, thread),
        user=UserKey(PLATFORM, user),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        ref=ref,
        intent=Ask(),
        replies_to=_id("om", message["parent_id"]) if message.get("parent_id") else "",
        addressed=addressed,
        media=media,
        act=Act(at=int(created) // 1000),
    )


def _addressed(written: str, mentioned: bool) -> Addressed:
    if slash_command(written) is not None:
        return Addressed.BY_COMMAND
    if has_prefix(written):
        return Addressed.NOT
    return Addressed.BY_MENTION if mentioned else Addressed.NOT


def _pressed(body: Fields, event_id: str) -> PressedButton | None:
    """A press is known by its event: the same button may be pressed again."""
    value = fields_of(fields_of(body, "action"), "value")
    if not isinstance(value.get("glmbot"), str):
        return None
    context = fields_of(body, "context")
    chat, under = _id("oc", context.get("open_chat_id")), _id("om", context.get("open_message_id"))
    user, asker = _id("ou", fields_of(body, "operator").get("open_id")), _id("ou", value.get("asker"))
    thread = _id("omt", value["thread"]) if value.get("thread") else ""
    private = value.get("private") == "1"
    message = Message(
        update_id=f"press:{event_id}",
        conversation=ConversationKey(PLATFORM, chat, "" if private else asker, thread),
        user=UserKey(PLATFORM, user),
        text=f"/{matching(_COMMAND, value.get('glmbot'))}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        intent=Press(under),
    )
    return PressedButton(asker, message)


# ---- words ------------------------------------------------------------------------------------------------------


def _words(message: Fields, bot: str) -> tuple[str, str, list[tuple[int, int]]]:
    """The text, the name of what can't be read, and where the bot is mentioned in the text."""
    kind = message.get("message_type")
    content = _content(message)
    names, own = _mentions(message, bot)
    if kind == "text":
        text, media = text_of(content, "text"), ""
    elif kind == "post":
        text, media = _post(content)
    else:
        return "", _MEDIA.get(str(kind), "document"), []
    said, found = _named(text, names, own)
    return said, media, found


def _content(message: Fields) -> Fields:
    """Raises ValueError."""
    given = message.get("content")
    return as_fields(parsed(given)) if isinstance(given, str) else {}


def _mentions(message: Fields, bot: str) -> tuple[dict[str, str], frozenset[str]]:
    """What stands for people in the text, by its key; and which of them is the bot."""
    names: dict[str, str] = {}
    own: set[str] = set()
    for each in objects_in(message.get("mentions")):
        key, name = text_of(each, "key"), text_of(each, "name")
        if not key:
            continue
        names[key] = name
        if fields_of(each, "id").get("open_id") == bot:
            own.add(key)
    return names, frozenset(own)


def _named(text: str, names: Mapping[str, str], own: frozenset[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text with names in the place of keys, and where the bot's are."""
    if not names:
        return text.replace("@_all", "@all"), []
    keys = re.compile("|".join(re.escape(key) for key in sorted(names, key=len, reverse=True)))
    out: list[str] = []
    found: list[tuple[int, int]] = []
    end = length = 0
    for match in keys.finditer(text):
        name = f"@{names[match[0]]}"
        before = text[end : match.start()]
        out += [before, name]
        if match[0] in own:
            found.append((length + len(before), length + len(before) + len(name)))
        length += len(before) + len(name)
        end = match.end()
    return "".join([*out, text[end:]]), found


def _post(content: Fields) -> tuple[str, str]:
    """A rich text as its words, and the name of what can't be read in it."""
    lines = [text_of(content, "title")] if content.get("title") else []
    media = ""
    for line in _lists(content.get("content")):
        words = ""
        for run in line:
            match run.get("tag"):
                case "text" | "md":
                    words += text_of(run, "text")
                case "a":
                    label, href = text_of(run, "text"), text_of(run, "href")
                    words += label if label == href else f"{label} ({href})"
                case "at":
                    words += text_of(run, "user_id")
                case "code_block":
                    words += f"```{text_of(run, 'language').lower()}\n{text_of(run, 'text')}\n```"
                case "img" | "media":
                    media = "photo" if run.get("tag") == "img" else "video"
                case "hr":
                    words += "---"
                case _:
                    pass
        lines.append(words)
    return "\n".join(lines).strip(), media


# ---- fields -----------------------------------------------------------------------------------------------------


def _lists(given: object) -> Sequence[Sequence[Fields]]:
    return [objects_in(each) for each in cast(list[Any], given)] if isinstance(given, list) else []


def _id(kind: str, given: object) -> str:
    match = _ID.fullmatch(given) if isinstance(given, str) else None
    if match is None or match["kind"] != kind:
        raise ValueError("an id of another form than Feishu's")
    return match[0]
