"""Which parts of a rendered prompt the template wrote, and which are what people said."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Outline", "Part"]


# What JSON writes in another way.
_QUOTED = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class Part:
    text: str
    said: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """A prompt with gaps: pieces of the template, and between each two of them a text, by its number."""

    pieces: Sequence[str]
    """One more than `numbers`."""
    numbers: Sequence[int]

    def filled(self, texts: Sequence[str]) -> list[Part]:
        parts = [Part(self.pieces[0], said=False)]
        for number, piece in zip(self.numbers, self.pieces[1:], strict=True):
            parts += (Part(texts[number], said=True), Part(piece, said=False))
        return parts

    def parts_of(self, rendered: str, texts: Sequence[str]) -> list[Part] | None:
        """The parts of `rendered`, which the template made of the same conversation with these texts. It may have
        taken white space from their ends. None when it did something else."""
        if not rendered.startswith(self.pieces[0]):
            return None
        place = len(self.pieces[0])
        parts = [Part(self.pieces[0], said=False)]
        last = len(self.numbers) - 1
        for index, (number, piece) in enumerate(zip(self.numbers, self.pieces[1:], strict=True)):
            for text in _trimmed(texts[number]):
                end = place + len(text) + len(piece)
                if (
                    rendered.startswith(text, place)
                    and rendered.startswith(piece, place + len(text))
                    and (index < last or end == len(rendered))
                ):
                    break
            else:
                return None
            parts += (Part(text, said=True), Part(piece, said=False))
            place = end
        return parts


def _trimmed(text: str) -> Sequence[str]:
    """The text as templates are known to trim it, or to quote it in JSON, and first of all as it is."""
    made = [text]
    if text and (text[0].isspace() or text[-1].isspace()):
        made += (
            text.strip(), text.lstrip(), text.rstrip(), text.strip("\n"), text.lstrip("\n"), text.rstrip("\n"),
        )  # fmt: skip
    if _QUOTED.search(text):
        made.append(json.dumps(text, ensure_ascii=False)[1:-1])
    return made
