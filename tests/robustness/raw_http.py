"""Requests as bytes, so that no client makes them tame."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Answer", "request"]

_LONGEST_S = 90.0
_MUCH = 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` 0: the connection was closed without one."""

    status: int
    body: bytes


async def request(
    url: str,
    method: str,
    target: bytes,
    headers: dict[str, bytes] | None = None,
    body: bytes = b"",
    *,
    until: bytes = b"",
    sender: str = "127.0.0.2",
) -> Answer:
    """Read the answer to its end, or up to `until`. `sender`: the address that it comes from. Raises TimeoutError."""
    address = urlsplit(url)
    sent = {"Host": address.netloc.encode(), "Connection": b"close"}
    if body or method == "POST":
        sent |= {"Content-Type": b"application/json", "Content-Length": str(len(body)).encode()}
    sent |= headers or {}
    head = method.encode() + b" " + target + b" HTTP/1.1\r\n"
    head += b"".join(name.encode() + b": " + value + b"\r\n" for name, value in sent.items()) + b"\r\n"
    async with asyncio.timeout(_LONGEST_S):
        reader, writer = await asyncio.open_connection(address.hostname, address.port, local_addr=(sender, 0))
        got = bytearray()
        try:
            writer.write(head + body)
            await writer.drain()
        except ConnectionError:
            # Refused before all of it was read; the answer may be there.
            pass
        try:
            while (part := await reader.read(2**16)) and len(got) < _MUCH:
                got += part
                if until and until in got:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()
    first, _, rest = bytes(got).partition(b"\r\n")
    words = first.split()
    return Answer(int(words[1]) if len(words) > 1 and words[1].isdigit() else 0, rest)
