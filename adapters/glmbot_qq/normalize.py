"""An event of QQ's as what was said or pressed, or None where nobody speaks to us. Pure.

https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/send-receive/event.html. People have other ids in
private, in each group and in guilds (https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/unique-id.html): each is
a person of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from glmbot.http.fields import Fields, fields_of, matching, objects_in, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, ChatKind, Message, Press, PressedButton
from glmbot.openings import has_prefix, slash_command

__all__ = [
    "EVENT",
    "INTERACTION",
    "PLATFORM",
    "Deleted",
    "Scene",
    "button_data",
    "chat_in",
    "from_event",
    "scene_of",
]

PLATFORM = "qq"
EVENT = "event"
"""A note of what to answer where it is no message: the id of the event that a button made."""
INTERACTION = "interaction"
"""A note of the interaction that a pressed button began, which is to be confirmed."""


class Scene(StrEnum):
    USER = "users"
    GROUP = "groups"
    CHANNEL = "channels"
    GUILD_DM = "dms"


_PREFIXES = {Scene.GROUP: "g.", Scene.CHANNEL: "c.", Scene.GUILD_DM: "d."}
_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")
_REF = re.compile(r"[!-~]{1,300}")
_BUTTON = re.compile(r"(?P<command>[a-z]{1,20}):(?P<asker>[A-Za-z0-9_-]{1,120}):(?P<ref>[!-~]{1,300})")
# What people see as a picture comes as a tag: https://github.com/tencent-connect/bot-docs/issues/194.
_FACE = re.compile(r"<faceType=[^<>]{1,4000}>")
_MENTION = re.compile(r"<@!?(?P<id>[A-Za-z0-9_-]{1,120})>")
# https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/message_format.html, in guilds.
_ESCAPES = (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
_MEDIA = {"image": "photo", "video": "video", "voice": "voice", "audio": "voice"}
# message_type of what quotes another message, which is the first of msg_elements.
_QUOTES = 103
_MOST = 100


@dataclass(frozen=True, slots=True)
class Deleted:
    """A message in a guild was taken back. In private and in groups bots are not told."""

    chat: str
    ref: str


def chat_in(scene: Scene, place: str) -> str:
    return f"{_PREFIXES.get(scene, '')}{place}"


def scene_of(chat: str) -> tuple[Scene, str]:
    """What `chat_in` was given: no id has a dot."""
    for scene, prefix in _PREFIXES.items():
        if chat.startswith(prefix):
            return scene, chat[len(prefix) :]
    return Scene.USER, chat


def button_data(command: str, asker: str, ref: str) -> str:
    """An event tells neither whose the answer is nor which."""
    return f"{command}:{asker}:{ref}"


def from_event(payload: Fields, bot: str, language: str) -> Message | PressedButton | Deleted | None:
    """bot: the bot's id in guilds. Raises ValueError for what QQ never sends."""
    data = fields_of(payload, "d")
    match payload.get("t"):
        case "C2C_MESSAGE_CREATE":
            return _said(data, Scene.USER, "", text_of(data, "content"), language)
        case "GROUP_AT_MESSAGE_CREATE":
            return _said(
                data, Scene.GROUP, data.get("group_openid"), _named(data, ""), language, mentioned=True
            )
        case "GROUP_MESSAGE_CREATE":
            mentioned = any(each.get("is_you") is True for each in _objects(data, "mentions"))
            return _said(
                data, Scene.GROUP, data.get("group_openid"), _named(data, ""), language, mentioned=mentioned
            )
        case "AT_MESSAGE_CREATE":
            words = _unescaped(_named(data, bot))
            return _said(data, Scene.CHANNEL, data.get("channel_id"), words, language, mentioned=True)
        case "MESSAGE_CREATE":
            mentioned = any(each["id"] == bot for each in _MENTION.finditer(text_of(data, "content")))
            words = _unescaped(_named(data, bot))
            return _said(data, Scene.CHANNEL, data.get("channel_id"), words, language, mentioned=mentioned)
        case "DIRECT_MESSAGE_CREATE":
            words = _unescaped(_named(data, bot))
            return _said(data, Scene.GUILD_DM, data.get("guild_id"), words, language)
        case "INTERACTION_CREATE":
            return _pressed(payload, data, language)
        case "PUBLIC_MESSAGE_DELETE" | "MESSAGE_DELETE":
            return _deleted(data, Scene.CHANNEL, "channel_id")
        case "DIRECT_MESSAGE_DELETE":
            return _deleted(data, Scene.GUILD_DM, "guild_id")
        case _:
            return None


