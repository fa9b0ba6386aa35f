"""ChatGLM-6B with random weights, made where they are to be and without a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from glmbot.cuda.target import Card
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision
from glmbot.engine.placement import Placement, host_parts, place
from glmbot.engine.runner import ModelRunner
from glmbot.models.base import ChatTurn, Speechless
from glmbot.models.chatglm.configuration import ChatGLMConfig
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.lowering import lower_for
from glmbot.models.registry import LoadedModel, empty_module, model_shape, register_families
from glmbot.quantization.formats import Groups

__all__ = ["FULL", "SMALL", "Size", "program_on_cpu", "random_model", "random_prompt", "runner_of"]

_SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int

    def config(self) -> ChatGLMConfig:
        last = self.vocabulary
        return ChatGLMConfig(
            vocab_size=last,
            hidden_size=self.hidden,
            num_layers=self.layers,
            num_attention_heads=self.heads,
            inner_hidden_size=self.inner,
            bos_token_id=last - 524,
            eos_token_id=last - 523,
            mask_token_id=last - 528,
            gmask_token_id=last - 527,
        )


FULL = Size(4096, 28, 32, 16384, 130528)
SMALL = Size(64, 2, 4, 128, 1024)


class _Noise:
    """Numbers that every weight is a view of: what no weight has of its own takes no memory beside the model's."""

    def __init__(self, size: Size, device: torch.device) -> None:
        dice = torch.Generator(device).manual_seed(6)
        # The widest matrix is to have rows of its own, and every row a beginning of its own.
        room = max(1 << 16, min(1 << 25, size.hidden * size.inner // 2))
        self._numbers = torch.empty(room, dtype=torch.float16, device=device).normal_(generator=dice)
        self._numbers *= _SPREAD

    def weight(self, name: str, shape: torch.Size) -> Tensor:
        if len(shape) == 1:
            begin = crc32(name.encode()) % (len(self._numbers) - shape[0])
            bias = self._numbers[begin : begin + shape[0]]
            return bias + 1 if "norm" in name and name.endswith("weight") else bias
        rows, columns = shape
        apart = min(columns, (len(self._numbers) - columns) // rows)
        spare = len(self._numbers) - columns - rows * apart
        return self._numbers.as_strided((rows, columns), (apart, 1), crc32(name.encode()) % (spare + 1))


@dataclass(frozen=True, slots=True)
class _RandomTensor:
    """See `glmbot.models.weight_files.StoredTensor`."""

    name: str
    shape: torch.Size
    noise: _Noise
    files: tuple[Path, ...] = (Path("random"),)
    bits: int | None = None

    def read(self) -> Tensor:
        return self.noise.weight(self.name, self.shape)

    def groups(self) -> Groups | None:
        return None

    def release(self) -> None:
        """Nothing was mapped."""


class _Numbers(Speechless):
    """Questions are numbers that nobody wrote."""

    def __init__(self, config: ChatGLMConfig) -> None:
        self._config = config

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        return random_prompt(self._config, max(4, len(question)), seed=1)

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(0x4E00 + token % 20000) for token in tokens)

    def finish_text(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


def random_prompt(config: Any, tokens: int, seed: int) -> list[int]:
    dice = torch.Generator().manual_seed(seed)
    said = torch.randint(3, config.vocab_size - 600, (tokens - 2,), generator=dice).tolist()
    return [*said, config.gmask_token_id, config.bos_token_id]


def random_model(size: Size, device: torch.device, attention: str = ATTENTION_NAME) -> LoadedModel:
    register_attention()
    register_families()
    config = size.config()
    module: Any = empty_module(config, attention, "random")
    noise = _Noise(size, device)
    tensors = {name: _RandomTensor(name, each.shape, noise) for name, each in module.named_parameters()}
    return LoadedModel(
        name="ChatGLM-6B's shape, random weights",
        module=module,
        checkpoint=Checkpoint(Path("random"), tensors),
        chat_format=_Numbers(config),
        shape=model_shape(config, module),
        positions=module.position_scheme,
        stop_tokens=frozenset(),
        generation_defaults={},
    )


def runner_of(
    size: Size, device: torch.device, precision: Precision, cache_tokens: int, *, sparing: bool = False
) -> ModelRunner:
    """As the engine makes it. sparing: as on a card that has just room for it. A CPU that stands in for a card has
    the layers that a card has."""
    model = random_model(size, device)
    if device.type == "cpu":
        placement = Placement(device, activations=torch.float32)
    elif sparing:
        placement = Placement(device, parts=host_parts(model.module, model.shape, device))
    else:
        placement = place(model.module, model.shape, [device], precision, cache_tokens)
    runner = ModelRunner(model, placement=placement, precision=precision, cache_tokens=cache_tokens)
    program_on_cpu(runner)
    return runner


def program_on_cpu(runner: ModelRunner) -> None:
    """On a CPU in place of a card the program is computed in plain torch; the engine makes none there."""
    if runner.device.type == "cpu":
        runner.part.lowered = lower_for(Card(runner.device, torch.float32, None), runner.model.module)
