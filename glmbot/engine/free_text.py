"""Text until something stands in it: which tokens may come next depends on how much of that its end has, and on
nothing else. So a mask is computed once for each such place, for all answers of a form together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmbot.engine.sampling import Mask

__all__ = ["FreeText", "Place", "Thought"]

_FIRST, _BEHIND_THOUGHT = -1, -2


@dataclass(frozen=True, slots=True)
class Thought:
    """The control tokens around one that may come before the text. inside: it has begun."""

    opening: int | None
    closing: int
    inside: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """begun: how many bytes of the opening the text ends with; less than 0: nothing of it was said. part: bytes of
    a character that is not whole, which decide what may follow."""

    begun: int = _FIRST
    part: bytes = b""
    thinking: bool = False


class FreeText:
    """Of one form. Used by one thread at a time."""

    def __init__(
        self, opening: bytes | None, spelled: Callable[[int], bytes | None], thought: Thought | None = None
    ) -> None:
        """opening: what ends it; an empty one is a control token, and without any only a thought is free. spelled:
        a token's bytes, None for one that is no text."""
        self.start = Place(0, thinking=True) if thought is not None and thought.inside else Place()
        self._opening = opening
        self._spelled = spelled
        self._thought = thought
        self._shorter = _shorter(opening or b"")
        self._masks: dict[tuple[int, bool], Mask] = {}

    def known(self, place: Place, guessed: Sequence[int] = ()) -> list[Mask | None] | None:
        """The masks at `place`, and after each of `guessed`; None where one has not been learnt."""
        found: list[Mask | None] = []
        for token in (None, *guessed):
            then = place if token is None else self.after(place, token)
            if then is None or then.part or (mask := self._masks.get((then.begun, then.thinking))) is None:
                return None
            found.append(mask)
            place = then
        return found

    def learn(self, place: Place, mask: Mask) -> None:
        if not place.part:
            self._masks[place.begun, place.thinking] = mask

    def after(self, place: Place, token: int) -> Place | None:
        """None when the opening is whole, or `token` no text: what follows is free no more."""
        said = self._spelled(token)
        if said is None:
            return self._after_control(place, token)
        if self._opening is None and not place.thinking:
            return None
        begun = max(place.begun, 0)
        if self._opening and not place.thinking and (begun or self._opening[:1] in said):
            for byte in said:
                while begun and self._opening[begun] != byte:
                    begun = self._shorter[begun]
                begun += self._opening[begun] == byte
                if begun == len(self._opening):
                    return None
        return Place(begun, _part(place.part + said), place.thinking)

    def _after_control(self, place: Place, token: int) -> Place | None:
        thought = self._thought
        if thought is None:
            return None
        if place.thinking:
            ends = token == thought.closing and self._opening is not None
            return Place(_BEHIND_THOUGHT) if ends else None
        begins = token == thought.opening and place.begun == _FIRST
        return Place(0, thinking=True) if begins else None


def _shorter(text: bytes) -> list[int]:
    """Of each beginning of `text`, the longest shorter one that it ends with (Knuth, Morris and Pratt 1977)."""
    lengths = [0, 0]
    for end in range(1, len(text)):
        length = lengths[end]
        while length and text[length] != text[end]:
            length = lengths[length]
        lengths.append(length + (text[length] == text[end]))
    return lengths


def _part(said: bytes) -> bytes:
    """The bytes of a character of UTF-8 at its end that others have to follow."""
    for back in range(1, min(3, len(said)) + 1):
        byte = said[-back]
        if byte < 0x80:
            return b""
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return said[-back:] if back < length else b""
    return b""
