"""A vectors file, its cases, and the model that they are about, opened from a checkpoint written for it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.models.base import ChatTurn, Speechless
from glmbot.models.chatglm.family import register_chatglm
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.glm130b.family import register_glm130b
from glmbot.models.registry import LoadedModel, empty_module, model_shape

__all__ = [
    "Answer",
    "Case",
    "Runs",
    "Tally",
    "Vectors",
    "parameter",
    "weights_of",
    "write_checkpoint",
    "write_config",
]

_TOLERANCE = 5e-4


@dataclass(frozen=True)
class Case:
    """One prompt, and what the published code made of it."""

    name: str
    prompt: list[int]
    greedy: list[int]
    first_logits: list[float]
    last_logits: list[float]
    position_ids: list[list[int]] | None

    @staticmethod
    def read(name: str, fields: dict[str, Any]) -> Case:
        positions = fields.get("position_ids")
        return Case(
            name,
            fields["input_ids"],
            fields["greedy"],
            fields["first_logits"],
            fields["last_logits"],
            positions if not positions or isinstance(positions[0], list) else [positions],
        )


@dataclass(frozen=True)
class Answer:
    """What we made of it: the appended ids, and the probed logits of each."""

    greedy: list[int]
    logits: list[Tensor]


class Runs:
    """What each way of running a file's prompts made of them. What the file expects has a part in it by its length
    alone, so that files which expect different things of one model need it once."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], list[Answer] | Exception] = {}

    def of(self, way: str, cases: Sequence[Case], run: Callable[[], Iterable[Answer]]) -> Sequence[Answer]:
        """Raises what the run raised."""
        asked = (way, *((tuple(case.prompt), len(case.greedy)) for case in cases))
        if asked not in self._made:
            try:
                self._made[asked] = list(run())
            except Exception as error:
                self._made[asked] = error
        made = self._made[asked]
        if isinstance(made, Exception):
            raise made
        return made


class Tally:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def count(self, name: str, complaint: str | None) -> None:
        if complaint is None:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: {complaint}")

    def attempt(self, name: str, run: Callable[[], str | None]) -> None:
        try:
            self.count(name, run())
        except Exception as error:
            self.count(name, f"{type(error).__name__}: {error}")


class Vectors:
    """The cases of one file that one model answers; its checkpoint is in `folder`."""

    def __init__(
        self,
        name: str,
        fields: dict[str, Any],
        cases: Sequence[Case],
        folder: Path,
        runs: Runs | None = None,
    ) -> None:
        """runs: of this model, where another file was about it, too."""
        self.name = name
        self.runs = runs or Runs()
        self.fields = fields
        self.cases = list(cases)
        self.probe = torch.tensor(fields["probe"])
        self.folder = folder
        register_chatglm()
        register_glm130b()
        register_attention()

    def module(self, attention: str) -> Any:
        config = AutoConfig.from_pretrained(self.folder)
        return empty_module(config, attention, self.folder / "config.json")

    def model(self) -> LoadedModel:
        module = self.module(ATTENTION_NAME)
        return LoadedModel(
            name=self.name,
            module=module,
            checkpoint=Checkpoint(self.folder),
            chat_format=_Probe(self.cases[0].prompt),
            shape=model_shape(module.config, module),
            positions=module.position_scheme,
            stop_tokens=frozenset(),
            generation_defaults={},
        )

    def judge(self, case: Case, answer: Answer) -> str | None:
        if answer.greedy != case.greedy:
            place = next(i for i, (a, b) in enumerate(zip(answer.greedy, case.greedy, strict=True)) if a != b)
            return f"greedy id {place} is {answer.greedy[place]}, expected {case.greedy[place]}"
        for name, ours, theirs in (
            ("first", answer.logits[0], case.first_logits),
            ("last", answer.logits[-1], case.last_logits),
        ):
            off = float((ours - torch.tensor(theirs)).abs().max())
            if not off <= _TOLERANCE:
                return f"{name} logits differ by {off:.2e}, allowed {_TOLERANCE:.0e}"
        return None


class _Probe(Speechless):
    """The engine asks a model without a tokenizer for the probe's prompt only."""

    def __init__(self, prompt: list[int]) -> None:
        self._prompt = prompt

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        return list(self._prompt)


def weights_of(fields: dict[str, Any]) -> dict[str, Tensor]:
    formula = fields.get("formula") or fields["model"]
    return {
        name: torch.from_numpy(parameter(name, shape, fields["seed"], formula))
        for name, shape in fields["parameters"].items()
    }


def write_config(fields: dict[str, Any], folder: Path, **changes: Any) -> None:
    kinds = {"architectures": ["ChatGLMModel"], "model_type": "chatglm"}
    if "formula" in fields:
        kinds = {"model_type": "glm130b"}
    (folder / "config.json").write_text(json.dumps({**kinds, **fields["config"], **changes}), "utf-8")


def write_checkpoint(weights: dict[str, Tensor], folder: Path) -> None:
    """The weights in the published layout: two .bin shards with their index."""
    names = list(weights)
    index: dict[str, str] = {}
    for shard, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"pytorch_model-{shard:05d}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}), "utf-8")


def parameter(name: str, shape: Sequence[int], seed: int, model: str) -> np.ndarray:
    """float32 `shape`: a weight made of its name, the seed and each element's index, as the vectors define."""
    bits = np.uint64(0xFFFFFFFF)
    size = int(np.prod(shape))
    x = np.arange(size, dtype=np.uint64) * np.uint64(2654435761)
    x = (x + np.uint64(zlib.crc32(name.encode())) + np.uint64(seed) * np.uint64(40503)) & bits
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        x ^= x >> np.uint64(shift)
        x = (x * np.uint64(factor)) & bits
    x ^= x >> np.uint64(16)
    uniform = x.astype(np.float64) / 2**32 - 0.5
    if "norm" in name and name.endswith("weight"):
        values = 1 + 0.4 * uniform
    elif name.endswith("bias"):
        values = 0.4 * uniform
    elif "embedding" in name:
        values = 2.0 * uniform
    else:
        values = uniform * (7.0 if model == "v1" else 2.4) / np.sqrt(shape[-1])
    return cast(np.ndarray, values.astype(np.float32).reshape(shape))
