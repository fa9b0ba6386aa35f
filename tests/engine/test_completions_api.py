"""The engine as a server: whatever is wrong with a request is a 400 that names it, and nobody else feels it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.completions_api import CompletionRefused, completion_events, detokenized
from glmbot.engine.local import LocalEngine

GOOD: dict[str, Any] = {"prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0, "stream": True}


async def ask(engine: LocalEngine, fields: dict[str, Any]) -> bytes:
    return b"".join([event async for event in completion_events(engine, fields)])


async def test_whatever_a_field_holds_fails_its_own_request_alone(engine: LocalEngine) -> None:
    others = asyncio.create_task(ask(engine, {**GOOD, "max_tokens": 400}))
    for name, worst in [
        ("prompt", [10**6]), ("prompt", [-1]), ("prompt", [10**30]), ("prompt", []), ("prompt", [True]), ("prompt", "hi"),
        ("prompt", ["x"] * 10**6), ("prompt", [5] * 10**6), ("prompt", [5.5]), ("prompt", [None]), ("prompt", None),
        ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", 10**30), ("max_tokens", "4"), ("max_tokens", None),
        ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", -1), ("temperature", 1e308),
        ("top_p", 0), ("top_p", float("nan")), ("top_p", 2), ("top_k", -1), ("top_k", 10**30), ("top_k", 1.5),
        ("repetition_penalty", 0), ("repetition_penalty", float("nan")), ("repetition_penalty", 10**30),
        ("seed", 10**30), ("seed", "x"), ("seed", 1.5), ("stop", ["x"] * 10**5), ("stop", ["x" * 10**7]), ("stop", [""]),
        ("stop", [5]), ("stop", {"a": 1}), ("begun", -1), ("begun", 10**30 * -1), ("user", "x" * 10**6), ("user", 5),
        ("stream", False), ("stream", "no"),
    ]:  # fmt: skip
        with pytest.raises(CompletionRefused) as refused:
            await ask(engine, {**GOOD, name: worst})
        assert refused.value.status == 400, (name, refused.value)
        assert len(str(refused.value)) < 600
    for poison in ([10**6], [10**30], [-1]):
        with pytest.raises(CompletionRefused):
            await ask(engine, {**GOOD, "prompt": poison, "begun": 1})
    assert b"[DONE]" in await others
    assert engine.stats().alive


@given(
    st.dictionaries(
        st.sampled_from([*GOOD, "top_p", "top_k", "repetition_penalty", "seed", "stop", "begun", "user"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=5)
        | st.lists(st.integers() | st.text(max_size=3) | st.floats(), max_size=4),
        max_size=6,
    )
)
def test_any_request_is_served_or_refused_in_words(changes: dict[str, Any]) -> None:
    class Engine:
        """Takes what it is given; the real one's own checks are tested above."""

        context_length = 64
        model_name = "m"

        async def generate(self, *_: object, **__: object) -> Any:
            return
            yield

    engine: Any = Engine()

    async def main() -> None:
        refused: CompletionRefused | None = None
        try:
            await ask(engine, {**GOOD, **changes})
        except CompletionRefused as error:
            refused = error
        assert refused is None or (refused.status == 400 and str(refused))

    asyncio.run(main())


@pytest.mark.parametrize(
    "tokens", [[10**30], [-1], [True], ["x"], [5.0], "5", None, {"a": 1}, [1] * 10**6, [2**31]]
)
async def test_tokens_that_can_be_none_of_any_model_are_refused(engine: LocalEngine, tokens: Any) -> None:
    with pytest.raises(CompletionRefused) as refused:
        detokenized(engine, {"tokens": tokens})
    assert refused.value.status == 400
    assert "prompt" in detokenized(engine, {"tokens": [2**31 - 1]})
