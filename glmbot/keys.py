"""Who and where: people, chats and conversations, each by its platform and the platform's own opaque ids.

An id is any text of 1 to 128 bytes of UTF-8 without NUL. A key is written with ":" between its parts. In an id,
letters, digits, "-", ".", "_" and "~" are written as they are, everything else in percent encoding
(https://www.rfc-editor.org/rfc/rfc3986#section-2.3). So a written key is one word of ASCII in which nothing can be
misread: in logs, in Redis keys and their patterns, in addresses. "0" is written where there is no person or no
thread, and "%30" for an id there that is this text. A key has one written form, and `parse` takes no other.

Where a process has several bots of one platform, the others are platforms of their own: "telegram.support".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral
from typing import TypeVar
from urllib.parse import quote, unquote

__all__ = [
    "LONGEST_BOT_NAME",
    "LONGEST_ID",
    "NOBODY",
    "ChatKey",
    "ConversationKey",
    "UserKey",
    "in_chat",
    "is_bot_name",
    "kind_of",
    "number_in",
    "numeric_id",
    "owner_from",
]

LONGEST_ID = 128
"""Bytes of UTF-8."""
LONGEST_BOT_NAME = 32
NOBODY = "0"
"""A person's id where there is none: of the bot's own words, and of what is damaged."""

# Single hyphens, since "__" ends a name in the environment, where "-" is written "_".
_BOT_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PLATFORM = re.compile(rf"[a-z][a-z0-9_]{{0,63}}(?:\.(?P<bot>{_BOT_NAME.pattern}))?")
_K = TypeVar("_K", "UserKey", "ChatKey", "ConversationKey")
_USER_FORM = "platform:id, such as telegram:123456789"
_NONE, _ESCAPED_NONE = "0", "%30"
# Each byte of an id takes three characters at most.
_LONGEST_KEY = 64 + 1 + LONGEST_BOT_NAME + 3 * (3 * LONGEST_ID) + 3
# What a person writes for these is checked further, since names, which change hands, look like ids there.
_NUMBERED = frozenset({"telegram", "discord"})
_NUMBER = re.compile(r"(?P<sign>-?)0*(?P<digits>[1-9][0-9]{0,19})")
_LARGEST_NUMBER = 2**63 - 1
_NUMERIC_ID = re.compile(r"-?[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UserKey:
    """A person on a platform, by the platform's own id (names change hands; ids do not). Raises ValueError."""

    platform: str
    id: str

    def __post_init__(self) -> None:
        _check_platform(self.platform)
        object.__setattr__(self, "id", _checked(self.id))

    def __str__(self) -> str:
        return f"{self.platform}:{_written(self.id)}"

    @classmethod
    def parse(cls, text: str) -> UserKey:
        """Read what `str` wrote. Raises ValueError for anything else, a user name included."""
        match _parts(text):
            case [platform, user]:
                return _same(cls(platform, _read(user)), text)
            case _:
                raise _no_key(text, _USER_FORM)

    @classmethod
    def by_hand(cls, text: str) -> UserKey:
        """Read what a person wrote. Raises ValueError with what to write instead."""
        given = text.strip()
        platform, _, user = given.partition(":")
        if kind_of(platform) in _NUMBERED:
            number = _NUMBER.fullmatch(user)
            if number is None or number["digits"].rjust(20) > str(_LARGEST_NUMBER).rjust(20):
                raise ValueError(
                    f"{given[:100]!r} has no id of {platform}, which is a number of at most 64 bits: write"
                    f" {platform}:123456789"
                )
            return cls(platform, number["sign"] + number["digits"])
        try:
            return cls.parse(given)
        except ValueError:
            if not user or not _is_platform(platform):
                raise _no_key(given, _USER_FORM) from None
            meant = cls(platform, user)
        raise ValueError(f"{given[:100]!r} holds what a key can't: if that is the whole id, write {meant}")


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """One history. In a group each person has a history of their own, unless the adapter leaves `user` empty.
    Raises ValueError."""

    platform: str
    chat: str
    user: str = ""
    thread: str = ""

    def __post_init__(self) -> None:
        _check_platform(self.platform)
        object.__setattr__(self, "chat", _checked(self.chat))
        object.__setattr__(self, "user", _checked(self.user, optional=True))
        object.__setattr__(self, "thread", _checked(self.thread, optional=True))

    def __str__(self) -> str:
        return f"{in_chat(self.platform, self.chat)}{_optional(self.user)}:{_optional(self.thread)}"

    @classmethod
    def parse(cls, text: str) -> ConversationKey:
        """Read what `str` wrote. Raises ValueError for anything else."""
        match _parts(text):
            case [platform, chat, user, thread]:
                return _same(cls(platform, _read(chat), _read_optional(user), _read_optional(thread)), text)
            case _:
                raise _no_key(text, "platform:chat:user:thread")


