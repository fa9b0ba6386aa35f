"""LoRA adapters as PEFT saves them, merged while a model is loaded, against arithmetic written down here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.errors import ModelFileError
from glmbot.models.registry import LoadedModel, load
from tiny_model import write_tiny_model

TORCH = Placement(torch.device("cpu"), activations=torch.float32)
QUERY, HEAD = "model.layers.0.self_attn.q_proj", "lm_head"
PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model")


def write_adapter(folder: Path, tensors: dict[str, Tensor], **fields: Any) -> Path:
    folder.mkdir()
    said = {
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "tiny/base",
        "target_modules": ["q_proj"], **fields,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(said), "utf-8")
    save_file(
        {f"{PREFIX}{name}": tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors"
    )
    return folder


def pair(module: str, *, rank: int = 4, seed: int = 1, out: int = 64, inputs: int = 64) -> dict[str, Tensor]:
    dice = torch.Generator().manual_seed(seed)
    return {
        f"{module}.lora_A.weight": torch.randn(rank, inputs, generator=dice),
        f"{module}.lora_B.weight": torch.randn(out, rank, generator=dice),
    }


def filled(base: Path, *adapters: Path, precision: Precision = Precision.FP32) -> LoadedModel:
    model = load(base, "sdpa", adapters=adapters)
    fill(model.module, model.checkpoint, precision, TORCH)
    return model


def product(tensors: dict[str, Tensor], module: str) -> Tensor:
    return tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({}, 8 / 4),
        ({"use_rslora": True}, 8 / 2),
        ({"alpha_pattern": {"q_proj": 6}}, 6 / 4),
        ({"alpha_pattern": {"layers.0.self_attn.q_proj": 6, "v_proj": 3}}, 6 / 4),
    ],
)
def test_a_weight_becomes_the_sum(fields: dict[str, Any], scale: float, base: Path, tmp_path: Path) -> None:
    tensors = pair(QUERY)
    merged = filled(base, write_adapter(tmp_path / "a", tensors, **fields)).module
    plain = load_file(base / "model.safetensors")
    expected = plain[f"{QUERY}.weight"] + scale * product(tensors, QUERY)
    torch.testing.assert_close(merged.get_parameter(f"{QUERY}.weight").data, expected)
    untouched = "model.layers.1.self_attn.q_proj.weight"
    torch.testing.assert_close(merged.get_parameter(untouched).data, plain[untouched])


def test_several_add_up_and_whole_modules_take_the_place(base: Path, tmp_path: Path) -> None:
    plain = load_file(base / "model.safetensors")
    head, down = torch.randn_like(plain[f"{HEAD}.weight"]), "model.layers.1.mlp.down_proj"
    first = pair(QUERY) | {f"{HEAD}.weight": head}
    second = pair(QUERY, rank=2, seed=5) | pair(down, seed=6, rank=2, inputs=128)
    merged = filled(
        base, write_adapter(tmp_path / "a", first), write_adapter(tmp_path / "b", second, r=2)
    ).module
    expected = plain[f"{QUERY}.weight"] + 2 * product(first, QUERY) + 4 * product(second, QUERY)
    torch.testing.assert_close(merged.get_parameter(f"{QUERY}.weight").data, expected)
    torch.testing.assert_close(merged.get_parameter(f"{HEAD}.weight").data, head)
    torch.testing.assert_close(
        merged.get_parameter(f"{down}.weight").data, plain[f"{down}.weight"] + 4 * product(second, down)
    )


@pytest.mark.parametrize(
    ("tensors", "fields", "told"),
    [
        (pair("model.layers.9.self_attn.q_proj"), {}, "layers.9.self_attn.q_proj.lora_A.weight is for a part"),
        (pair(QUERY, inputs=32), {}, "A [4, 32] and B [64, 4] for weights of [64, 64]; the adapter was made for tiny/base"),
        ({f"{QUERY}.lora_B.weight": torch.ones(64, 4)}, {}, "stands alone"),
        ({f"{QUERY}.lora_A.weight": torch.ones(4, 64)}, {}, "lora_B.weight is missing"),
        ({f"{HEAD}.weight": torch.ones(3, 64)}, {}, "has shape [3, 64]"),
        ({}, {}, "holds no weights"),
        (pair(QUERY), {"use_dora": True}, "use_dora is set"),
        (pair(QUERY), {"peft_type": "IA3"}, "peft_type is 'IA3'"),
        (pair(QUERY), {"lora_alpha": None}, "lora_alpha is 'None'"),
        (pair(QUERY), {"alpha_pattern": {"(a+)+": 1}}, "is an expression"),
        (pair(QUERY) | {f"{QUERY}.lora_magnitude_vector": torch.ones(64)}, {}, "lora_magnitude_vector is for a part"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(
    tensors: dict[str, Tensor], fields: dict[str, Any], told: str, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError) as refused:
        load(base, "sdpa", adapters=[write_adapter(tmp_path / "a", tensors, **fields)])
    assert told in str(refused.value)


def test_a_folder_without_an_adapter_is_said_to_be_so(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"adapter_config\.json: missing"):
        load(base, "sdpa", adapters=[tmp_path])
