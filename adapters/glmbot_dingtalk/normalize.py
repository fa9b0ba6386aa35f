"""What DingTalk tells as a Message or a pressed button, or None where nobody speaks to us. Pure.

https://open.dingtalk.com/document/orgapp/receive-message,
https://open.dingtalk.com/document/orgapp/event-callback-card
"""

from __future__ import annotations

import re
from typing import Any, cast

from glmbot.http.fields import Fields, as_fields, fields_of, matching, objects_in, parsed, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, ChatKind, Message, Press, PressedButton
from glmbot.openings import has_prefix, slash_command

__all__ = ["PLATFORM", "button_id", "from_callback", "from_message"]

PLATFORM = "dingtalk"

_PERSON = re.compile(r"[A-Za-z0-9_$:+=/.@-]{1,64}")
_CHAT = re.compile(r"[A-Za-z0-9_+=/-]{1,100}")
_REF = re.compile(r"[A-Za-z0-9_+=/.-]{1,128}")
_BUTTON = re.compile(
    r"(?P<command>[a-z]{1,20}):(?P<chat>[A-Za-z0-9_+=/-]{0,100}):(?P<asker>[A-Za-z0-9_$:+=/.@-]{1,64})"
)
_MEDIA = {"picture": "photo", "audio": "voice", "video": "video", "file": "document"}
_PRIVATE, _GROUP = "1", "2"


def button_id(command: str, chat: str, asker: str) -> str:
    """A callback tells neither the conversation nor whose the card is. chat: "" in private."""
    return f"{command}:{chat}:{asker}"


def from_message(data: Fields) -> Message | None:
    """In private a chat is known by the person, as it is written to so. Raises ValueError for what DingTalk never
    sends."""
    staff = data.get("senderStaffId")
    user = matching(_PERSON, staff or data.get("senderId"))
    kind = data.get("conversationType")
    private = kind == _PRIVATE
    if not private and kind != _GROUP:
        raise ValueError("an unknown kind of conversation")
    if private and not staff:
        # People of other companies: nothing can be sent to them alone.
        return None
    chat = user if private else matching(_CHAT, data.get("conversationId"))
    ref = matching(_REF, data.get("msgId"))
    text, media = _words(data)
    quoted = _quoted(data)
    addressed = Addressed.DIRECTLY if private else _addressed(text, data.get("isInAtList") is not False)
    if not (text or media or quoted or addressed is Addressed.BY_MENTION):
        return None
    created = data.get("createAt")
    return Message(
        update_id=ref,
        conversation=ConversationKey(PLATFORM, chat, "" if private else user),
        user=UserKey(PLATFORM, user),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        user_name=text_of(data, "senderNick"),
        ref=ref,
        quoted=quoted,
        addressed=addressed,
        media=media,
        act=Act(at=created // 1000 if type(created) is int and 0 <= created < 10**14 else 0),
    )


def from_callback(data: Fields, message_id: str) -> PressedButton | None:
    """A pressed button; message_id: of the frame that told it. Raises ValueError."""
    content = _object(data.get("content"))
    private_data = content.get("cardPrivateData")
    actions = private_data.get("actionIds") if isinstance(private_data, dict) else None
    given = cast(list[Any], actions)[0] if isinstance(actions, list) and actions else None
    button = _BUTTON.fullmatch(given) if isinstance(given, str) else None
    if button is None:
        return None
    user = matching(_PERSON, data.get("userId"))
    under = matching(_REF, data.get("outTrackId"))
    private = not button["chat"]
    asker = "" if private else button["asker"]
    message = Message(
        update_id=f"press:{matching(_REF, message_id)}",
        conversation=ConversationKey(PLATFORM, button["chat"] or button["asker"], asker),
        user=UserKey(PLATFORM, user),
        text=f"/{button['command']}",
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        intent=Press(under),
    )
    return PressedButton(button["asker"], message)


def _addressed(text: str, mentioned: bool) -> Addressed:
    if slash_command(text) is not None:
        return Addressed.BY_COMMAND
    if has_prefix(text):
        return Addressed.NOT
    # A group's messages come to a robot only where they mention it.
    return Addressed.BY_MENTION if mentioned else Addressed.NOT


def _words(data: Fields) -> tuple[str, str]:
    """The text, from which DingTalk itself takes the mention of the robot, and the name of what can't be read."""
    kind, content = text_of(data, "msgtype"), fields_of(data, "content")
    if kind == "text":
        return text_of(fields_of(data, "text"), "content").strip(), ""
    if kind == "richText":
        runs = objects_in(content.get("richText"))
        pictures = any(run.get("type") == "picture" for run in runs)
        return "".join(text_of(run, "text") for run in runs).strip(), "photo" if pictures else ""
    if kind == "audio" and (recognised := text_of(content, "recognition").strip()):
        # DingTalk has written down what was said.
        return recognised, ""
    return "", _MEDIA.get(kind, "document")


def _quoted(data: Fields) -> str:
    """What is replied to, where it has words."""
    return text_of(fields_of(fields_of(fields_of(data, "text"), "repliedMsg"), "content"), "text").strip()


def _object(given: object) -> Fields:
    """Raises ValueError."""
    return as_fields(parsed(given)) if isinstance(given, str) else {}
