"""Which messages are one act of a person, and what such an act says as a whole. Pure.

An album, a text that the client cut because it was too long, several messages forwarded at once with a comment in
front of them, and edits of any of these: each is one question, and gets one answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from glmbot.dialogue.commands import Commands
from glmbot.messages import MOST_PIECES, Announce, Edit, Message, Press, Unfinished
from glmbot.openings import slash_command

__all__ = ["asks", "awaits_more", "edited", "grouped", "home_of", "same_words", "whole"]

# What a client sends at once has, by the platform's clock, at most this many seconds between one message and the
# next: people who type, or look for something to forward, need longer.
_AT_ONCE_S = 3
# The longest text that Telegram takes, in UTF-16 units. What has exactly this length was cut inside a word.
_LONGEST_TEXT = 4096
# More pictures make another album.
_LARGEST_ALBUM = 10
# A command of this length was typed or chosen, and is no rest of a text.
_LONGEST_COMMAND = 64
_LINE = "\n"


def grouped(entries: Sequence[Unfinished], commands: Commands) -> list[list[Unfinished]]:
    """The entries of one conversation by act, each act's in the order of arrival, acts in that of their first."""
    groups: list[list[Unfinished]] = []
    for entry in entries:
        home = _home(entry.message, groups, commands)
        if home is None:
            groups.append([entry])
        else:
            home.append(entry)
    return groups


def home_of(message: Message, entries: Sequence[Unfinished], commands: Commands) -> Message | None:
    """The first message of the act that `message` belongs to, if that is among those of its conversation."""
    home = _home(message, grouped(entries, commands), commands)
    return None if home is None else home[0].message


def awaits_more(messages: Sequence[Message]) -> bool:
    """Whether more of this act may come at any moment."""
    if _is_edit(messages[0]) and not messages[0].act.pieces:
        return False
    last = next((message for message in reversed(messages) if not _is_edit(message)), messages[0])
    size = len(_refs(messages))
    if size >= MOST_PIECES or (last.act.album and size >= _LARGEST_ALBUM and not last.act.forwarded):
        return False
    return bool(last.act.album or last.act.cut or last.act.forwarded)


def asks(message: Message, commands: Commands) -> bool:
    """Whether it may begin anew with other words: a question, or a command that only says something to the bot."""
    return message.command is None or message.command.name not in commands.acting


def same_words(one: Message, other: Message) -> bool:
    return (one.text.strip(), one.quoted.strip()) == (other.text.strip(), other.quoted.strip())


def whole(messages: Sequence[Message]) -> Message:
    """What the messages of an act say together, as its first message: each in its newest words.

    Where that is forwarded, all are words of somebody else, and never a command.
    """
    head, last = messages[0], messages[0]
    if len(messages) == 1:
        return head
    pieces = _pieces(_words(head), head.ref, head.act.pieces)
    for message in messages[1:]:
        if _is_edit(message) and message.act.pieces:
            pieces = _pieces(_words(message), message.ref, message.act.pieces)
        elif _is_edit(message) and message.ref in pieces:
            pieces[message.ref] = _Piece(pieces[message.ref].glue, _words(message))
        elif message.ref not in pieces:
            pieces[message.ref] = _Piece(_glue(last, message), _words(message))
            last = message
    text, tails = _put_together(pieces)
    act = replace(last.act, album=last.act.album or head.act.album, pieces=tails)
    media = next((message.media for message in messages if message.media), "")
    if _is_foreign(head):
        return replace(head, quoted=text, quoted_from="", act=act, media=media)
    return replace(head, text=text, act=act, media=media)


def edited(edit: Message, question: str, ref: str, tails: Mapping[str, int]) -> Message:
    """What an edit of one of a question's messages makes of the whole question. `ref` is that of its first
    message, `tails` the others' as in `glmbot.messages.Act`."""
    pieces = _pieces(question, ref, tails)
    if edit.ref in pieces:
        pieces[edit.ref] = _Piece(pieces[edit.ref].glue, edit.text)
    text, tails = _put_together(pieces)
    if edit.ref != ref and slash_command(text) is not None:
        # It was a question before.
        text = f"/ask {text}"
    return replace(edit, text=text, ref=ref, act=replace(edit.act, pieces=tails))


