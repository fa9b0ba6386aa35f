"""Weights that others quantised, in the layouts that they publish, against arithmetic written down here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement
from glmbot.engine.precision import chosen_precision, fill
from glmbot.errors import ModelFileError
from glmbot.models.quantised.fp8 import ScaledTensor
from glmbot.models.registry import LoadedModel, load
from glmbot.models.weight_files import open_weights_file
from glmbot.native.linear import NativeLinear
from glmbot.native.weights import WeightKind
from tiny_model import write_tiny_model

CPU, TORCH = Placement(torch.device("cpu")), Placement(torch.device("cpu"), activations=torch.float32)
Tensors = dict[str, Tensor]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def words(codes: Tensor, bits: int, order: tuple[int, ...] | None = None) -> Tensor:
    """[rows, columns] of codes to int32 [rows, columns / codes of a word], one code after the other."""
    count = 32 // bits
    order = order or tuple(range(count))
    rows: list[list[int]] = []
    for row in codes.tolist():
        made: list[int] = []
        for at in range(0, len(row), count):
            word = sum(row[at + column] << bits * place for place, column in enumerate(order))
            made.append(word - (1 << 32) if word >= 1 << 31 else word)
        rows.append(made)
    return torch.tensor(rows, dtype=torch.int32)


def coded(weight: Tensor, bits: int, size: int, *, symmetric: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [in, out], zeros and scales [groups, out] of a weight [out, in]."""
    groups = weight.t().unflatten(0, (-1, size))
    most = 2**bits - 1
    if symmetric:
        scales = (groups.abs().amax(1) / (most // 2)).half()
        zeros = torch.full(scales.shape, (most + 1) // 2, dtype=torch.int64)
    else:
        scales = ((groups.amax(1) - groups.amin(1)) / (most - 1)).half()
        zeros = (-groups.amin(1) / scales.float()).round().clamp(1, most).long()
    codes = (groups / scales.float()[:, None] + zeros[:, None]).round().clamp(0, most).long()
    return codes.flatten(0, 1), zeros, scales


def gptq(bits: int, size: int, *, symmetric: bool, acts: bool = False, later: bool = False) -> Any:
    def change(stem: str, weight: Tensor) -> tuple[Tensors, Tensor]:
        inputs = weight.shape[1]
        whole = inputs if size == -1 else size
        order = (
            torch.randperm(inputs, generator=torch.Generator().manual_seed(4))
            if acts
            else torch.arange(inputs)
        )
        codes, zeros, scales = coded(weight[:, order], bits, whole, symmetric=symmetric)
        back = order.argsort()
        group_of = (torch.arange(inputs) // whole)[back]
        codes = codes[back]
        wide = (codes - zeros[group_of]).float() * scales.float()[group_of]
        stored = {
            f"{stem}qweight": words(codes.t(), bits).t().contiguous(),
            f"{stem}qzeros": words(zeros if later else zeros - 1, bits),
            f"{stem}scales": scales,
            f"{stem}g_idx": group_of.int(),
        }
        return stored, wide.t()

    said = {
        "quant_method": "gptq", "bits": bits, "group_size": size, "sym": symmetric, "desc_act": acts,
        "checkpoint_format": "gptq_v2" if later else "gptq",
    }  # fmt: skip
    return change, said


def awq(size: int) -> Any:
    def change(stem: str, weight: Tensor) -> tuple[Tensors, Tensor]:
        codes, zeros, scales = coded(weight, 4, size, symmetric=False)
        group_of = torch.arange(weight.shape[1]) // size
        wide = (codes - zeros[group_of]).float() * scales.float()[group_of]
        packed = {
            f"{stem}qweight": words(codes, 4, AWQ_ORDER),
            f"{stem}qzeros": words(zeros, 4, AWQ_ORDER),
            f"{stem}scales": scales,
        }
        return packed, wide.t()

    return change, {
        "quant_method": "awq",
        "bits": 4,
        "group_size": size,
        "zero_point": True,
        "version": "gemm",
    }


def fp8(kind: str) -> Any:
    name = "weight_scale_inv" if kind == "blocks" else "weight_scale"

    def change(stem: str, weight: Tensor) -> tuple[Tensors, Tensor]:
        out, inputs = weight.shape
        scale, spread = torch.empty(1), torch.empty(out, inputs)
        if kind == "tensor":
            scale = (weight.abs().max() / 448).reshape(1)
            spread[:] = scale
        elif kind == "rows":
            scale = weight.abs().amax(1, keepdim=True) / 448
            spread[:] = scale
        else:
            scale = torch.empty(-(-out // 48), -(-inputs // 48))
            for row in range(scale.shape[0]):
                for column in range(scale.shape[1]):
                    part = slice(48 * row, 48 * row + 48), slice(48 * column, 48 * column + 48)
                    scale[row, column] = weight[part].abs().max() / 448
                    spread[part] = scale[row, column]
        stored = (weight / spread).to(torch.float8_e4m3fn)
        parts = {f"{stem}weight": stored, f"{stem}{name}": scale, f"{stem}input_scale": torch.ones(1)}
        return parts, stored.float() * spread

    if kind == "blocks":
        return change, {"quant_method": "fp8", "weight_block_size": [48, 48]}
    return change, {"quant_method": "compressed-tensors", "format": "float-quantized"}


KINDS: dict[str, Any] = {
    "GPTQ, groups of 32": gptq(4, 32, symmetric=True),
    "GPTQ, groups of 64, asymmetric": gptq(4, 64, symmetric=False),
    "GPTQ, groups of 128": gptq(4, 128, symmetric=True),
    "GPTQ, one group, version 2": gptq(4, -1, symmetric=False, later=True),
    "GPTQ of 8 bits": gptq(8, 128, symmetric=True),
    "GPTQ in the order of activations": gptq(4, 32, symmetric=False, acts=True),
    "AWQ, groups of 128": awq(128),
    "AWQ, groups of 64": awq(64),
    "AWQ, groups of 32": awq(32),
    "FP8 in blocks": fp8("blocks"),
    "FP8 with one scale": fp8("tensor"),
    "FP8 with a scale a row": fp8("rows"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("plain") / "model", hidden=128, layers=1)


def quantised(kind: str, plain: Path, folder: Path) -> tuple[Path, Tensors]:
    """The folder, and the float weights that its tensors stand for."""
    change: Callable[[str, Tensor], tuple[Tensors, Tensor]]
    change, said = KINDS[kind]
    stored: Tensors = {}
    wide: Tensors = {}
    for name, weight in load_file(plain / "model.safetensors").items():
        if "_proj." in name:
            parts, wide[name] = change(name.removesuffix("weight"), weight.float())
            stored |= {part: tensor.contiguous() for part, tensor in parts.items()}
        else:
            stored[name] = wide[name] = weight
    folder.mkdir()
    for file in plain.glob("*.json"):
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
    for file in plain.glob("*.jinja"):
        (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": said}), "utf-8")
    return folder, wide


def filled(folder: Path, precision: Precision | None, placement: Placement) -> LoadedModel:
    model = load(folder, "sdpa")
    wanted = chosen_precision(precision, model.module, model.checkpoint, placement.device)
    fill(model.module, model.checkpoint, wanted, placement)
    return model


@torch.inference_mode()
def logits(module: Any) -> Tensor:
    return module(input_ids=torch.arange(3, 43)[None], use_cache=False).logits[0].float()


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_that_the_codes_stand_for(kind: str, plain: Path, tmp_path: Path) -> None:
    folder, wide = quantised(kind, plain, tmp_path / "model")
    model = filled(folder, Precision.FP32, TORCH)
    for name, weight in wide.items():
        torch.testing.assert_close(
            model.module.get_parameter(name).data, weight.float(), rtol=1e-6, atol=1e-7
        )
    # As they are, or code for code: only activations are rounded, and FP8 is widened.
    expected = logits(model.module)
    own = filled(folder, None, CPU).module
    layer: Any = own.get_submodule("model.layers.0.mlp.up_proj")
    if isinstance(layer, NativeLinear):
        finer = kind.startswith("FP8") or "8 bits" in kind or "order" in kind
        kinds = {WeightKind.BFLOAT16, WeightKind.INT8} if finer else {WeightKind.INT4}
        assert layer.kind in kinds
    likeness = torch.cosine_similarity(logits(own), expected, dim=-1)
    assert likeness.min() > 0.995


def broken(plain: Path, tmp_path: Path, kind: str, change: Callable[[Tensors], None]) -> str:
    folder, _ = quantised(kind, plain, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError) as refused:
        filled(folder, None, CPU)
    return str(refused.value)


LAYER = "model.layers.0.mlp.up_proj."


@pytest.mark.parametrize(
    ("kind", "part", "value", "told"),
    [
        ("GPTQ, groups of 32", "scales", None, "scales is missing"),
        ("AWQ, groups of 64", "qzeros", None, "qzeros is missing"),
        ("GPTQ, groups of 32", "scales", torch.full((4, 256), torch.nan).half(), "NaN or infinity"),
        ("GPTQ, groups of 32", "scales", torch.ones(4, 255).half(), "do not fit each other"),
        ("GPTQ, groups of 32", "qweight", torch.zeros(16, 256), "32-bit words"),
        ("GPTQ, groups of 32", "qweight", torch.zeros(15, 256, dtype=torch.int32), "g_idx has the shape"),
        ("GPTQ, groups of 32", "g_idx", torch.full((128,), 4, dtype=torch.int32), "g_idx names groups"),
        ("AWQ, groups of 32", "qweight", torch.zeros(125, 32, dtype=torch.int32), "no 4 groups"),
        ("AWQ, groups of 32", "qweight", torch.zeros(64, 32, dtype=torch.int32), "the model needs"),
        ("FP8 in blocks", "weight_scale_inv", None, "has no scale"),
        ("FP8 in blocks", "weight_scale_inv", torch.ones(2, 2), "scales in blocks of 48"),
        ("FP8 with one scale", "weight_scale", torch.full((1,), torch.inf), "NaN or infinity"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused_by_name(
    kind: str, part: str, value: Tensor | None, told: str, plain: Path, tmp_path: Path
) -> None:
    def change(tensors: Tensors) -> None:
        del tensors[LAYER + part]
        if value is not None:
            tensors[LAYER + part] = value

    said = broken(plain, tmp_path, kind, change)
    assert told in said
    assert "up_proj" in said


def test_a_block_larger_than_the_weight_takes_no_memory_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the sizes that the configuration says, each row of this weight would be spread over 65,536 columns."""
    weight, scale = torch.ones(40, 2).to(torch.float8_e4m3fn), torch.tensor([[2.0], [3.0]])
    save_file({"w": weight, "s": scale}, tmp_path / "x.safetensors")
    shard = open_weights_file(tmp_path / "x.safetensors")
    sizes: list[int] = []
    repeat = Tensor.repeat_interleave

    def repeated(tensor: Tensor, *given: Any) -> Tensor:
        made = repeat(tensor, *given)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(Tensor, "repeat_interleave", repeated)
    read = ScaledTensor(shard.tensor("w"), shard.tensor("s"), (32, 1 << 16)).read()
    assert read[:, 1].tolist() == [2.0] * 32 + [3.0] * 8
    assert max(sizes) <= 2 * weight.numel()
