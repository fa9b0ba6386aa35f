"""GLM-130B from folders laid out as the published one is: ranks, tokenizer, prompts, blanks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from glm130b_folder import IMAGES, sizes, write_glm130b_folder
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.errors import ModelFileError, PromptTooLong
from glmbot.models.base import ChatTurn
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.glm130b.blanks import Blanks, fill_blanks
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.glm130b.family import register_glm130b
from glmbot.models.glm130b.model import GLM130BForCausalLM
from glmbot.models.glm130b.ranks import RANK_FILE, join, split
from glmbot.models.glm130b.tokenizer import GLM130BTokenizer
from glmbot.models.positions import MaskPositions
from glmbot.models.registry import load

_FLOAT32 = Placement(torch.device("cpu"), activations=torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("GLM-130B")
    write_glm130b_folder(path)
    return path


def test_a_folder_of_ranks_opens_with_its_prompts(folder: Path) -> None:
    model = load(folder, "sdpa")
    config: Any = model.module.config
    assert isinstance(model.module, GLM130BForCausalLM)
    assert model.stop_tokens == {config.eop_token_id, config.eos_token_id}
    assert model.generation_defaults["top_p"] == 0.7
    talk = model.chat_format
    text = talk.encode_text
    assert talk.encode_chat("", (), "你好") == [*text("你好"), config.gmask_token_id, config.sop_token_id]
    history = talk.encode_chat("Be kind.", [ChatTurn("Hello", "Hi")], "Who?")
    assert history[:-2] == text("Be kind.\nHello\nHi\nWho?")
    blank = talk.encode_chat("", (), "The capital of ___ is Paris")
    assert blank == [
        *text("The capital of"), config.mask_token_id, *text(" is Paris"), config.eos_token_id, config.sop_token_id,
    ]  # fmt: skip
    assert talk.encode_chat("", (), "The capital is ___")[-2:] == [config.mask_token_id, config.sop_token_id]


def test_weights_of_ranks_are_those_of_one_file(folder: Path, tmp_path: Path) -> None:
    whole = write_glm130b_folder(tmp_path, ranks=4)
    two, four = Checkpoint(folder), Checkpoint(tmp_path)
    assert all(torch.equal(two.read(name), tensor) for name, tensor in whole.items())
    assert all(torch.equal(four.read(name), tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("bits", [8, 4])
def test_what_was_quantised_for_ranks_keeps_its_scales_and_its_biases(bits: int, tmp_path: Path) -> None:
    precision = Precision.INT8 if bits == 8 else Precision.INT4
    whole = write_glm130b_folder(tmp_path, ranks=4, bits=bits)
    before = load(tmp_path, "sdpa")
    fill(before.module, before.checkpoint, precision, _FLOAT32)
    name = "transformer.layers.1.mlp.dense_4h_to_h"
    layer: Any = before.module.get_submodule(name)
    assert layer.weight_scale.shape == (64, 4)
    assert torch.equal(layer.bias, whole[f"{name}.bias"].float())
    (tmp_path / "float").mkdir()
    write_glm130b_folder(tmp_path / "float", ranks=4)
    loading = load(tmp_path / "float", "sdpa")
    fill(loading.module, loading.checkpoint, precision, _FLOAT32)
    other: Any = loading.module.get_submodule(name)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.weight_scale, other.weight_scale)


def test_transformers_knows_its_classes(folder: Path, tmp_path: Path) -> None:
    register_glm130b()
    config = AutoConfig.from_pretrained(_with_type(folder, tmp_path))
    assert isinstance(config, GLM130BConfig)
    with torch.device("meta"):
        assert isinstance(AutoModelForCausalLM.from_config(config), GLM130BForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(tokenizer, GLM130BTokenizer)
    assert tokenizer.convert_ids_to_tokens(tokenizer.control["eop"]) == "eop"


def _with_type(folder: Path, target: Path) -> Path:
    fields = json.loads((folder / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps({"model_type": "glm130b"} | fields), "utf-8")
    (target / "ice_text.model").write_bytes((folder / "ice_text.model").read_bytes())
    (target / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())
    return target


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "latest").write_text("../300"), "names no step"),
        (lambda folder: (folder / "latest").write_text("301"), "301: missing"),
        (lambda folder: (folder / "300" / RANK_FILE.format(0)).unlink(), r"mp_rank_00_model_states.pt: missing"),
        (lambda folder: (folder / "300" / RANK_FILE.format(1)).write_bytes(b"PK"), "not a whole weights file|other things"),
        (lambda folder: torch.save({"module": {"a": torch.ones(1)}}, folder / "300" / RANK_FILE.format(1)), "other tensors than rank 0"),
        (lambda folder: torch.save([1], folder / "300" / RANK_FILE.format(1)), "other things than tensors"),
        (lambda folder: (folder / "ice_text.model").unlink(), "ice_text.model: missing"),
        (lambda folder: (folder / "config.json").write_text('{"rotary_table": "float64"}'), "float16 or float32"),
        (lambda folder: (folder / "config.json").write_text('{"layernorm_order": "pre"}'), "norms are post"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_named(damage: Any, words: str, tmp_path: Path) -> None:
    write_glm130b_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelFileError, match=words):
        load(tmp_path, "sdpa")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write_glm130b_folder(tmp_path, eos_token_id=7)
    with pytest.raises(ModelFileError, match="do not belong together"):
        load(tmp_path, "sdpa")


# ---- tokenizer -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> GLM130BTokenizer:
    return GLM130BTokenizer(str(folder / "ice_text.model"), IMAGES)


def test_text_and_control_tokens_are_apart(tokenizer: GLM130BTokenizer) -> None:
    assert tokenizer.encode_text("Hello\nworld") == tokenizer.encode_text("Hello world")
    text, control = tokenizer.encode_text("Paris"), tokenizer.control
    newline = IMAGES + (tokenizer.text.id_of("<n>") or 0)
    assert tokenizer.decode_text([*text, control["eop"]]) == "Paris"
    assert tokenizer.decode_all([*text, control["eop"], control["[MASK]"]]) == "Paris[eop][[MASK]]"
    assert tokenizer.decode_all([*text, newline, 5, IMAGES + 2]) == "Paris\n[</s>]"


@given(text=st.text() | st.sampled_from(["[gMASK]", "a [MASK] sop", "</s>", "<pad>", "eop <unk>"]))
def test_no_text_becomes_a_control_token(tokenizer: GLM130BTokenizer, text: str) -> None:
    ids = tokenizer.encode_text(text)
    assert not set(ids) & set(tokenizer.control.values())
    assert IMAGES + 2 not in ids


# ---- blanks ----------------------------------------------------------------------------------------------

CONFIG = GLM130BConfig(**sizes(400))
MASK, GMASK, SOP = CONFIG.mask_token_id, CONFIG.gmask_token_id, CONFIG.sop_token_id
END = frozenset({CONFIG.eop_token_id})


def words(piece: str) -> list[int]:
    return [int(word) for word in piece.split()]


def test_a_text_beyond_the_positions_is_refused() -> None:
    with pytest.raises(PromptTooLong):
        Blanks.read("7 " * 2048, words, CONFIG)
    assert len(Blanks.read("7 " * 2047, words, CONFIG).prompt) == 2049


def test_an_answer_that_brings_blanks_is_filled_too_and_not_for_ever() -> None:
    asked: list[list[int]] = []

    def answer(blanks: Blanks, room: int) -> Sequence[int]:
        asked.append(blanks.prompt)
        return [9, MASK, *END]

    done = fill_blanks(Blanks.read("5 [MASK] 6", words, CONFIG), answer, END, most_rounds=3)
    assert len(asked) == 3
    assert done.result == [5, 9, 9, 9, MASK, 6]
    # And there is no room for more than `out_seq_length` in all.
    rooms: list[int] = []

    def measured(_: Blanks, room: int) -> Sequence[int]:
        rooms.append(room)
        return [9, 9, MASK]

    fill_blanks(Blanks.read("5 [MASK]", words, CONFIG), measured, END, out_seq_length=8)
    assert rooms == [5, 3, 1]


def test_a_mask_of_another_kind_in_an_answer_moves_nobody() -> None:
    blanks = Blanks.read("5 [gMASK] 6 [gMASK]", words, CONFIG).filled([MASK], END)
    assert blanks.positions.positions(blanks.prompt, 0, 7) == [list(range(7))]


@given(st.lists(st.integers(0, 399), max_size=30), st.integers(0, 5))
def test_positions_of_a_part_are_a_part_of_all_positions(tokens: list[int], more: int) -> None:
    scheme = MaskPositions(SOP, (MASK, CONFIG.smask_token_id, GMASK), counting=GMASK)
    prompt = [*tokens, SOP]
    end = len(prompt) + more
    (whole,) = scheme.positions(prompt, 0, end)
    for start in range(end):
        assert scheme.positions(prompt, start, end) == [whole[start:]]
    assert scheme.context_length(prompt) == len(tokens)
    assert whole[: len(tokens)] == list(range(len(tokens)))
    place = tokens.index(MASK) if MASK in tokens else None
    if place is not None:
        assert set(whole[len(tokens) :]) == {place}


@given(st.integers(1, 4), st.integers(0, 3))
def test_a_tensor_is_what_its_parts_make(log: int, kind: int) -> None:
    ranks = 2 ** (log - 1)
    name = (
        "word_embeddings.weight",
        "attention.dense.weight",
        "mlp.dense_h_to_4h.weight",
        "input_layernorm.weight",
    )[kind]
    tensor = torch.arange(16 * 32).view(16, 32)
    assert torch.equal(join(name, split(name, tensor, ranks)), tensor)
    if name.startswith("word"):
        with pytest.raises(ValueError, match="equal parts"):
            split(name, tensor, 3)


def test_a_chat_of_a_blank_that_is_alone_is_a_prompt(folder: Path) -> None:
    model = load(folder, "sdpa")
    config: Any = model.module.config
    assert model.chat_format.encode_chat("", (), "____") == [config.mask_token_id, config.sop_token_id]
    assert replace(model, name="x").positions.context_length([1, 2, config.sop_token_id]) == 2
