"""What a model of Transformers says in the shared engine is what its own `generate` says, or it is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmbot.engine import attention
from glmbot.engine.base import Precision
from glmbot.errors import ModelFileError
from tiny_architectures import by_the_engine, by_transformers, questions, write_architecture

HYBRID = {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}
MAMBA = {"layer_types": ["mamba", "attention", "mamba", "attention"], "num_local_experts": 0}


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("lfm2", HYBRID, "layers 0, 2 of 4 keep a state of their own"),
        ("granitemoehybrid", MAMBA, "layers 0, 2 of 4 keep a state of their own"),
        ("recurrent_gemma", {}, "keep a state of their own"),
        ("gpt_oss", {}, "s_aux"),
        ("doge", {}, "Doge"),
        ("diffllama", {}, "call attention"),
        (
            "deepseek_v3",
            {"num_key_value_heads": 4, "head_dim": 8},
            "multi-head latent attention",
        ),
        ("nemotron", {}, "Nemotron"),
        ("falcon", {}, "brings its own attention"),
        ("gemma4_text", {}, "heads of different sizes"),
        ("bert", {"is_decoder": False}, "sees tokens by bidirectional_mask_function"),
    ],
)
def test_a_model_that_the_shared_engine_would_get_wrong_is_refused_with_the_reason(
    tmp_path: Path, kind: str, fields: dict[str, Any], reason: str
) -> None:
    folder = write_architecture(kind, tmp_path / kind, **fields)
    with pytest.raises(ModelFileError, match=reason) as refused:
        by_the_engine(folder, questions(5))
    assert "[remote] servers" in str(refused.value)


@pytest.mark.parametrize(
    "kind",
    [
        "mixtral", "qwen3_moe", "olmoe", "glm4_moe", "granitemoe", "ernie4_5_moe", "dots1", "minimax_m2",
        "gpt_neox", "exaone4", "gpt2", "gpt_bigcode", "gemma2",
        # A router that is a linear layer of its own kind; attention in chunks or in a window that only masks tell of;
        # a tied head with a bias; fused weights that are split by the sizes of others.
        "llama4_text", "phimoe", "modernbert-decoder", "sarvam_moe",
    ],
)  # fmt: skip
def test_what_transformers_renames_fuses_or_keeps_in_buffers_answers_as_its_own_code_does(
    tmp_path: Path, kind: str
) -> None:
    folder = write_architecture(kind, tmp_path / kind)
    asked = questions(5, 40, 70)
    assert by_the_engine(folder, asked, 8) == by_transformers(folder, asked, 8)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.INT8, Precision.INT4])
def test_rounding_is_not_taken_for_a_fault(tmp_path: Path, precision: Precision) -> None:
    for kind in ("llama", "qwen3_moe"):
        folder = write_architecture(kind, tmp_path / f"{kind}-{precision}")
        assert by_the_engine(folder, questions(5), 2, precision=precision)


def test_what_is_wrong_is_noticed_at_any_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention._attend_one

    def blind(query: Any, keys: Any, values: Any, segment: Any, *rest: Any) -> Any:
        return right(query, keys[:, -1:], values[:, -1:], replace(segment, cached=0, length=1), *rest)

    folder = write_architecture("llama", tmp_path / "llama")
    monkeypatch.setattr(attention, "_attend_one", blind)
    for precision in (Precision.FP32, Precision.INT4):
        with pytest.raises(ModelFileError, match="would say something else"):
            by_the_engine(folder, questions(5), precision=precision)


@pytest.mark.parametrize("kind", ["llama", "phi3"])
def test_longrope_follows_each_conversation_by_itself(tmp_path: Path, kind: str) -> None:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 64,
        "short_factor": [1 + 0.05 * angle for angle in range(8)],
        "long_factor": [1.5 + 1.2 * angle for angle in range(8)],
    }  # fmt: skip
    more = {"original_max_position_embeddings": 64} if kind == "phi3" else {}
    folder = write_architecture(kind, tmp_path / kind, rope_parameters=rope, **more)
    # One that stays short, one that is long, and one that grows beyond the boundary while it is answered.
    asked = questions(30, 200, 60)
    expected = by_transformers(folder, asked)
    assert by_the_engine(folder, asked) == expected
    assert by_the_engine(folder, asked[:1], prefill=512) == expected[:1]


def test_a_beginning_is_shared_only_where_it_is_computed_alike(tmp_path: Path) -> None:
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "factor": 16.0, "original_max_position_embeddings": 64,
        "short_factor": [1.0] * 8, "long_factor": [2.0 + angle for angle in range(8)],
    }  # fmt: skip
    folder = write_architecture("llama", tmp_path / "llama", rope_parameters=rope)
    (long,) = questions(120)
    asked = [long[:50], long]
    assert by_the_engine(folder, asked) == by_transformers(folder, asked)


# ---- folders that Transformers loads ---------------------------------------------------------------------------


def _without_prefix(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


def _head_instead_of_table(folder: Path) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")
    save_file(tensors, file, {"format": "pt"})


def _old_pickle(folder: Path) -> None:
    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    file.unlink()


def _index_of_before_a_merge(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "model-00001-of-00002.safetensors"}}', "utf-8")


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    folder = write_architecture("llama", tmp_path_factory.mktemp("tied") / "model", tie_word_embeddings=True)
    return folder, by_transformers(folder, questions(20))


@pytest.mark.parametrize(
    "change", [_without_prefix, _head_instead_of_table, _old_pickle, _index_of_before_a_merge]
)
def test_a_folder_as_others_save_it_is_loaded(
    tied: tuple[Path, list[list[int]]], tmp_path: Path, change: Any
) -> None:
    folder = Path(shutil.copytree(tied[0], tmp_path / "model"))
    change(folder)
    assert by_the_engine(folder, questions(20)) == tied[1]
