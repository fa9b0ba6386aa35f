"""Layers over several devices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chatglm_folder import Generation, write_chatglm_folder
from glmbot.engine import placement as placements
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement, host_parts, parse_devices, place, spread, table_fits
from glmbot.engine.precision import available_precisions
from glmbot.engine.sizes import expected_weight_bytes
from glmbot.errors import ConfigError
from glmbot.models.registry import LoadedModel, load
from tiny_model import write_tiny_model

CPU, FIRST, SECOND = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)
GB = 10**9


@given(
    layers=st.integers(1, 60),
    layer=st.integers(1, GB),
    first=st.integers(0, 4 * GB),
    room=st.lists(st.integers(0, 80 * GB), min_size=1, max_size=8),
)
def test_layers_go_in_order_and_none_is_left_out(
    layers: int, layer: int, first: int, room: list[int]
) -> None:
    chosen = spread(layers, layer, first, room)
    assert len(chosen) == layers
    assert chosen == sorted(chosen)
    assert set(chosen) <= set(range(len(room)))


@given(cards=st.integers(2, 8), layers=st.integers(16, 60), layer=st.integers(GB // 10, GB))
def test_equal_cards_get_equal_loads(cards: int, layers: int, layer: int) -> None:
    first = 2 * layer
    chosen = spread(layers, layer, first, [24 * GB] * cards)
    loads = [chosen.count(card) * layer + (first if card == 0 else 0) for card in range(cards)]
    assert max(loads) - min(loads) <= 2 * layer


def test_chatglm_on_two_cards_of_8_gb() -> None:
    """28 layers of 0.44 GB in float16 with their cache, an output head of 1.07 GB."""
    chosen = spread(28, 440_000_000, 1_070_000_000, [8 * GB, 8 * GB])
    loads = [chosen.count(0) * 0.44 + 1.07, chosen.count(1) * 0.44]
    assert all(load < 8 for load in loads)
    assert chosen.count(0) < chosen.count(1)


@pytest.mark.parametrize("words", ["gpu", "cuda:0,cuda:0", "cpu,cuda:0", ""])
def test_devices_that_are_none_are_refused(words: str) -> None:
    with pytest.raises(ConfigError, match=r"\[model\] device"):
        parse_devices(words)


def test_amd_cards_go_by_the_same_name_and_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Placement(FIRST).nvidia
    assert not Placement(CPU).nvidia
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert not Placement(FIRST).nvidia


def test_devices_are_read() -> None:
    assert parse_devices("cuda:0, cuda:1") == [FIRST, SECOND]
    assert parse_devices("cuda") == [FIRST]
    assert parse_devices("auto") == [CPU], "no GPU here"


MODELS = ("chatglm-6b", "chatglm2-6b", "llama")


def written(name: str, folder: Path) -> Path:
    if name == "llama":
        return write_tiny_model(folder, layers=3)
    generation: Generation = name  # pyright: ignore[reportAssignmentType]
    return write_chatglm_folder(folder, generation, num_layers=4)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> LoadedModel:
    register_attention()
    return load(written(request.param, tmp_path / "m"), ATTENTION_NAME)


def test_a_model_that_fits_one_card_stays_there(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "free_memory", lambda _: GB)
    placed = place(model.module, model.shape, [FIRST, SECOND], Precision.FP16, 2048)
    assert placed.devices == (FIRST,)


@given(
    table=st.integers(0, 80 * GB),
    needs=st.lists(st.integers(0, 80 * GB), max_size=3),
    room=st.integers(0, 80 * GB),
)
def test_a_table_on_the_card_takes_no_precision_away(table: int, needs: list[int], room: int) -> None:
    if table_fits(table, needs, room):
        assert any(need <= room for need in needs)
        assert [need <= room for need in needs] == [need + table <= room for need in needs]


@pytest.mark.parametrize(
    ("card_gb", "there"),
    [(5.6, False), (7.6, True), (7.8, False), (11.5, True), (14.0, False), (15.5, True), (23.5, True)],
)
def test_where_the_embeddings_of_chatglm_6b_are(card_gb: float, there: bool) -> None:
    """fp16, int8 and int4 with a cache of 2048 tokens, and as much again for one that sizes itself."""
    needs = [int((each + 0.94) * GB) for each in (12.34, 6.71, 3.89)]
    assert table_fits(int((1.07 + 0.94) * GB), needs, int(card_gb * GB)) is there


def test_embeddings_go_to_a_card_with_room(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "free_memory", lambda _: GB)
    assert place(model.module, model.shape, [FIRST], Precision.FP16, 10).parts == {}
    plain = place(model.module, model.shape, [FIRST], Precision.FP16, 10, plain=True)
    assert plain.plain
    assert list(plain.parts.values()) == [CPU]
    monkeypatch.setattr(placements, "free_memory", lambda _: 1000)
    assert list(place(model.module, model.shape, [FIRST], Precision.FP16, 10).parts.values()) == [CPU]


def test_one_that_does_not_is_spread(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = expected_weight_bytes(model.module, Precision.FP16)
    monkeypatch.setattr(placements, "free_memory", lambda _: whole // 2)
    placed = place(model.module, model.shape, [FIRST, SECOND], Precision.FP16, 10)
    homes = [placed.device_of(name) for name in model.shape.layer_names]
    assert placed.devices == (FIRST, SECOND)
    assert homes == sorted(homes, key=str)
    assert placed.device_of("transformer.final_layernorm") == FIRST


def test_embeddings_stay_in_the_hosts_memory(model: LoadedModel) -> None:
    (name,) = host_parts(model.module, model.shape, FIRST)
    assert name.endswith(("word_embeddings", "embed_tokens"))
    assert host_parts(model.module, model.shape, CPU) == {}


def test_a_step_crosses_the_cards_and_comes_home(tmp_path: Path) -> None:
    """In a process of its own: a device of torch's that Python plays stays for as long as the process."""
    script = Path(__file__).parent / "across_devices.py"
    folders = [str(written(name, tmp_path / name)) for name in MODELS]
    done = subprocess.run(
        [sys.executable, str(script), *folders], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == [f"{name} is home again" for name in MODELS]


def test_what_other_backends_say_of_themselves_is_asked_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intel's and Huawei's cards have a module of torch's each, and no CUDA."""
    card = torch.device("xpu", 0)
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda _: (5 * GB, 8 * GB))
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: False)
    assert placements.free_memory(card) == 5 * GB
    assert Precision.BF16 not in available_precisions(card)
    monkeypatch.setattr(torch.xpu, "is_bf16_supported", lambda: True)
    assert Precision.BF16 in available_precisions(card)


def test_a_backend_that_says_nothing_shares_the_machines_memory() -> None:
    assert 0 < placements.free_memory(torch.device("meta")) < 2**60
    assert Precision.BF16 not in available_precisions(torch.device("meta"))
