"""How likely a token was, and those of an answer that grows: values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

__all__ = ["Grown", "Score"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a token was where it stands, and which ones were likeliest there: natural logarithms, of the
    model's own distribution before temperature, penalties and what else is done for drawing. As OpenAI's service
    and vLLM (logprobs_mode "raw_logprobs") have it.

    `start`: where in the text of the answer it begins. A prompt's first token has no `logprob`.
    """

    token: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()
    start: int = 0


class Grown(Sequence[_T]):
    """The first so many of a list that does nothing but grow. A snapshot copies none of them."""

    __slots__ = ("_all", "_count")

    def __init__(self, all_so_far: list[_T], count: int) -> None:
        self._all = all_so_far
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> _T: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[_T, ...]: ...

    def __getitem__(self, at: int | slice) -> _T | tuple[_T, ...]:
        places = range(self._count)[at]
        if isinstance(places, int):
            return self._all[places]
        return tuple(self._all[place] for place in places)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Grown) and other._all is self._all:
            return self._count == other._count
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]
