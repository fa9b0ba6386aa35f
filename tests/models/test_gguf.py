"""Models that are one GGUF file: the same numbers, tokens and answers as the models that they were made of."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from gguf_file import KIND, write_gguf
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import chosen_precision, fill
from glmbot.errors import ModelFileError
from glmbot.models.base import ChatTurn
from glmbot.models.gguf import architectures, header
from glmbot.models.gguf.blocks import groups_of, widened
from glmbot.models.gguf.header import GgufFile, TensorPlace, open_gguf
from glmbot.models.registry import LoadedModel, check_folder, load
from glmbot.native.linear import NativeLinear
from glmbot.quantization.formats import dequantize_groups
from tiny_model import write_tiny_tokenizer

CPU = Placement(torch.device("cpu"))
TORCH = Placement(torch.device("cpu"), activations=torch.float32)
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied, with biases": ("llama", {"tie_word_embeddings": True, "attention_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}),
    "qwen3moe": (
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
    ),
    "glm4": ("glm4", {"attention_bias": True, "tie_word_embeddings": False}),
    "chatglm": ("glm", {"attention_bias": True, "tie_word_embeddings": False}),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 7, "sliding_window": 16, "query_pre_attn_scalar": 32}),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    return write_tiny_tokenizer(tmp_path_factory.mktemp("words"))


def tiny(kind: str, vocabulary: int, **changes: Any) -> Any:
    torch.manual_seed(3)
    config = AutoConfig.for_model(
        kind,
        **{**SIZES, "initializer_range": 0.2, "vocab_size": vocabulary, "pad_token_id": None, **changes},
    )
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


def filled(path: Path, precision: Precision | None, placement: Placement = TORCH) -> LoadedModel:
    model = load(path, "sdpa")
    wanted = chosen_precision(precision, model.module, model.checkpoint, placement.device)
    fill(model.module, model.checkpoint, wanted, placement)
    return model


@torch.inference_mode()
def logits(module: Any, tokens: Tensor) -> Tensor:
    return module(input_ids=tokens, use_cache=False).logits[0]


@pytest.mark.parametrize("named", KINDS)
def test_a_file_computes_what_the_model_does_that_it_was_made_of(
    named: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    kind, changes = KINDS[named]
    original = tiny(kind, len(tokenizer), **changes)
    path = write_gguf(tmp_path / "tiny.gguf", original, tokenizer, named.split()[0])
    tokens = torch.randint(0, len(tokenizer), (1, 40))
    loaded = filled(path, Precision.FP32)
    assert loaded.name == "tiny"
    torch.testing.assert_close(logits(loaded.module, tokens), logits(original, tokens), rtol=1e-4, atol=1e-4)


def test_llama_3s_frequencies_are_divided_as_the_file_says(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    scaled = {
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    original = tiny("llama", len(tokenizer), rope_parameters=scaled)
    plain = tiny("llama", len(tokenizer))
    factors = plain.model.rotary_emb.inv_freq / original.model.rotary_emb.inv_freq
    path = write_gguf(
        tmp_path / "x.gguf",
        original,
        tokenizer,
        "llama",
        tensors=lambda named: named.update({"rope_freqs.weight": factors}),
    )
    tokens = torch.randint(0, len(tokenizer), (1, 200))
    expected = logits(original, tokens)
    torch.testing.assert_close(
        logits(filled(path, Precision.FP32).module, tokens), expected, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(logits(plain, tokens), expected, atol=1e-2)


def test_prompts_are_those_of_the_models_own_tokenizer(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    path = write_gguf(tmp_path / "x.gguf", tiny("llama", len(tokenizer)), tokenizer, "llama")
    loaded = load(path, "sdpa")
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "你好 2024!"},
        {"role": "assistant", "content": "Paris, of course!"},
        {"role": "user", "content": "  (brackets)\n🙂 <|im_end|"},
    ]
    expected: Any = tokenizer.apply_chat_template(said, add_generation_prompt=True, return_dict=False)
    turns = [ChatTurn(said[1]["content"], said[2]["content"])]
    assert loaded.chat_format.encode_chat("Be brief.", turns, said[3]["content"]) == expected
    assert loaded.chat_format.decode(loaded.chat_format.encode_text("人工智能 a  b")) == "人工智能 a  b"
    # Two ends of a turn are known by their names; the metadata have one.
    ends: Any = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert loaded.stop_tokens == set(ends)


# ---- blocks ----------------------------------------------------------------------------------------------------


def blocks(kind: KIND, rows: int, columns: int) -> tuple[GgufFile, TensorPlace]:
    """Random bits under scales of a usual size."""
    dice = np.random.default_rng(5)
    size, length = GGML_QUANT_SIZES[kind]
    raw = dice.integers(0, 256, (rows * columns // size, length), dtype=np.uint8)
    halves = {KIND.Q4_1: (0, 2), KIND.Q5_1: (0, 2), KIND.Q4_K: (0, 2), KIND.Q5_K: (0, 2), KIND.Q6_K: (208,)}
    for at in halves.get(kind, (0,)):
        scales = dice.uniform(-0.02, 0.02, len(raw)).astype(np.float16)
        raw[:, at : at + 2] = scales[:, None].view(np.uint8)
    flat = raw.reshape(-1)
    place = TensorPlace((rows, columns), kind, 0, flat.nbytes)
    return GgufFile(Path("x.gguf"), {}, {"x": place}, flat), place


@pytest.mark.parametrize(
    "kind", [KIND.Q4_0, KIND.Q4_1, KIND.Q5_0, KIND.Q5_1, KIND.Q8_0, KIND.Q4_K, KIND.Q5_K, KIND.Q6_K]
)
def test_codes_stand_for_the_numbers_of_the_block(kind: KIND) -> None:
    file, place = blocks(kind, 6, 512)
    rows = file.mapped.reshape(6, -1)
    reference = torch.from_numpy(dequantize(rows, kind))
    torch.testing.assert_close(widened(file, place), reference)
    groups = groups_of(file, place)
    assert groups is not None
    assert groups.bits == (4 if kind in (KIND.Q4_0, KIND.Q4_1, KIND.Q4_K) else 8)
    # Products of scales are rounded to float16.
    allowed = reference.abs().max().item() * 1e-3
    if kind in (KIND.Q4_0, KIND.Q4_1, KIND.Q5_0, KIND.Q5_1, KIND.Q8_0):
        allowed = 1e-6
    torch.testing.assert_close(dequantize_groups(groups), reference, rtol=0, atol=allowed)


@pytest.mark.parametrize(
    ("kind", "asked", "precision", "bits"),
    [
        (KIND.Q4_0, None, Precision.INT4, 4),
        (KIND.Q8_0, None, Precision.INT8, 8),
        (KIND.Q4_0, Precision.INT8, Precision.INT8, 8),
        (KIND.Q8_0, Precision.INT4, Precision.INT4, 4),
        (KIND.F16, None, Precision.BF16, 16),
        (KIND.Q4_1, Precision.FP32, Precision.FP32, 32),
    ],
)
def test_the_files_own_precision_is_kept_unless_another_is_asked_for(
    kind: KIND, asked: Precision | None, precision: Precision, bits: int,
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast,
) -> None:  # fmt: skip
    path = write_gguf(tmp_path / "x.gguf", tiny("llama", len(tokenizer)), tokenizer, "llama", kind=kind)
    model = load(path, "sdpa")
    assert chosen_precision(asked, model.module, model.checkpoint, CPU.device) is precision
    fill(model.module, model.checkpoint, precision, CPU)
    module: Any = model.module
    layer = module.model.layers[0].mlp.up_proj
    if isinstance(layer, NativeLinear):
        assert layer.get_buffer("weight").numel() * layer.get_buffer("weight").itemsize * 8 == bits * 64 * 96
    tokens = torch.randint(0, len(tokenizer), (1, 24))
    wide = filled(path, Precision.FP32)
    likeness = torch.cosine_similarity(logits(module, tokens).float(), logits(wide.module, tokens), dim=-1)
    # Only what is made coarser than the file changes more than activations of 8 bits do.
    assert likeness.min() > (0.7 if (kind, asked) == (KIND.Q8_0, Precision.INT4) else 0.995)


# ---- what is refused -------------------------------------------------------------------------------------------


def told(path: Path) -> str:
    with pytest.raises(ModelFileError) as refused:
        load(path, "sdpa")
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("llama.expert_count", 8, "a mixture of 8 experts"),
        ("llama.attn_logit_softcapping", 50.0, "attn_logit_softcapping is 50.0, which is not known here"),
        ("llama.rope.scaling.type", "su", "linear and yarn are read"),
        ("llama.attention.value_length", 16, "value_length is 16, and key_length 32"),
        ("llama.attention.head_count_kv", [1, 2], "layers of different sizes"),
        ("llama.block_count", 3_000_000, "num_hidden_layers is 3000000"),
        ("llama.attention.head_count", 0, "must be above 0"),
        ("llama.embedding_length", None, "llama.embedding_length is missing"),
        ("tokenizer.ggml.pre", "a new one", "a way to cut texts that is not known here"),
        ("tokenizer.ggml.model", "bert", "gpt2 and llama are read"),
        ("tokenizer.ggml.eos_token_id", 1 << 20, "eos_token_id is 1048576"),
        ("tokenizer.ggml.token_type", [1, 2], "no list of"),
        ("tokenizer.ggml.tokens", None, "tokens is missing"),
        ("tokenizer.ggml.tokens", ["a"] * 9999, "9999"),
        ("tokenizer.chat_template", "{{ nothing }}", "x.gguf: chat_template can't be rendered"),
        ("general.alignment", 7, "must be a power of two"),
    ],
)
def test_metadata_that_are_not_understood_are_refused_by_their_key(
    key: str, value: Any, words: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    def change(said: dict[str, Any]) -> None:
        said.pop(key, None)
        if key == "tokenizer.ggml.tokens" and value is not None:
            said |= {
                key: [str(number) for number in range(len(value))],
                "tokenizer.ggml.token_type": [1] * 9999,
            }
        elif value is not None:
            said[key] = value

    path = write_gguf(tmp_path / "x.gguf", tiny("llama", len(tokenizer)), tokenizer, "llama", change=change)
    assert words in told(path)


def test_tensors_that_are_missing_or_have_no_place_are_refused_by_name(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    original = tiny("llama", len(tokenizer))
    more = write_gguf(
        tmp_path / "more.gguf", original, tokenizer, "llama",
        tensors=lambda named: named.update({"blk.0.attn_sinks.weight": torch.zeros(4)}),
    )  # fmt: skip
    assert "blk.0.attn_sinks.weight has no place" in told(more)

    def lose(named: dict[str, Tensor]) -> None:
        named.pop("blk.1.ffn_up.weight")

    less = write_gguf(tmp_path / "less.gguf", original, tokenizer, "llama", tensors=lose)
    with pytest.raises(ModelFileError, match="up_proj"):
        filled(less, Precision.FP32)


def test_which_file_is_meant(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    first = write_gguf(tmp_path / "a.gguf", tiny("llama", len(tokenizer)), tokenizer, "llama")
    assert load(tmp_path, "sdpa").checkpoint.folder == first
    (tmp_path / "b.gguf").write_bytes(first.read_bytes())
    assert "has 2 GGUF files (a.gguf, b.gguf)" in told(tmp_path)
    part = (tmp_path / "b.gguf").rename(tmp_path / "c-00001-of-00003.gguf")
    assert "--merge" in told(part)
    first.unlink()
    assert "--merge" in told(tmp_path)


@pytest.mark.parametrize("value", [1 << 31, 3e12])
def test_layers_without_end_are_refused_before_anything_is_made_of_each(
    value: float, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("layers are counted before they are gone through")

    kinds = dict(architectures.ARCHITECTURES)
    kinds["gemma3"] = replace(kinds["gemma3"], finish=forbidden)
    monkeypatch.setattr(architectures, "ARCHITECTURES", kinds)
    original = tiny("gemma3_text", len(tokenizer), **KINDS["gemma3"][1])

    def change(said: dict[str, Any]) -> None:
        said["gemma3.block_count"] = value

    path = write_gguf(tmp_path / "x.gguf", original, tokenizer, "gemma3", change=change)
    assert "num_hidden_layers is" in told(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.gguf")
    assert "not a regular file" in told(tmp_path)


def test_all_lists_together_have_a_bound(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte of the file becomes many of a list of Python's."""
    path = write_gguf(tmp_path / "x.gguf", tiny("llama", len(tokenizer)), tokenizer, "llama")
    lists = [value for value in open_gguf(path).metadata.values() if isinstance(value, list)]
    monkeypatch.setattr(header, "_MOST_ELEMENTS", sum(map(len, lists)))
    open_gguf(path)
    monkeypatch.setattr(header, "_MOST_ELEMENTS", sum(map(len, lists)) - 1)
    assert max(map(len, lists)) < sum(map(len, lists)) - 1
    assert "the length of" in told(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "x.gguf"
    return write_gguf(path, tiny("llama", len(tokenizer)), tokenizer, "llama", kind=KIND.Q8_0).read_bytes()


@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_never_anything_else(
    data: st.DataObject, whole: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    header = 20_000
    if data.draw(st.booleans()):
        broken = bytearray(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        broken = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, header))
            broken[at : at + 8] = data.draw(
                st.sampled_from(
                    [struct.pack("<Q", 2**64 - 1), struct.pack("<Q", 1 << 40), b"\0" * 8, b"\xff" * 3]
                )
            )
    path = tmp_path_factory.getbasetemp() / "broken.gguf"
    path.write_bytes(broken)
    with suppress(ModelFileError):
        check_folder(path)
        places = open_gguf(path).tensors.values()
        assert all(place.start + place.bytes <= len(broken) for place in places)
