"""A file on its way to QQ: announced, sent in parts to addresses that QQ names, put together there.

https://bot.q.qq.com/wiki/develop/api-v2/server-inter/message/rich-media.html, 分片上传. What was uploaded for a
group can be sent to groups alone, and so in private.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from glmbot.delivery.outlet import Refused, Unreachable, refused_by_page
from glmbot.http.fields import Fields, as_fields
from glmbot.messages import Attachment
from glmbot_qq.client import Client

__all__ = ["uploaded"]

# Our own: all of it is in memory.
_LARGEST_FILE = 8 << 20
_MOST_PARTS = 100
# file_type: 4 is a file.
_FILE = 4
# "md5_10m: 文件前 10002432 字节的 MD5".
_BEGINNING = 10_002_432
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class _Part:
    index: int
    address: str
    content: bytes


async def uploaded(client: Client, place: str, file: Attachment) -> str:
    """What a message carries for it. place: the path of the chat. Raises what `glmbot.delivery.outlet` names."""
    if not file.content or len(file.content) > _LARGEST_FILE:
        raise Refused(f"a file of {len(file.content)} bytes")
    name = file.name[:_LONGEST_NAME]
    asked = {"file_type": _FILE, "file_name": name, "file_size": str(len(file.content))}
    sums = await asyncio.to_thread(_sums, file.content)
    announced = await client.call("POST", f"{place}/upload_prepare", asked | sums)
    upload = announced.get("upload_id")
    if not isinstance(upload, str):
        raise Refused("QQ: no upload was begun")
    for part in _parts(announced, file.content):
        await _put(client, part)
        finished = {
            "upload_id": upload,
            "part_index": part.index,
            "block_size": str(len(part.content)),
            "md5": await asyncio.to_thread(_md5, part.content),
        }
        await client.call("POST", f"{place}/upload_part_finish", finished)
    whole = {"file_type": _FILE, "srv_send_msg": False, "file_name": name, "upload_id": upload}
    found = (await client.call("POST", f"{place}/files", whole)).get("file_info")
    if not isinstance(found, str):
        raise Refused("QQ: an upload came to nothing")
    return found


def _parts(announced: Fields, content: bytes) -> Sequence[_Part]:
    """Raises Refused for what does not make up the file."""
    given = announced.get("parts")
    each = [as_fields(one) for one in cast(list[Any], given)] if isinstance(given, list) else []
    usual = _number(announced.get("block_size"))
    parts: list[_Part] = []
    at = 0
    for one in each[:_MOST_PARTS]:
        address, size = one.get("presigned_url"), _number(one.get("block_size")) or usual
        index = one.get("index")
        if not isinstance(address, str) or not address.startswith(("https://", "http://")):
            break
        if type(index) is not int or not size:
            break
        parts.append(_Part(index, address, content[at : at + size]))
        at += size
    if at < len(content):
        raise Refused("QQ: an upload has too few parts")
    return [part for part in parts if part.content]


async def _put(client: Client, part: _Part) -> None:
    """The address that QQ itself named; the token is not for it. Raises Refused, Unreachable."""
    try:
        async with client.api.session.put(
            part.address, data=part.content, proxy=client.api.proxy, allow_redirects=False
        ) as answer:
            if answer.status >= 300:
                raise refused_by_page(answer.status, f"QQ: an upload was answered {answer.status}", file=True)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Unreachable(f"QQ: an upload failed ({type(error).__name__})") from error


def _sums(content: bytes) -> dict[str, str]:
    return {
        "md5": _md5(content),
        "sha1": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
        "md5_10m": _md5(content[:_BEGINNING]),
    }


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _number(given: object) -> int:
    """QQ writes these numbers as text. 0 for what is none."""
    text = str(given) if type(given) in (int, str) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0
