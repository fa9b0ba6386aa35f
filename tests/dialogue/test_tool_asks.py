"""What a person is asked is answered by one of its choices, however that is written."""

from __future__ import annotations

import pytest

from dialogue.tool_world import said
from glmbot.dialogue.tool_asks import Asks, Outcome
from glmbot.dialogue.typed import Typed
from glmbot.messages import Role
from glmbot.store.base import Store


@pytest.mark.parametrize("answer", ["0", "01", "00012", "0" * 5000 + "1", "3", "²", "yes", ""])
async def test_what_is_no_choice_is_no_answer(sqlite_store: Store, answer: str) -> None:
    asks = Asks(sqlite_store, lambda: 5.0, lambda _: None)
    message = said("Which?")
    await sqlite_store.accept(message, 5.0)
    ask = await asks.begin(message, "send", "Which?", 60.0, choices=("a", "b"))
    assert (await asks.answer(said("x"), Role.USER, ask.id, answer))[0] is Outcome.GONE
    assert (await asks.answer(said("x"), Role.USER, ask.id, "2"))[0] is Outcome.DONE


async def test_a_picture_without_words_is_a_question_while_words_are_waited_for() -> None:
    typed = Typed()
    with typed.expected(said("go")):
        assert typed.wants(said("42"))
        assert not typed.wants(said(" "))
    assert not typed.wants(said("42"))
