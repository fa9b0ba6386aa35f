"""Wrong and corrupt model folders get an error that names file and tensor."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import ModelFileError

WEIGHTS = "model.safetensors"
FIRST = "model.layers.0.self_attn.q_proj.weight"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{not json")


def unknown_architecture(folder: Path) -> None:
    remote = {"AutoModelForCausalLM": "modeling_chatglm.ChatGLMForConditionalGeneration"}
    (folder / "config.json").write_text(json.dumps({"model_type": "chatglm-next", "auto_map": remote}))
    (folder / "modeling_chatglm.py").write_text("print('code ran')")


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def rubbish(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x00" * 1000)


def missing_tensor(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop(FIRST))


def wrong_shape(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({FIRST: torch.zeros(3, 3)}))


def missing_shard(folder: Path) -> None:
    names = list(load_file(folder / WEIGHTS))
    (folder / WEIGHTS).unlink()
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def code_in_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("code ran",)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil()}))


def wrong_tokenizer(folder: Path) -> None:
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "vocab_size": 100}))


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (no_config, "config.json: missing"),
        (broken_config, "config.json: not readable as JSON"),
        (unknown_architecture, "config.json: the architecture .* never run"),
        (no_weights, "no weights here"),
        (truncated, WEIGHTS),
        (rubbish, WEIGHTS),
        (missing_tensor, FIRST),
        (wrong_shape, rf"{WEIGHTS}: tensor {FIRST} has shape \[3, 3\], the model needs \[64, 64\]"),
        (missing_shard, "model-00001-of-00002.safetensors: this shard is missing"),
        (code_in_pickle, "pytorch_model.bin"),
        (wrong_tokenizer, "do not belong together"),
        (no_tokenizer, "tokenizer"),
    ],
)
async def test_a_damaged_folder_is_refused_with_the_file_and_the_reason(
    tiny_model: Path,
    tmp_path: Path,
    damage: Callable[[Path], None],
    names: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    damage(folder)
    with pytest.raises(ModelFileError, match=names) as caught:
        await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.FP32))
    assert str(folder) in str(caught.value) or damage is missing_tensor
    assert "code ran" not in capsys.readouterr().out


async def test_a_folder_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="glmbot pull"):
        await LocalEngine.start(LocalEngineSettings(tmp_path / "nothing"))


async def test_shards_of_pickled_tensors_load_like_safetensors(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    one = await LocalEngine.start(LocalEngineSettings(tiny_model, precision=Precision.FP32))
    other = await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.FP32))
    for (name, expected), (_, got) in zip(
        one.thread.model.module.named_parameters(), other.thread.model.module.named_parameters(), strict=True
    ):
        assert torch.equal(expected, got), name
    await one.close()
    await other.close()
