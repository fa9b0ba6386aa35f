"""Each architecture's program, against its own modules; and that no answer depends on company or chunks."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from chatglm_folder import GENERATIONS, write_chatglm_folder
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.placement import Placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Chunk, Sequence
from glmbot.models import decoders
from glmbot.models.registry import load
from glmbot.models.rotation_table import RotationTable
from glmbot.native.library import kernels
from models.test_glm10b import write_glm10b_folder
from tiny_model import write_tiny_model

CPU = Placement(torch.device("cpu"))
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {"use_sliding_window": False},
    "qwen3": {"head_dim": 32},
    "glm": {"head_dim": 16, "attention_bias": True, "pad_token_id": 0},
    "glm4": {"head_dim": 16, "attention_bias": True, "pad_token_id": 0},
    "arcee": {},
    "cohere": {"pad_token_id": 0, "logit_scale": 0.25},
    "cohere2": {"pad_token_id": 0, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    "cwm": {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    "ernie4_5": {"head_dim": 16, "use_bias": True},
    "exaone4": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16, "query_pre_attn_scalar": 20, "sliding_window": 6, "attn_logit_softcapping": 2.0,
               "final_logit_softcapping": 3.0},
    "gemma3_text": {"head_dim": 16, "query_pre_attn_scalar": 20, "sliding_window": 6,
                    "layer_types": ["sliding_attention", "full_attention"]},
    "granite": {"embedding_multiplier": 3.0, "residual_multiplier": 0.4, "logits_scaling": 5.0,
                "attention_multiplier": 0.3},
    "helium": {"head_dim": 16},
    "hunyuan_v1_dense": {"head_dim": 16},
    "jais2": {"attention_bias": True, "mlp_bias": True},
    "ministral": {"head_dim": 16, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    "olmo": {},
    "olmo2": {},
    "olmo3": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {"pad_token_id": 0, "partial_rotary_factor": 0.5},
    "seed_oss": {"head_dim": 16, "attention_bias": True},
    "smollm3": {"pad_token_id": 0, "no_rope_layers": [1, 0]},
    "starcoder2": {"sliding_window": 6},
    "vaultgemma": {"head_dim": 16, "query_pre_attn_scalar": 20},
}  # fmt: skip
KINDS = (*TRANSFORMERS, *GENERATIONS, "glm-10b")


def write_folder(folder: Path, kind: str) -> Path:
    if kind in GENERATIONS:
        return write_chatglm_folder(folder, kind)
    if kind == "glm-10b":
        return write_glm10b_folder(folder)
    write_tiny_model(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config: Any = AutoConfig.for_model(
        kind,
        vocab_size=-(-len(tokenizer) // 16) * 16,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=2,
        bos_token_id=1,
        tie_word_embeddings=kind in ("qwen2", "llama"),
        initializer_range=0.2,
        **TRANSFORMERS[kind],
    )
    torch.manual_seed(4)
    model: Any = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if kernels() is None:
        pytest.skip("no C++ compiler here")
    register_attention()
    root = tmp_path_factory.mktemp("lowered")
    for kind in KINDS:
        write_folder(root / kind, kind)
    return root


def runner(folder: Path, precision: Precision) -> ModelRunner:
    return ModelRunner(load(folder, ATTENTION_NAME), placement=CPU, precision=precision, cache_tokens=2048)


def sequences(made: ModelRunner, count: int, seed: int = 0) -> list[Sequence]:
    dice = random.Random(seed)
    found: list[Sequence] = []
    for number in range(count):
        words = " ".join(
            dice.choice(["the", "fox", "北京", "人工智能", "capital", "?"]) for _ in range(4 + number)
        )
        prompt = made.model.chat_format.encode_chat("", (), words)
        sequence = Sequence(number, "a", len(prompt), list(prompt), Sampling(max_tokens=16), 0.0)
        sequence.whole_prefill = made.model.positions.context_length(prompt) > 0
        sequence.place = made.allocator.take(sequence.reserved)
        found.append(sequence)
    return found


def advance(made: ModelRunner, chunks: list[Chunk]) -> torch.Tensor:
    logits = made.step(chunks).clone()
    drawn = iter(logits)
    for chunk in chunks:
        draws = chunk.draws
        chunk.sequence.computed += chunk.length
        if draws:
            chunk.sequence.tokens.append(int(next(drawn).argmax()))
    return logits


def test_each_kind_that_is_lowered_is_held_against_its_modules() -> None:
    assert set(TRANSFORMERS) == decoders.DECODERS


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_computes_what_its_modules_do(kind: str, folders: Path) -> None:
    """In float32 to rounding: a prompt beside others, then two steps of decoding."""
    made = runner(folders / kind, Precision.FP32)
    assert made.native, "this architecture is lowered"
    mine = sequences(made, 3)
    for _ in range(3):
        chunks = [Chunk(sequence, len(sequence.tokens) - sequence.computed) for sequence in mine]
        lowered, made.part.lowered = made.part.lowered, None
        expected = made.step(chunks).clone()
        made.part.lowered = lowered
        torch.testing.assert_close(advance(made, chunks), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4])
@pytest.mark.parametrize("kind", ["llama", "glm4", "chatglm-6b", "chatglm2-6b"])
def test_logits_are_the_same_in_any_company_bit_for_bit(
    kind: str, precision: Precision, folders: Path
) -> None:
    made = runner(folders / kind, precision)
    together, alone = sequences(made, 4), sequences(made, 4)
    for _ in range(4):
        all_of_them = [Chunk(sequence, len(sequence.tokens) - sequence.computed) for sequence in together]
        expected = advance(made, all_of_them)
        for row, sequence in enumerate(alone):
            mine = advance(made, [Chunk(sequence, len(sequence.tokens) - sequence.computed)])
            assert torch.equal(mine[0], expected[row])


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 9), max_size=6), seed=st.integers(0, 50))
def test_a_prompt_in_chunks_is_the_prompt_at_once_bit_for_bit(
    folders: Path, cuts: list[int], seed: int
) -> None:
    made = runner(folders / "qwen3", Precision.INT4)
    (whole,), (cut,) = sequences(made, 1, seed), sequences(made, 1, seed)
    expected = advance(made, [Chunk(whole, len(whole.tokens))])
    for length in cuts:
        if cut.computed + length < len(cut.tokens):
            advance(made, [Chunk(cut, length)])
    assert torch.equal(advance(made, [Chunk(cut, len(cut.tokens) - cut.computed)]), expected)


def test_a_program_that_computes_something_else_is_given_up(
    folders: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoders, "_NEIGHBOURS", ("llama",))
    made = runner(folders / "llama", Precision.FP32)
    assert not made.native
    assert "computes something else" in caplog.text


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_precision_switches_with_tied_and_untied_heads(kind: str, folders: Path) -> None:
    made = runner(folders / kind, Precision.FP32)
    (sequence,) = sequences(made, 1)
    first = advance(made, [Chunk(sequence, len(sequence.tokens))])
    for precision in (Precision.INT4, Precision.BF16, Precision.INT8, Precision.FP32):
        made.set_precision(precision)
        assert made.native
    (again,) = sequences(made, 1)
    assert torch.equal(advance(made, [Chunk(again, len(again.tokens))]), first)


@pytest.mark.parametrize(
    ("rope", "by_position"),
    [
        ({"rope_type": "default", "rope_theta": 10000.0}, True),
        ({"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}, True),
        ({"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}, False),
    ],
    ids=["default", "linear", "dynamic"],
)
def test_angles_that_depend_on_a_sequences_length_are_never_kept(
    rope: dict[str, object], by_position: bool, folders: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders / "llama", tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rope_parameters": rope}))
    lowered = runner(folder, Precision.FP32).part.lowered
    assert lowered is not None
    assert isinstance(lowered.rotation, RotationTable) == by_position
