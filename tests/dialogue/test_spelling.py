"""Scores as programs read them: nothing that may not be said, and nothing copied."""

from __future__ import annotations

from typing import Any

from glmbot.completions import TokenScore
from glmbot.dialogue.spelling import Spelling, sayable
from glmbot.engine.score import Grown, Score

PIECES = ["for", "bidden", " fruit", "get", ""]


class _Engine:
    def piece(self, token: int) -> str:
        return PIECES[token]


def score(token: int, *top: int) -> Score:
    return Score(token, -1.0, tuple((each, -2.0) for each in top))


def finds(text: str) -> bool:
    return "forbidden" in text


def likely(scores: Any) -> list[list[str]]:
    return [[each.text for each in score.top] for score in scores]


async def test_a_likely_token_that_ends_a_forbidden_word_is_not_told() -> None:
    engine: Any = _Engine()
    said = [score(0, 0, 1), score(3, 3, 1, 2), score(2, 2, 1)]
    spelling = Spelling(engine, finds)
    grown = [spelling.of(Grown(said, count)) for count in (1, 3)]
    assert likely(grown[-1]) == [["for", "bidden"], ["get", " fruit"], [" fruit", "bidden"]]
    assert grown[0] == grown[1][:1]
    assert likely(Spelling(engine, None).of(said))[1] == ["get", "bidden", " fruit"]
    told = [TokenScore(each.token, PIECES[each.token], -1.0) for each in said]
    assert await sayable(told, finds) == told


def test_what_was_handed_out_stands_when_a_stop_text_takes_some_back() -> None:
    engine: Any = _Engine()
    spelling = Spelling(engine, None)
    before = spelling.of([score(0), score(3)])
    assert len(spelling.of([score(0)])) == 1
    assert [each.text for each in spelling.of([score(0), score(1)])] == ["for", "bidden"]
    assert [each.text for each in before] == ["for", "get"]


def test_a_snapshot_is_the_beginning_of_a_list_that_grows() -> None:
    growing = [1, 2]
    first = Grown(growing, 2)
    growing.append(3)
    assert (list(first), first[-1], first[1:], first[5:]) == ([1, 2], 2, (2,), ())
    assert first == (1, 2) == first != Grown(growing, 3)
    assert 3 not in first
