"""Whatever a model server answers, it is an answer, or an error in words."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.inputs import changed, fuzz, nasty_text
from glmbot.errors import GlmbotError
from robustness.test_model_servers import EVENTS, MODELS, HostileServer, answer_of, engine_of

lines = st.sampled_from([b"data: ", b"data:", b"event: x\ndata: ", b": ", b"error: ", b""])
ends = st.sampled_from([b"\n\n", b"\n", b"\r\n\r\n", b"", b"\n\ndata: [DONE]\n\n"])
events = changed([*EVENTS.values(), {"choices": []}]).map(lambda made: json.dumps(made).encode())
streams = st.lists(
    st.tuples(lines, events | nasty_text.map(str.encode) | st.binary(max_size=60), ends).map(b"".join),
    max_size=4,
).map(b"".join)
models = changed([MODELS]).map(lambda made: json.dumps(made).encode()) | st.binary(max_size=60)


@pytest.fixture
async def server() -> AsyncGenerator[HostileServer]:
    made = HostileServer()
    await made.start()
    yield made
    await made.stop()


@pytest.mark.timeout(3600)
@fuzz
@given(models, streams, st.sampled_from([200, 200, 200, 400, 404, 429, 500, 503]), nasty_text)
async def test_any_answer_of_a_model_server_is_read_or_refused_in_words(
    server: HostileServer, listed: bytes, answered: bytes, status: int, header: str
) -> None:
    server.models, server.answer, server.status = listed, answered, status
    printable = "".join(char for char in header[:100] if char.isascii() and char.isprintable())
    server.headers = {"Retry-After": printable}
    words: Any = "an answer"
    async with engine_of(server.url, None, first_token_s=1.0, next_token_s=0.5) as engine:
        try:
            await answer_of(engine, "hello")
        except GlmbotError as error:
            words = str(error)
        engine.stats()
    assert words
    assert "Traceback" not in words
    assert len(words) < 3_000
