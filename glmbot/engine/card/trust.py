"""Which of a card's fast parts serve. Each is held against torch's own modules, and given up by itself where it
says something else, can't be compiled, or stumbles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor

from glmbot.cuda.kernels import KernelsError
from glmbot.cuda.program import FEW, CardProgram, Part
from glmbot.engine.step import Step
from glmbot.errors import PrecisionError, in_one_line
from glmbot.models.positions import PositionScheme

__all__ = [
    "GRAPHS",
    "PROGRAM",
    "PROGRAM_LIKENESS",
    "FastParts",
    "most_that_agree",
    "probe_steps",
    "probed_tokens",
    "settle",
]

_log = logging.getLogger(__name__)

PROGRAM = "program"
"""What all other parts are of: without it torch's modules compute."""
GRAPHS = "graphs"
"""Decoding steps that are recorded, and draw by themselves."""
PROGRAM_LIKENESS = 0.98
"""A program adds up in float32 where torch's modules round in between."""
# Rows of a probe's steps: products of up to 64, of 32 and of 8 rows are kernels of their own.
_MANY, _SEVERAL = 40, 12
# More than 32 of them draw: the output head's products are of as many kinds as a layer's.
_DRAWING = 33
_T = TypeVar("_T")


@dataclass
class FastParts:
    """Of one model at one precision. What is given up stays so for as long as the process lives."""

    model: str
    given_up: dict[str, str] = field(default_factory=dict[str, str])
    """Part -> why, in words for the log and for `doctor`."""

    def serves(self, part: str) -> bool:
        return part not in self.given_up

    def give_up(self, part: str, why: str) -> None:
        """One line in the log for each."""
        if part not in self.given_up:
            self.given_up[part] = why
            _log.warning("%s: from now on without this card's fast %s: %s", self.model, part, why)


def most_that_agree(parts: Sequence[_T], agrees: Callable[[Collection[_T]], bool]) -> Collection[_T] | None:
    """The largest set of parts with which the whole agrees: the fewest are given up, and of as many the last ones.
    None when it doesn't agree without any of them either. parts: the one that is worth most first."""
    for kept in range(len(parts), -1, -1):
        for chosen in combinations(parts, kept):
            if agrees(chosen):
                return chosen
    return None


def probed_tokens(scheme: PositionScheme, prompt: Sequence[int]) -> int:
    """Entries of the cache that `probe_steps` write."""
    return max(end for _, end in _pieces(scheme.context_length(prompt)))


def probe_steps(scheme: PositionScheme, prompt: Sequence[int], prefix: int, place: int) -> list[Step]:
    """The prompt again and again, in steps of so different numbers of rows that every kind of kernel has its turn.
    place: where its entries begin."""
    length = probed_tokens(scheme, prompt)
    tokens = (list(prompt) * length)[:length]
    made: list[Step] = []
    for start, end in _pieces(scheme.context_length(prompt)):
        step = Step(scheme, prefix)
        drawing = 1 if end - start > FEW else min(end - start, _DRAWING)
        # The rest is an answer: what follows a prompt begins no other context.
        step.add(tokens, min(length, len(prompt)), start=start, end=end, place=place, drawing=drawing)
        made.append(step)
    return made


def _pieces(context: int) -> list[tuple[int, int]]:
    """Begins and ends. context: so many of the first tokens must be computed together."""
    many = max(context, _MANY)
    several = many + _SEVERAL
    whole = max(several + 1, FEW + 1)
    return [(0, whole), (0, many), (many, several), (several, several + 1)]


def _likeness(found: Tensor, expected: Tensor) -> float:
    """Of the rows that are least alike. One by one: a vocabulary is large, and memory may be short."""
    each = [torch.cosine_similarity(*pair, dim=0) for pair in zip(found, expected, strict=True)]
    return float(torch.stack(each).min())


def settle(fast: FastParts, program: CardProgram, compute: Callable[[bool], Tensor]) -> bool:
    """Leave to the program's kernels what agrees with torch, and give up the rest. False when torch's modules are
    to compute: the program itself says something else, or is slower than they are.

    compute: logits [rows, vocabulary] of a probe, or what torch's modules say to it when it is called with True.
    Raises PrecisionError when those are no numbers, and whatever memory that is short raises.
    """
    expected = compute(True)
    if not bool(torch.isfinite(expected).all()):
        raise PrecisionError("the probe computed NaN or infinity")
    reasons: dict[frozenset[Part], str] = {}

    def agrees(parts: Collection[Part]) -> bool:
        program.parts = set(parts)
        try:
            likeness = _likeness(compute(False), expected)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except (KernelsError, RuntimeError) as error:
            reasons[frozenset(parts)] = in_one_line(error)
            return False
        if likeness >= PROGRAM_LIKENESS:
            return True
        reasons[frozenset(parts)] = f"they say something else (likeness {likeness:.4f})"
        return False

    wanted = [part for part in Part if part in program.parts and fast.serves(part)]
    kept = most_that_agree(wanted, agrees)
    for part in wanted:
        if kept is not None and part not in kept:
            fast.give_up(part, reasons[frozenset(wanted)])
    if kept is None:
        fast.give_up(PROGRAM, reasons[frozenset()])
    elif Part.ATTENTION not in kept:
        # In plain torch it looks at all of the cache for each row.
        fast.give_up(PROGRAM, "without its attention it is slower than torch's modules")
    return fast.serves(PROGRAM)
