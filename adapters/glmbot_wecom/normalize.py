"""What people say to a smart bot of WeCom's, as a Message. Pure.

https://developer.work.weixin.qq.com/document/path/101463, https://developer.work.weixin.qq.com/document/path/100719
"""

from __future__ import annotations

import re

from glmbot.http.fields import Fields, fields_of, matching, objects_in, text_of
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, ChatKind, Message
from glmbot.openings import has_prefix, slash_command

__all__ = ["PERSON", "PLATFORM", "REPLY", "from_frame"]

PLATFORM = "wecom"
REPLY = "reply"
"""Of a message's origin: what WeCom calls the request that it came with, and by which it is replied to."""

# "@all", which begins as no id does, would be everybody in the company.
PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_CHAT = re.compile(r"[A-Za-z0-9_.@+=/-]{1,100}")
_REF = re.compile(r"[A-Za-z0-9_.@+=/:-]{1,128}")
_REQUEST = re.compile(r"[!-~]{1,256}")
# In a group all messages begin with the mention; what else is called there stays.
_MENTION = re.compile(r"@\S{1,64}(?:\s+|$)")
_MEDIA = {"image": "photo", "file": "document", "video": "video", "voice": "voice"}
_PRIVATE, _GROUP = "single", "group"


def from_frame(headers: Fields, body: Fields, language: str, name: str = "") -> Message:
    """name: of the bot, where it has spaces. Raises ValueError for what WeCom never sends."""
    user = matching(PERSON, fields_of(body, "from").get("userid"))
    kind = body.get("chattype")
    private = kind == _PRIVATE
    if not private and kind != _GROUP:
        raise ValueError("an unknown kind of chat")
    chat = user if private else matching(_CHAT, body.get("chatid"))
    ref, reply = matching(_REF, body.get("msgid")), matching(_REQUEST, headers.get("req_id"))
    text, media = _words(body)
    quoted, _ = _words(fields_of(body, "quote")) if body.get("quote") else ("", "")
    text = text.strip() if private else _without_mention(text.strip(), name)
    addressed = Addressed.DIRECTLY if private else _addressed(text)
    created = body.get("create_time")
    return Message(
        update_id=ref,
        conversation=ConversationKey(PLATFORM, chat, "" if private else user),
        user=UserKey(PLATFORM, user),
        text=text,
        chat_kind=ChatKind.PRIVATE if private else ChatKind.GROUP,
        language=language,
        origin={REPLY: reply},
        ref=ref,
        quoted=quoted.strip(),
        addressed=addressed,
        media=media,
        act=Act(at=created if type(created) is int and 0 <= created < 10**11 else 0),
    )


def _without_mention(text: str, name: str) -> str:
    if name and text.startswith(f"@{name}"):
        return text[len(name) + 1 :].strip()
    mentioned = _MENTION.match(text)
    return text[mentioned.end() :] if mentioned is not None else text


def _addressed(text: str) -> Addressed:
    """Of a group nothing comes but what mentions the bot."""
    if slash_command(text) is not None:
        return Addressed.BY_COMMAND
    return Addressed.NOT if has_prefix(text) else Addressed.BY_MENTION


def _words(body: Fields) -> tuple[str, str]:
    """Its text, and the name of what can't be read."""
    kind = text_of(body, "msgtype")
    content = fields_of(body, kind) if kind else {}
    if kind == "text":
        return text_of(content, "content"), ""
    if kind == "voice" and (recognised := text_of(content, "content")):
        # WeCom has written down what was said.
        return recognised, ""
    if kind == "mixed":
        parts = objects_in(content.get("msg_item"))
        words = "\n".join(
            text_of(fields_of(part, "text"), "content") for part in parts if part.get("msgtype") == "text"
        )
        return words, "photo" if any(part.get("msgtype") == "image" for part in parts) else ""
    return "", _MEDIA.get(kind, "document")
