"""Frames of Feishu's long connection: the few kinds of protobuf fields that they have.

https://github.com/larksuite/oapi-sdk-python/blob/v2_main/lark_oapi/ws/pb/pbbp2_pb2.py: SeqID = 1, LogID = 2
(uint64), service = 3, method = 4 (int32), headers = 5 (key = 1, value = 2), payload_encoding = 6, payload_type = 7
(strings), payload = 8 (bytes), LogIDNew = 9 (string). The wire: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["CONTROL", "DATA", "Frame", "read_frame", "written"]

CONTROL, DATA = 0, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_MOST_HEADERS = 100


@dataclass(frozen=True, slots=True)
class Frame:
    """rest: the strings 6, 7 and 9, which go back as they came."""

    method: int
    service: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    payload: bytes = b""
    sequence: int = 0
    log: int = 0
    rest: Mapping[int, bytes] = field(default_factory=dict[int, bytes])


def read_frame(content: bytes) -> Frame:
    """Raises ValueError for what is no frame."""
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    headers: dict[str, str] = {}
    for number, value in _fields(content):
        if isinstance(value, int):
            numbers[number] = value
        elif number == 5:
            if len(headers) >= _MOST_HEADERS:
                raise ValueError("a frame has too many headers")
            pair = dict(_fields(value))
            headers[_text(pair.get(1))] = _text(pair.get(2))
        else:
            texts[number] = value
    return Frame(
        method=numbers.get(4, 0),
        service=numbers.get(3, 0),
        headers=headers,
        payload=texts.get(8, b""),
        sequence=numbers.get(1, 0),
        log=numbers.get(2, 0),
        rest={number: texts[number] for number in (6, 7, 9) if number in texts},
    )


def written(frame: Frame) -> bytes:
    """SeqID, LogID, service and method are required there, also where they are 0."""
    out = b"".join(
        _key(number, _VARINT) + _varint(value)
        for number, value in ((1, frame.sequence), (2, frame.log), (3, frame.service), (4, frame.method))
    )
    for name, value in frame.headers.items():
        out += _bytes(5, _bytes(1, name.encode()) + _bytes(2, value.encode()))
    tail = {**frame.rest, 8: frame.payload}
    return out + b"".join(_bytes(number, tail[number]) for number in sorted(tail))


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(content):
        key, at = _read_varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _read_varint(content, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _read_varint(content, at)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("a frame has a field of an unknown kind")
        if length > len(content) - at:
            raise ValueError("a frame ends too early")
        yield number, content[at : at + length]
        at += length


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= len(content):
            raise ValueError("a frame ends too early")
        byte = content[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number of a frame has no end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _bytes(number: int, content: bytes) -> bytes:
    return _key(number, _BYTES) + _varint(len(content)) + content


def _text(value: int | bytes | None) -> str:
    """Raises ValueError, as UnicodeDecodeError is one."""
    return value.decode() if isinstance(value, bytes) else ""
