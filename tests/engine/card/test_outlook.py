"""What `glmbot models` and `glmbot doctor` say of the card at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glmbot import doctor, memory
from glmbot.cuda.program import Part
from glmbot.engine.card import outlook as outlooks
from glmbot.engine.card.outlook import CONVERSATION, bandwidth_of, card_bandwidth, outlook, told
from glmbot.engine.card.tried import tried
from glmbot.engine.card.trust import FastParts
from glmbot.engine.local_settings import LocalEngineSettings

GB = 10**9
CARD = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("clock_khz", "bits", "gb_s"), [(2_619_000, 5120, 3352), (9_751_000, 384, 936), (7_000_000, 352, 616)]
)
def test_what_a_card_reads_is_what_its_data_sheet_says(clock_khz: int, bits: int, gb_s: int) -> None:
    """H100 SXM, 3090, 2080 Ti."""
    found = bandwidth_of(clock_khz, bits)
    assert found is not None
    assert found / GB == pytest.approx(gb_s, rel=0.001)


def test_a_card_that_does_not_tell_has_no_speed() -> None:
    assert bandwidth_of(0, 384) is None
    assert card_bandwidth(torch.device("cpu")) is None
    assert "tokens/s" not in told(outlook({"int4": GB}, {"int4": 1000}, 2 * GB, None))


@given(
    weights=st.integers(1, 80 * GB),
    per_token=st.integers(1, 10**7),
    room=st.integers(0, 80 * GB),
    bandwidth=st.floats(1e9, 1e13),
)
def test_what_is_said_fits_and_one_more_does_not(
    weights: int, per_token: int, room: int, bandwidth: float
) -> None:
    (one,) = outlook({"int8": weights}, {"int8": per_token}, room, bandwidth)
    each = CONVERSATION * per_token
    if one.conversations:
        assert weights + one.conversations * each <= room
    assert weights + (one.conversations + 1) * each > room
    assert one.speed is not None
    assert one.speed * (weights + each) == pytest.approx(bandwidth)


def test_chatglm_on_an_h100_in_words() -> None:
    found = outlook({"fp16": 12_340_000_000, "int4": 90 * GB}, {"fp16": 458_752, "int4": 1}, 80 * GB, 3.35e12)
    assert told(found) == (
        "fp16 12.3 GB and 72 conversations of 2048 tokens, at most 252 tokens/s each; int4 90.0 GB, no room"
    )


def test_models_are_told_of_with_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        memory.ModelMemory("small", "-", {}, weights={"fp16": GB}, per_token={"fp16": 100_000}),
        memory.ModelMemory("huge", "-", {}, weights={"fp16": 99 * GB}, per_token={"fp16": 100_000}),
    ]
    assert memory.card_outlooks(rows) == [], "no card here"
    _as_on_a_card(monkeypatch)
    assert memory.card_outlooks(rows) == [
        "On Some Card, which reads 936 GB/s of its memory:",
        "  small: fp16 1.0 GB and 43 conversations of 2048 tokens, at most 777 tokens/s each",
    ]


def _as_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(memory_clock_rate=9_751_000, memory_bus_width=384)
    monkeypatch.setattr(memory, "parse_devices", lambda _: [CARD])
    monkeypatch.setattr(memory, "free_memory", lambda _: 10 * GB)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some Card")
    monkeypatch.setattr(outlooks.torch.cuda, "get_device_properties", lambda _: properties)


class _Wrong:
    """Kernels that leave everything as it is."""

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, *arguments: torch.Tensor | float
    ) -> None:
        pass


def test_parts_are_tried_without_a_model() -> None:
    assert tried(torch.device("cpu"), _Wrong()).given_up.keys() == {*Part, "program"}


@pytest.mark.parametrize(
    ("settings", "given_up", "well", "words"),
    [
        ({"gpu_plain": True}, {}, True, "turned off by [model] gpu_plain"),
        ({"tensor_parallel": 2}, {}, True, "several cards share"),
        ({}, {}, True, "products, attention, rows, graphs, held against torch"),
        ({}, {"attention": "no room"}, False, "products, rows, graphs, held against torch on a small model"),
        ({}, {"attention": "no room"}, False, "without attention: no room"),
        ({}, {"program": "odd"}, False, "none, held against"),
        ({}, RuntimeError("no driver"), False, "can't be tried: RuntimeError: no driver"),
    ],
)
def test_the_doctor_says_which_fast_parts_are_on(
    settings: dict[str, Any],
    given_up: dict[str, str] | Exception,
    well: bool,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trying(_: object) -> FastParts:
        if isinstance(given_up, Exception):
            raise given_up
        return FastParts("m", given_up)

    monkeypatch.setattr(doctor, "tried", trying)
    found = doctor._fast_parts(LocalEngineSettings(Path("m"), **settings), CARD)
    assert found.ok is well
    assert words in found.words
