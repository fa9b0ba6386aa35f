"""What people point [model] path at, and what they are told."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from chatglm_folder import Generation, write_chatglm_folder
from glmbot.errors import ModelFileError
from glmbot.models.registry import load, load_tokenizer
from tiny_model import write_tiny_model


def told(folder: Path) -> str:
    with pytest.raises(ModelFileError) as refused:
        load(folder, "sdpa")
    return str(refused.value)


def configured(folder: Path, **fields: Any) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | fields), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, "GPTQ, with bits = 3"),
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"a": {}}}},
            "GPTQ, with dynamic",
        ),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}, "AWQ, with version"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "MXFP4"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized"}},
            "compressed-tensors, with format = pack-quantized",
        ),
        ({"quantization_config": {"quant_method": "something new"}}, "something new"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "MLX"),
    ],
)
def test_others_quantisation_is_called_by_its_name(tmp_path: Path, fields: dict[str, Any], name: str) -> None:
    words = told(configured(write_tiny_model(tmp_path / "model"), **fields))
    assert f"quantised by {name}" in words or f"quantised for {name}" in words
    assert "float16 or bfloat16" in words


@pytest.mark.parametrize("ending", [".qweight", ".weight_scale_inv", ".weight_packed"])
def test_tensors_that_only_quantised_weights_have_are_noticed(tmp_path: Path, ending: str) -> None:
    folder = write_tiny_model(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors[f"model.layers.0.mlp.up_proj{ending}"] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "is not read here" in told(folder)


def test_an_adapter_is_called_so_with_the_model_that_it_belongs_to(tmp_path: Path) -> None:
    alone = tmp_path / "lora"
    alone.mkdir()
    described = json.dumps({"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B"})
    (alone / "adapter_config.json").write_text(described, "utf-8")
    assert "let [model] path name the folder of Qwen/Qwen3-0.6B, and [model] adapters this one" in told(alone)
    beside = write_tiny_model(tmp_path / "model")
    (beside / "adapter_config.json").write_text(described, "utf-8")
    assert "adapter beside the weights" in told(beside)


def test_a_tiktoken_vocabulary_of_another_model_is_called_so(tmp_path: Path) -> None:
    folder = write_chatglm_folder(tmp_path / "chatglm", "chatglm-6b")
    words = (f"{base64.b64encode(bytes([each])).decode()} {each}" for each in range(256))
    (folder / "ice_text.model").write_text("\n".join(words), "utf-8")
    assert "a tiktoken vocabulary, which is read for glm-4-9b-chat alone" in told(folder)


# ---- ChatGLM2 or ChatGLM3 --------------------------------------------------------------------------------------


def nameless(folder: Path) -> Path:
    write_chatglm_folder(folder, "chatglm3-6b")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ChatGLMTokenizer"}', "utf-8")
    return configured(folder, _name_or_path="/root/base")


def test_which_chatglm_is_not_guessed_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = nameless(tmp_path / "my-finetune")
    with caplog.at_level(logging.WARNING):
        assert "ChatGLM2" in type(load_tokenizer(folder).chat_format).__name__
    assert 'chat_format = "chatglm3"' in caplog.text
    assert "ChatGLM3" in type(load_tokenizer(folder, "chatglm3").chat_format).__name__
    (folder / "tokenization_chatglm.py").write_text("def build_single_message(self): ...", "utf-8")
    assert "ChatGLM3" in type(load_tokenizer(folder).chat_format).__name__


def test_chatglm2_for_long_contexts_divides_positions_and_chatglm3_multiplies_the_base(
    tmp_path: Path,
) -> None:
    kinds: tuple[Generation, ...] = ("chatglm2-6b", "chatglm3-6b")
    for kind in kinds:
        folder = write_chatglm_folder(tmp_path / f"{kind}-32k", kind, rope_ratio=4, seq_length=32768)
        module: Any = load(folder, "sdpa").module
        half = module.config.kv_channels // 2
        steps = -(torch.arange(0, half, 2, dtype=torch.float32) / half)
        expected = 1e4**steps / 4 if kind == "chatglm2-6b" else 4e4**steps
        torch.testing.assert_close(module.transformer.get_buffer("inv_freq"), expected)
