"""`glmbot models --check`: what a folder is served with here, and why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chatglm_folder import write_chatglm_folder
from glmbot.engine.trial import try_model
from glmbot.model_check import check_model, told
from program import glmbot
from tiny_architectures import write_architecture


def test_a_folder_that_can_be_served_is_described_with_its_speed(tiny_model: Path, tmp_path: Path) -> None:
    done = glmbot("models", "--check", str(tiny_model), "--precision", "int8", cwd=tmp_path, LC_ALL="C.UTF-8")
    assert done.returncode == 0, done.stderr
    for words in (
        "LlamaForCausalLM",
        "what its own code says alone",
        "at int8",
        "int4 0 MB",
        "up to 2048 tokens",
        "the folder's own template",
        r'becomes "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n"',
        "tokens/s",
    ):
        assert words in done.stdout


def test_speeds_and_sizes_are_measured(tiny_model: Path) -> None:
    trial = try_model(tiny_model)
    assert trial.read > trial.written > 0
    assert trial.system_role
    assert trial.cache_bytes_per_token == 2 * 2 * 2 * 16 * 2, (
        "layers, keys and values, heads, their size, bytes"
    )
    assert sorted(trial.weights) == ["bf16", "fp32", "int4", "int8"]
    on_card = replace(
        trial, kernels="", device="cuda:0", fast=("products", "rows"), given_up={"attention": "why"}
    )
    for language, words in (("en", "kernels for products, rows"), ("zh", "自己的内核：products, rows")):
        lines = told(on_card, language)
        assert words in lines[1]
        assert "attention" in lines[2]
        assert "why" in lines[2]
    assert "Computed by torch on cuda:0" in told(replace(on_card, fast=()), "en")[1]


def test_a_model_with_classes_of_our_own_is_described(tmp_path: Path) -> None:
    for name in ("chatglm-6b", "chatglm3-6b"):
        well, lines = check_model(write_chatglm_folder(tmp_path / name, name), "", "zh")
        assert well
        assert "glmbot 自己的实现" in lines[0]
        assert any("没有系统角色" in line for line in lines) is (name == "chatglm-6b")


def test_what_cannot_be_served_is_refused_with_its_reason(tmp_path: Path) -> None:
    folder = write_architecture("gpt_oss", tmp_path / "m")
    for language, opening in (("en", "It can't be served here: "), ("zh", "这里不能用它：")):
        well, (line,) = check_model(folder, "", language)
        assert not well
        assert line.startswith(opening)
        assert "[remote] servers" in line
    assert check_model(tmp_path / "missing", "", "en")[0] is False


@pytest.mark.parametrize("precision", ["int3", "fp16"])
def test_a_precision_that_is_not_there_is_named(tiny_model: Path, precision: str) -> None:
    well, (line,) = check_model(tiny_model, precision, "en")
    assert not well
    assert precision in line
    assert "int4" in line