def _said(
    data: Fields, scene: Scene, place: object, words: str, language: str, *, mentioned: bool = False
) -> Message | None:
    author = fields_of(data, "author")
    if author.get("bot") is True:
        return None
    names = {Scene.USER: "user_openid", Scene.GROUP: "member_openid"}
    user = matching(_ID, author.get(names.get(scene, "id")))
    chat = chat_in(scene, user if scene is Scene.USER else matching(_ID, place))
    private = scene in (Scene.USER, Scene.GUILD_DM)
    ref = matching(_REF, data.get("id"))
    text = _FACE.sub("", words).strip()
    spoken, media = _attached(data)
    text = text or spoken
    media = media or ("sticker" if text != words.strip() and not text else "")
    addressed = Addressed.DIRECTLY if private else _addressed(text, mentioned)
    quoted = _quoted(data)
    if not (text or media or quoted or addressed is Addressed.BY_MENTION):
        return None
    return Message(
        update_id=ref,
        conversation=ConversationKey(PLATFORM, chat, "" if private else user),
        user=UserKey(PLATFORM, user),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=_name(author),
        language=language,
        ref=ref,
        quoted=quoted,
        addressed=addressed,
        media=media,
        act=Act(at=_time(data.get("timestamp"))),
    )


def _pressed(payload: Fields, data: Fields, language: str) -> PressedButton | None:
    """A button in a group or in private. Raises ValueError."""
    found = fields_of(fields_of(data, "data"), "resolved").get("button_data")
    button = _BUTTON.fullmatch(found) if isinstance(found, str) else None
    if button is None:
        return None
    group = data.get("group_openid")
    private = not group
    user = matching(_ID, data.get("user_openid") if private else data.get("group_member_openid"))
    chat = chat_in(Scene.USER, user) if private else chat_in(Scene.GROUP, matching(_ID, group))
    interaction = matching(_REF, data.get("id"))
    # "从事件最外层的 id 获取".
    event = matching(_REF, payload.get("id") or interaction)
    message = Message(
        update_id=f"press:{interaction}",
        conversation=ConversationKey(PLATFORM, chat, "" if private else button["asker"]),
        user=UserKey(PLATFORM, user),
        text=f"/{button['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        language=language,
        origin={EVENT: event, INTERACTION: interaction},
        intent=Press(button["ref"]),
    )
    return PressedButton(button["asker"], message)


def _deleted(data: Fields, scene: Scene, place: str) -> Deleted:
    """Raises ValueError."""
    message = fields_of(data, "message")
    return Deleted(chat_in(scene, matching(_ID, message.get(place))), matching(_REF, message.get("id")))


def _addressed(text: str, mentioned: bool) -> Addressed:
    if slash_command(text) is not None:
        return Addressed.BY_COMMAND
    if has_prefix(text):
        return Addressed.NOT
    return Addressed.BY_MENTION if mentioned else Addressed.NOT


def _named(data: Fields, bot: str) -> str:
    """The words with names in place of ids, and without ours."""
    names: dict[str, str] = {}
    for each in _objects(data, "mentions"):
        name = (
            "" if each.get("is_you") is True or (bot and each.get("id") == bot) else f"@{_name(each) or '?'}"
        )
        names |= {
            given: name
            for given in (each.get("id"), each.get("member_openid"), each.get("user_openid"))
            if isinstance(given, str)
        }
    if bot:
        names[bot] = ""
    return _MENTION.sub(lambda found: names.get(found["id"], found[0]), text_of(data, "content"))


def _unescaped(text: str) -> str:
    for escape, sign in _ESCAPES:
        text = text.replace(escape, sign)
    return text


def _attached(data: Fields) -> tuple[str, str]:
    """What was spoken, where QQ has written it down, and the name of what can't be read."""
    media = ""
    for each in _objects(data, "attachments"):
        kind = text_of(each, "content_type").partition("/")[0]
        if kind == "voice" and (heard := text_of(each, "asr_refer_text").strip()):
            return heard, ""
        media = media or _MEDIA.get(kind, "document")
    return "", media


def _quoted(data: Fields) -> str:
    if data.get("message_type") != _QUOTES:
        return ""
    return next((text_of(each, "content").strip() for each in _objects(data, "msg_elements")), "")


def _name(person: Fields) -> str:
    return text_of(person, "username") or text_of(person, "nickname")


def _objects(data: Fields, name: str) -> Sequence[Fields]:
    return objects_in(data.get(name), _MOST)


def _time(given: object) -> int:
    """0 where it is not told."""
    try:
        at = int(datetime.fromisoformat(given).timestamp()) if isinstance(given, str) else 0
    except (ValueError, OverflowError, OSError):
        return 0
    return max(at, 0)
