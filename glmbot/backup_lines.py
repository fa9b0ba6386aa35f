"""The lines of a backup: written, and read back from a file that may hold anything. Pure.

Whatever is not as glmbot writes it is refused with words that say where it stands.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, cast

from glmbot.keys import ChatKey, ConversationKey, UserKey, owner_from
from glmbot.notes import LONGEST_NOTE, Note
from glmbot.store.blobs import LONGEST_PIECE
from glmbot.store.notes import StoredNote
from glmbot.store.records import Blob, StoredBlob, StoredConversation, Turn

__all__ = [
    "LINE_BYTES",
    "Contents",
    "Line",
    "OwnedSettings",
    "conversation_line",
    "file_line",
    "note_line",
    "parsed_line",
    "parsed_object",
    "piece_line",
]

# A conversation is one line; that of a hundred thousand turns has about 60 MB.
LINE_BYTES = 256 * 2**20
_LARGEST_ID = 2**53
_LATEST = 1e11
_LONGEST_SETTING = 100_000
# [store] blob_mb allows no larger one.
_LARGEST_FILE = 1_000_000_000
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TURN_FIELDS = frozenset({"id", "user", "question", "answer", "at", "parent", "ref", "thought", "parts"})
# Which earlier releases refuse, so they are there only where they say something.
_LATER = ("thought", "parts")
_KNOWN_VALUES = {
    "access": re.compile(r"admin|user|blocked"),
    "limit": re.compile(r"[0-9]{1,15}"),
    "mode": re.compile(r"mention|all|command"),
    "pairing": re.compile(r"[A-Z0-9]{1,32} [0-9]{1,12}(\.[0-9]{1,20})?"),
}


@dataclass(frozen=True, slots=True)
class OwnedSettings:
    owner: UserKey | ChatKey
    settings: Mapping[str, str]


Line = StoredConversation | OwnedSettings | StoredBlob | StoredNote | bytes
"""A piece of a file is its bytes."""


def conversation_line(stored: StoredConversation) -> dict[str, Any]:
    turns = [turn_line(turn) for turn in stored.turns]
    return {"conversation": str(stored.conversation), "head": stored.head, "turns": turns}


def turn_line(turn: Turn) -> dict[str, Any]:
    line = {**asdict(turn), "user": str(turn.user)}
    return {name: value for name, value in line.items() if value or name not in _LATER}


def parsed_object(text: str) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object, or one nested without end."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("is no JSON object")
    return cast(dict[str, Any], found)


def file_line(stored: StoredBlob) -> dict[str, Any]:
    """The content follows in pieces, unless the line before was of the same content."""
    return {"file": asdict(stored.blob), "of": str(stored.conversation), "user": str(stored.user)}


def note_line(stored: StoredNote) -> dict[str, Any]:
    note = stored.note
    return {"note": note.name, "book": stored.book, "user": note.user, "text": note.text}


def piece_line(piece: bytes) -> dict[str, Any]:
    return {"piece": b64encode(piece).decode()}


class Contents:
    """Whether the pieces that follow a file are its content."""

    def __init__(self) -> None:
        self._digest = ""
        self._size = self._left = 0
        self._found = sha256()

    def begin(self, blob: Blob) -> None:
        """Raises ValueError as `end`."""
        self.end()
        if (blob.digest, blob.size) != (self._digest, self._size):
            self._digest, self._size, self._left, self._found = blob.digest, blob.size, blob.size, sha256()

    def add(self, piece: bytes) -> None:
        """Raises ValueError."""
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError("a piece belongs to no file")
        self._found.update(piece)

    def close(self) -> None:
        """Something else follows: the next file has its content behind it again. Raises ValueError."""
        self.end()
        self._digest = ""

    def end(self) -> None:
        """Raises ValueError."""
        if self._left:
            raise ValueError("a file ends in the middle")
        if self._digest and self._found.hexdigest() != self._digest:
            raise ValueError("a file's content is not that of its digest")


def parsed_line(line: Mapping[str, Any]) -> Line:
    """A piece of a file as its bytes. Raises ValueError for what glmbot does not write."""
    if "file" in line:
        return _file(line)
    if "piece" in line:
        return _piece(line)
    if "note" in line:
        return _note(line)
    return _settings(line) if "owner" in line else _conversation(line)


def _conversation(line: Mapping[str, Any]) -> StoredConversation:
    _only(line, frozenset({"conversation", "head", "turns"}), "a conversation")
    name = ConversationKey.parse(_text(line["conversation"], "conversation"))
    if not isinstance(line["turns"], list):
        raise ValueError("turns must be a list")
    written = cast(list[Any], line["turns"])
    turns = [_turn(each, f"turn {number}") for number, each in enumerate(written, 1)]
    ids = {turn.id: turn.parent for turn in turns}
    if len(ids) != len(turns):
        raise ValueError("two turns have the same id")
    _refuse_circles(ids)
    return StoredConversation(name, turns, _number(line["head"], "head"))


def _turn(written: object, where: str) -> Turn:
    if not isinstance(written, dict):
        raise ValueError(f"{where} is no JSON object")
    fields = {**dict.fromkeys(_LATER, ""), **cast(dict[str, Any], written)}
    _only(fields, _TURN_FIELDS, where)
    at = _time(fields["at"], where)
    number = _number(fields["id"], f"{where}: id")
    if number == 0:
        raise ValueError(f"{where}: ids begin with 1")
    return Turn(
        number,
        UserKey.parse(_text(fields["user"], f"{where}: user")),
        _text(fields["question"], f"{where}: question"),
        _text(fields["answer"], f"{where}: answer"),
        at,
        _number(fields["parent"], f"{where}: parent"),
        _text(fields["ref"], f"{where}: ref"),
        _text(fields["thought"], f"{where}: thought"),
        _text(fields["parts"], f"{where}: parts"),
    )


def _file(line: Mapping[str, Any]) -> StoredBlob:
    _only(line, frozenset({"file", "of", "user"}), "a file")
    if not isinstance(line["file"], dict):
        raise ValueError("a file is a JSON object")
    said = cast(dict[str, Any], line["file"])
    _only(said, frozenset({"digest", "media_type", "name", "size", "at"}), "a file")
    digest, media_type, name = (_text(said[each], each) for each in ("digest", "media_type", "name"))
    size = _number(said["size"], "size")
    if size > _LARGEST_FILE:
        raise ValueError(f"a file has {size} bytes, and none of more than {_LARGEST_FILE} is kept")
    blob = Blob(digest, media_type, name, size, _time(said["at"], "a file"))
    where = ConversationKey.parse(_text(line["of"], "of"))
    return StoredBlob(where, UserKey.parse(_text(line["user"], "user")), blob)


def _piece(line: Mapping[str, Any]) -> bytes:
    _only(line, frozenset({"piece"}), "a piece")
    text = _text(line["piece"], "piece")
    if not 0 < len(text) <= 2 * LONGEST_PIECE:
        raise ValueError("a piece is empty, or too long")
    return b64decode(text, validate=True)


def _note(line: Mapping[str, Any]) -> StoredNote:
    _only(line, frozenset({"note", "book", "user", "text"}), "a note")
    name, book, user, text = (_text(line[each], each) for each in ("note", "book", "user", "text"))
    if not 0 < len(text) <= LONGEST_NOTE:
        raise ValueError("a note is empty, or too long")
    return StoredNote(book, Note(name, text, user))


def _time(at: object, where: str) -> float:
    if not isinstance(at, (int, float)) or isinstance(at, bool) or not math.isfinite(at) or abs(at) > _LATEST:
        raise ValueError(f"{where}: at must be a time in seconds")
    return float(at)


def _refuse_circles(parents: Mapping[int, int]) -> None:
    """A turn may follow one that is not there (it has had its time), but never itself."""
    safe: set[int] = set()
    for start in parents:
        way: set[int] = set()
        turn = start
        while turn in parents and turn not in safe:
            if turn in way:
                raise ValueError(f"turn {turn} follows itself")
            way.add(turn)
            turn = parents[turn]
        safe |= way


def _settings(line: Mapping[str, Any]) -> OwnedSettings:
    _only(line, frozenset({"owner", "settings"}), "settings")
    owner = owner_from(_text(line["owner"], "owner"))
    if not isinstance(line["settings"], dict):
        raise ValueError("settings must be a JSON object")
    found: dict[str, str] = {}
    for name, value in cast(dict[str, Any], line["settings"]).items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r:.80} is no name of a setting")
        text = _text(value, f"setting {name}")
        known = _KNOWN_VALUES.get(name)
        if len(text) > _LONGEST_SETTING or (known is not None and text and not known.fullmatch(text)):
            raise ValueError(f"setting {name} can't be {text!r:.80}")
        found[name] = text
    return OwnedSettings(owner, found)


def _only(line: Mapping[str, Any], names: frozenset[str], what: str) -> None:
    if missing := sorted(names - line.keys()):
        raise ValueError(f"{what} has no {missing[0]}")
    if strange := sorted(line.keys() - names):
        raise ValueError(f"{what} has {strange[0]!r:.80}, which this version does not know")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} holds half a character") from None
    return value


def _number(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_ID:
        raise ValueError(f"{what} must be a whole number of at most 53 bits, not {value!r:.80}")
    return value