@dataclass(frozen=True, slots=True)
class ChatKey:
    """Where a chat's settings and limits belong: a group's to all people in it (`user` empty), a private chat's to
    its one person, whatever other chats have the same id. Raises ValueError."""

    platform: str
    id: str
    user: str = ""

    def __post_init__(self) -> None:
        _check_platform(self.platform)
        object.__setattr__(self, "id", _checked(self.id))
        object.__setattr__(self, "user", _checked(self.user, optional=True))

    def __str__(self) -> str:
        # The person comes first, so that everything of one person stands together in a sorted list.
        owner = f":{_optional(self.user)}" if self.user else ""
        return f"{self.platform}{owner}:chat:{_written(self.id)}"

    @classmethod
    def parse(cls, text: str) -> ChatKey:
        """Read what `str` wrote. Raises ValueError for anything else."""
        match _parts(text):
            case [platform, "chat", chat]:
                return _same(cls(platform, _read(chat)), text)
            case [platform, user, "chat", chat]:
                return _same(cls(platform, _read(chat), _read_optional(user)), text)
            case _:
                raise _no_key(text, "platform:chat:id or platform:person:chat:id")


def kind_of(platform: str) -> str:
    """Of a bot with a name of its own the platform that it is on: "telegram" of "telegram.support"."""
    return platform.partition(".")[0]


def is_bot_name(name: str) -> bool:
    """Whether a further bot of a platform may be called so."""
    return len(name) <= LONGEST_BOT_NAME and _BOT_NAME.fullmatch(name) is not None


def in_chat(platform: str, chat: str) -> str:
    """What the keys of all conversations of a chat begin with, and of no other."""
    return f"{platform}:{_written(chat)}:"


def owner_from(text: str) -> UserKey | ChatKey:
    """Read what `str` made of an owner of settings. Raises ValueError for anything else."""
    return ChatKey.parse(text) if ":chat:" in text else UserKey.parse(text)


def numeric_id(number: object, *, signed: bool = False) -> str:
    """The id of what a platform knows by a whole number of 64 bits, below 0 only where they are `signed`. Raises
    ValueError for anything else that a platform may send by mistake."""
    if type(number) is not int or not (-_LARGEST_NUMBER if signed else 0) <= number <= _LARGEST_NUMBER:
        raise ValueError("an id that is no whole number of at most 64 bits")
    return str(number)


def number_in(given: str, *, signed: bool = False) -> int:
    """The number that a platform knows this id by. Raises ValueError for what is another platform's."""
    number = int(given) if _NUMERIC_ID.fullmatch(given) else None
    if number is None or not (-_LARGEST_NUMBER if signed else 0) <= number <= _LARGEST_NUMBER:
        raise ValueError(f"ids are whole numbers of at most 64 bits there, and {given[:40]!r} is none")
    return number


def _check_platform(given: object) -> None:
    if not isinstance(given, str) or not _is_platform(given):
        raise ValueError(
            f"{given!r:.100} is no platform: small letters, digits and _, at most 64, and for a bot with a name of"
            f" its own a point and that name, at most {LONGEST_BOT_NAME}"
        )


def _is_platform(given: str) -> bool:
    found = _PLATFORM.fullmatch(given)
    return found is not None and len(found["bot"] or "") <= LONGEST_BOT_NAME


def _checked(given: object, *, optional: bool = False) -> str:
    """The types say so; but what platforms send is not checked by types. A whole number is its digits, and where
    there need be no id, 0 is none."""
    if not isinstance(given, bool) and isinstance(given, Integral):
        given = "" if optional and given == 0 else str(given)
    if not isinstance(given, str):
        raise ValueError(f"an id is text, not {type(given).__name__}")
    try:
        size = len(given.encode())
    except UnicodeEncodeError:
        raise ValueError("an id is valid Unicode, and half a surrogate pair is not") from None
    if size > LONGEST_ID:
        raise ValueError(f"an id has at most {LONGEST_ID} bytes, not {size}")
    if "\0" in given or not (given or optional):
        raise ValueError("an id holds NUL" if given else "an id can't be empty")
    return given


def _written(given: str) -> str:
    return quote(given, safe="")


def _optional(given: str) -> str:
    return _ESCAPED_NONE if given == _NONE else _written(given) or _NONE


def _parts(text: object) -> list[str]:
    return text.split(":", 4) if isinstance(text, str) and len(text) <= _LONGEST_KEY else []


def _read(written: str) -> str:
    """Raises ValueError for bytes that are no text."""
    return unquote(written, errors="strict")


def _read_optional(written: str) -> str:
    return "" if written == _NONE else _read(written)


def _same(key: _K, text: str) -> _K:
    """Two forms of one key would be two people. Raises ValueError."""
    if str(key) != text:
        raise _no_key(text, f"{key}")
    return key


def _no_key(text: object, form: str) -> ValueError:
    return ValueError(f"{text!r:.100} is not of the form {form}")
