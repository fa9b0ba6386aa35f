"""A rendered prompt to token ids, exactly as its tokenizer encodes the whole.

A tokenizer cuts a text at its control tokens first, and encodes each stretch by itself. So a prompt is cut
where the template wrote one, and each stretch, with the token in front of it, is encoded in one go: words of the
template and of people merge where they meet. The stretches of a history come again in each prompt, and are kept.
Only what would become a control token although people said it is encoded apart from what is around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from glmbot.models.control_tokens import ControlTokens
from glmbot.models.prompt_parts import Part
from glmbot.models.text_cache import TextCache

__all__ = ["PromptEncoder"]

_CACHE_BYTES = 8 << 20
_LARGEST_CACHED = 256 << 10
# Behind a line's end no tokenizer takes a text for the beginning of a sentence, and puts a space before it.
_BEFORE = "\n"
# How often a text is halved for what only normalisation makes a control token of (full-width letters).
_MOST_HALVINGS = 2_000


@dataclass(slots=True)
class _Stretch:
    parts: list[Part] = field(default_factory=list[Part])
    control: list[int] = field(default_factory=list[int])
    """Control tokens that the template wrote into it."""


class PromptEncoder:
    """Safe to use from several threads."""

    def __init__(self, encode: Callable[[str], list[int]], control: ControlTokens) -> None:
        """encode: text to ids, control tokens parsed and none added."""
        self._encode = encode
        self._control = control
        self._cuts = True
        self._before = encode(_BEFORE)
        self._stretches = TextCache(encode, most_bytes=_CACHE_BYTES, largest_bytes=_LARGEST_CACHED)

    def try_cutting(self, parts: Sequence[Part]) -> None:
        """Encode whole prompts from now on if this one's stretches come out differently."""
        self._cuts = self._cuts and self.encode(parts) == self._encode("".join(part.text for part in parts))

    def encode(self, parts: Sequence[Part], mark: str = "") -> list[int] | None:
        """mark: a character that stands where a control token must not be, and is not encoded itself. None when
        that can't be held, for a prompt that does not show what was said in it."""
        ids: list[int] = []
        for stretch in self._stretched(parts):
            text = "".join(part.text for part in stretch.parts)
            begins = not ids
            made = (
                self._marked(text, mark, begins=begins)
                if mark and mark in text
                else self._stretches.encode(text)
            )
            if self._control.among(made) != stretch.control:
                if not any(part.said for part in stretch.parts):
                    return None
                made = self._apart(stretch.parts, mark, begins=begins)
            ids += made
        return ids

    def encode_text(self, text: str) -> list[int]:
        """Plain text by itself, without a control token."""
        ids: list[int] = []
        for piece in self._control.cut(text):
            ids += self._plain(piece, begins=not ids)
        return ids

    def encode_after(self, begins: str, opening: str, text: str) -> list[int] | None:
        """`opening` and `text` as they are encoded behind `begins`, without a control token; None when they merge
        where they meet."""
        before = self._encode(begins)
        first, *others = self._control.cut(text) or [""]
        together = self._encode(begins + opening + first)
        ids = together[len(before) :]
        if together[: len(before)] != before or self._control.among(ids):
            return None
        for piece in others:
            ids += self._plain(piece, begins=False)
        return ids

    def _stretched(self, parts: Sequence[Part]) -> list[_Stretch]:
        stretches = [_Stretch()]
        for part in parts:
            start = 0
            for match in () if part.said else self._control.found(part.text):
                if self._cuts and match.group() in self._control.cutting:
                    stretches[-1].parts.append(Part(part.text[start : match.start()], said=False))
                    stretches.append(_Stretch())
                    start = match.start()
                if (token := self._control.id_of(match.group())) in self._control.ids:
                    stretches[-1].control.append(token)
            stretches[-1].parts.append(Part(part.text[start:], said=part.said))
        return [stretch for stretch in stretches if any(part.text for part in stretch.parts)]

    def _apart(self, parts: Sequence[Part], mark: str, *, begins: bool) -> list[int]:
        """What people said by itself, where it would become a control token together with what is around it."""
        ids: list[int] = []
        for part in parts:
            if part.said:
                for piece in self._harmless(part.text, mark):
                    ids += self._plain(piece, begins=begins and not ids)
            elif part.text:
                ids += self._encode(part.text) if begins and not ids else self._inside(part.text)
        return ids

    def _harmless(self, said: str, mark: str) -> Iterator[str]:
        """What was said without the mark, in pieces that write no control token."""
        for piece in said.split(mark) if mark else [said]:
            yield from self._control.cut(piece)

    def _marked(self, text: str, mark: str, *, begins: bool) -> list[int]:
        first, *others = text.split(mark)
        ids = self._encode(first) if first else []
        for piece in others:
            if piece:
                ids += self._encode(piece) if begins and not ids else self._inside(piece)
        return ids

    def _inside(self, piece: str) -> list[int]:
        ids = self._encode(_BEFORE + piece)
        size = len(self._before)
        return ids[size:] if ids[:size] == self._before else self._encode(piece)

    def _plain(self, piece: str, *, begins: bool) -> list[int]:
        """What holds no control token as it is written may still become one when it is normalised: then it is cut
        in the middle of that."""
        ids: list[int] = []
        left = _MOST_HALVINGS
        waiting = [piece]
        while waiting:
            part = waiting.pop()
            made = self._encode(part) if begins and not ids else self._inside(part)
            if not self._control.among(made):
                ids += made
            elif len(part) > 1 and left > 0:
                left -= 1
                waiting += (part[len(part) // 2 :], part[: len(part) // 2])
            else:
                ids += [token for token in made if token not in self._control.ids]
        return ids