@dataclass(frozen=True, slots=True)
class _Piece:
    """`glue` is what stands between it and what comes before."""

    glue: str
    text: str


def _pieces(text: str, ref: str, tails: Mapping[str, int]) -> dict[str, _Piece]:
    starts = [0, *(max(0, len(text) - tail) for tail in tails.values()), len(text)]
    found: dict[str, _Piece] = {}
    before = ""
    for name, start, end in zip((ref, *tails), starts, starts[1:], strict=False):
        words = text[start:end]
        bare = words.lstrip() if found else words
        glue = words[: len(words) - len(bare)]
        # What stood beside nothing has not been glued yet.
        found[name] = _Piece(glue if before and bare else glue or _LINE, bare)
        before = bare
    return found


def _put_together(pieces: Mapping[str, _Piece]) -> tuple[str, dict[str, int]]:
    """The text, and where in it the pieces begin, counted from its end."""
    text, starts = "", dict[str, int]()
    for number, (ref, piece) in enumerate(pieces.items()):
        if number:
            starts[ref] = len(text)
        text += (piece.glue if text and piece.text else "") + piece.text
    text = text.rstrip()
    return text, {ref: max(0, len(text) - start) for ref, start in starts.items()}


def _words(message: Message) -> str:
    if not _is_foreign(message):
        return message.text
    whose = message.quoted_from.strip()
    return f"{whose}:\n{message.quoted}" if whose and message.quoted else message.quoted


def _is_foreign(message: Message) -> bool:
    return message.act.forwarded and not message.text.strip()


def _glue(before: Message, after: Message) -> str:
    if not before.act.cut or after.act.forwarded:
        return "\n\n" if after.act.forwarded else _LINE
    if before.text[-1:].isspace() or after.text[:1].isspace() or before.act.cut == _LONGEST_TEXT:
        return ""
    # Clients cut at a space, or better at the end of a line: better, when another word would have had room.
    word = len("".join(after.text.split(maxsplit=1)[:1]).encode("utf-16-le")) // 2
    return _LINE if before.act.cut + 1 + word <= _LONGEST_TEXT else " "


def _home(
    message: Message, groups: Sequence[list[Unfinished]], commands: Commands
) -> list[Unfinished] | None:
    if not message.act.at:
        return None
    mine = [group for group in groups if group[0].message.user == message.user]
    for group in reversed(mine):
        said = [entry.message for entry in group]
        if _is_edit(message) and said[0].act.at and message.ref in _refs(said):
            # What was commanded is obeyed, whatever is asked in its place.
            return group if asks(said[0], commands) else None
        if _is_edit(said[0]) and message.ref and message.ref == said[0].ref:
            # It came later than its edit.
            return group
    if _is_edit(message) or not mine:
        return None
    said = [entry.message for entry in mine[-1]]
    last = next((each for each in reversed(said) if not _is_edit(each)), said[-1])
    return mine[-1] if _follows(last, message, commands) and len(_refs(said)) < MOST_PIECES else None


def _is_edit(message: Message) -> bool:
    return isinstance(message.intent, Edit)


def _refs(messages: Sequence[Message]) -> set[str]:
    return {ref for message in messages for ref in (message.ref, *message.act.pieces) if ref}


def _follows(before: Message, after: Message, commands: Commands) -> bool:
    """Whether a client sent `after` in the same moment as `before`, which comes right before it."""
    if isinstance(before.intent, Press | Announce) or isinstance(after.intent, Press | Announce):
        return False
    if before.act.album and before.act.album == after.act.album:
        return True
    if not before.act.at or not 0 <= after.act.at - before.act.at <= _AT_ONCE_S:
        return False
    if after.act.forwarded:
        comments = bool(before.text.strip()) and asks(before, commands) and not before.act.album
        return before.act.forwarded or comments
    rest = bool(after.text.strip()) and not after.media and not _is_short_command(after.text, commands)
    return bool(before.act.cut) and rest


def _is_short_command(text: str, commands: Commands) -> bool:
    command = slash_command(text)
    return command is not None and command.name in commands and len(text) <= _LONGEST_COMMAND
