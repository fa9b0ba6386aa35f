"""`glmbot models` and `glmbot pull`: sizes that are right, and clear words where there is no network."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects

from chatglm_folder import write_chatglm_folder
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.engine.sizes import expected_weight_bytes, weight_bytes
from glmbot.memory import memory_of_cards, model_memory, suggestions
from glmbot.models.catalogue import CATALOGUE
from glmbot.models.hub import pull_model
from glmbot.models.registry import load
from program import GLMBOT, glmbot


def pulled(name: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The hub's address is read when its library is imported."""
    return subprocess.run(
        [GLMBOT, "pull", name],
        cwd=cwd,
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_that_a_model_needs_is_pulled_and_no_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    published = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "tokenizer.model", "ice_text.model", "merges.txt", "model-00001-of-00002.safetensors",
        "model.safetensors.index.json", "pytorch_model-00001-of-00008.bin",
    ]  # fmt: skip
    others = [
        "modeling_chatglm.py",
        "quantization.py",
        "onnx/model.onnx",
        "original/params.json",
        "m.gguf",
        "tf_model.h5",
    ]

    def snapshot(
        repository: str, local_dir: Path, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> None:
        kept = filter_repo_objects(
            [*published, *others], allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
        )
        assert list(kept) == published
        local_dir.mkdir()
        (local_dir / "config.json").touch()

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert pull_model("owner/name", tmp_path / "name") == tmp_path / "name"


def test_the_whole_catalogue_is_listed_with_its_memory(tmp_path: Path) -> None:
    done = glmbot("models", cwd=tmp_path, COLUMNS="120")
    assert done.returncode == 0, done.stderr
    for model in CATALOGUE:
        assert model.repository in done.stdout
    assert "int4" in done.stdout
    assert "THUDM/GLM-130B at int4, shared by 8 cards of 11 GB: weights 8.4" in done.stdout
    assert "glmbot pull Qwen/Qwen2.5-" in done.stdout


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("chatglm-6b", 6.71e9),
        ("chatglm2-6b", 6.24e9),
        ("chatglm3-6b", 6.24e9),
        ("glm-4-9b-chat-hf", 9.40e9),
        ("glm-10b", 9.88e9),
        ("GLM-130B", 128.7e9),
        ("Qwen2.5-0.5B-Instruct", 0.494e9),
        ("Qwen2.5-1.5B-Instruct", 1.54e9),
        ("Qwen2.5-3B-Instruct", 3.09e9),
        ("Qwen3-4B-Instruct-2507", 4.02e9),
        ("SmolLM2-1.7B-Instruct", 1.71e9),
    ],
)
def test_published_models_have_their_published_size(name: str, parameters: float) -> None:
    """ChatGLM-6B's is 6.2 billion with the output head counted as the embeddings that it shares values with."""
    model = next(each for each in CATALOGUE if each.repository.endswith(f"/{name}"))
    module, _ = model.open()
    assert sum(each.numel() for each in module.parameters()) == pytest.approx(parameters, rel=0.01)


@pytest.mark.parametrize(
    ("gigabytes", "suggested"),
    [
        (0.3, []),
        (3, ["SmolLM2-1.7B-Instruct int4", "Qwen2.5-1.5B-Instruct int4", "Qwen2.5-0.5B-Instruct bf16"]),
        (24, ["Qwen3-4B-Instruct-2507 bf16", "Qwen2.5-3B-Instruct bf16", "SmolLM2-1.7B-Instruct bf16"]),
    ],
)
def test_everyday_models_are_suggested_by_what_is_free(gigabytes: float, suggested: list[str]) -> None:
    found = suggestions(model_memory(2048), int(gigabytes * 1e9))
    assert [f"{row.name.rpartition('/')[2]} {precision}" for row, precision in found] == suggested


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.BF16, Precision.INT8, Precision.INT4])
def test_what_is_expected_is_what_loading_takes(precision: Precision, tmp_path: Path) -> None:
    folder = write_chatglm_folder(
        tmp_path / "m", "chatglm2-6b", hidden_size=256, ffn_hidden_size=512, kv_channels=64
    )
    model = load(folder, "sdpa")
    expected = expected_weight_bytes(model.module, precision)
    fill(model.module, model.checkpoint, precision, Placement(torch.device("cpu")))
    assert weight_bytes(model.module) == pytest.approx(expected, rel=0.03)


def test_a_folder_of_ones_own_is_counted(tmp_path: Path) -> None:
    folder = write_chatglm_folder(tmp_path / "mine", "chatglm-6b")
    (row,) = model_memory(1000, folder)
    assert row.name == "mine"
    assert row.needs["int4"] < row.needs["int8"] < row.needs["bf16"] < row.needs["fp32"]


def test_without_a_network_pull_says_what_to_do(tmp_path: Path) -> None:
    done = pulled("zai-org/chatglm3-6b", tmp_path)
    assert done.returncode == 1
    assert "can't be reached" in done.stderr
    assert "[model] path" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_no_models_name_is_refused(tmp_path: Path) -> None:
    done = glmbot("pull", "a/b/c", cwd=tmp_path)
    assert done.returncode == 1
    assert "owner/name" in done.stderr


def test_glm_130b_at_int4_fits_the_cards_that_it_was_published_for() -> None:
    """Against the sums of its published shape: 126.84 billion weights in the blocks, 1.85 in the embedding."""
    four, eight = memory_of_cards(2048)
    assert (four.cards, four.card_gib, eight.cards, eight.card_gib) == (4, 24, 8, 11)
    for shared, weights, cache in ((four, 16.8e9, 1.76e9), (eight, 8.4e9, 0.88e9)):
        assert shared.weights == pytest.approx(weights, rel=0.01)
        assert shared.cache == pytest.approx(cache, rel=0.01)
        # One layer is widened at a time.
        assert shared.working == 5 * 2 * 32768 * 12288 // shared.cards
        assert shared.need < 0.9 * shared.room
    # Two cards fewer would not do.
    assert four.need * 4 / 2 > four.room
    assert eight.need * 8 / 6 > eight.room
