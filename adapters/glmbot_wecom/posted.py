"""What WeCom posts for an application, as a Message, or None where nobody speaks to it. Pure.

https://developer.work.weixin.qq.com/document/path/90239
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from glmbot.http.fields import matching
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Message
from glmbot_wecom.normalize import PERSON, PLATFORM

__all__ = ["from_fields"]

_NUMBER = re.compile(r"[0-9]{1,20}")
_MEDIA = {"image": "photo", "voice": "voice", "video": "video", "location": "location", "file": "document"}


def from_fields(fields: Mapping[str, str], agent: int, language: str) -> Message | None:
    """agent: whose messages these are. Raises ValueError for what WeCom never sends."""
    kind = fields.get("MsgType", "")
    if kind == "event" or fields.get("AgentID") != str(agent):
        # Who comes in, where somebody is, a menu: nobody speaks.
        return None
    user = matching(PERSON, fields.get("FromUserName"))
    number = matching(_NUMBER, fields.get("MsgId"))
    created = matching(_NUMBER, fields.get("CreateTime"))
    text, media = fields.get("Content", "").strip(), ""
    if kind == "link":
        text = "\n".join(filter(None, (fields.get(each, "") for each in ("Title", "Description", "Url"))))
    elif kind != "text":
        text, media = "", _MEDIA.get(kind, "document")
    return Message(
        update_id=f"{agent}:{number}",
        conversation=ConversationKey(PLATFORM, user, ""),
        user=UserKey(PLATFORM, user),
        text=text,
        language=language,
        ref=number,
        media=media,
        act=Act(at=int(created) if len(created) < 12 else 0),
    )
