"""Holds glmbot's ChatGLM classes and engine against vectors files: python tests/conformance/check.py FILE…

Each file holds what the published code computed on a small model whose weights are a formula. The weights are
written as a checkpoint in the published layout (two shards), and every case is run in these ways:

  transformers   the model alone, one token at a time, with Transformers' own cache
  left, right    the file's prompts padded into one batch, at either side, by Transformers' cache and masks
  alone          through the shared engine's scheduler, runner and cache, one by one
  batched        all cases at once in the engine, joining in different steps, beside those in mid-decode
  native         both again in the engine's native programs (float32), where there is a C++ compiler
  int8, int4     the quantised cases, alone and beside the file's other prompts; weights as published

Prints one line for each failure, and `N passed, N failed` last; ends with 1 when anything failed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, DynamicCache

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Scheduler
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.models.base import ChatTurn
from glmbot.models.chatglm.family import register_chatglm
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.registry import LoadedModel, empty_module, model_shape
from glmbot.quantization.formats import pack_nibbles, quantize_rows

_TOLERANCE = 5e-4
# Quantised products in float32, as the vectors have them; and what an operator on a CPU gets: native programs.
_TORCH = Placement(torch.device("cpu"), activations=torch.float32)
_NATIVE = Placement(torch.device("cpu"))


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
        return Case(
            name,
            fields["input_ids"],
            fields["greedy"],
            fields["first_logits"],
            fields["last_logits"],
            fields.get("position_ids"),
        )


@dataclass(frozen=True)
class Answer:
    """What we made of it: the appended ids, and the probed logits of each."""

    greedy: list[int]
    logits: list[Tensor]


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
    """One file, with its model opened from a checkpoint written for it."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.fields = json.loads(file.read_text("utf-8"))
        self.name = file.name
        self.probe = torch.tensor(self.fields["probe"])
        self.cases = [Case.read(f"case {n}", case) for n, case in enumerate(self.fields["cases"])]
        self.folder = folder
        self.weights = write_checkpoint(self.fields, folder)
        register_chatglm()
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


class _Probe:
    """A chat format for a model without a tokenizer: the engine asks it for the probe's prompt only."""

    def __init__(self, prompt: list[int]) -> None:
        self._prompt = prompt

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        return list(self._prompt)

    def encode_text(self, text: str) -> list[int]:
        return list(self._prompt)

    def encode_begun(self, answer: str) -> list[int]:
        return list(self._prompt)

    def decode(self, tokens: Sequence[int]) -> str:
        return ""

    def finish_text(self, text: str) -> str:
        return text

    def settled(self, text: str) -> int:
        return len(text)


def check(file: Path, tally: Tally) -> None:
    with tempfile.TemporaryDirectory() as folder:
        vectors = Vectors(file, Path(folder))
        _check_positions(vectors, tally)
        _check_transformers(vectors, tally)
        _check_engine(vectors, vectors.cases, Precision.FP32, "", tally)
        _check_engine(vectors, vectors.cases, Precision.FP32, "native ", tally, _NATIVE)
        for bits, fields in vectors.fields.get("quantized", {}).items():
            precision = {"8": Precision.INT8, "4": Precision.INT4}[bits]
            case = Case.read(f"int{bits}", fields["case"])
            tally.attempt(
                f"{vectors.name} int{bits} example",
                lambda bits=bits, fields=fields: _check_example(vectors, int(bits), fields["example"]),
            )
            _check_engine(vectors, [case], precision, f"int{bits} ", tally)


def _check_positions(vectors: Vectors, tally: Tally) -> None:
    scheme = vectors.module("sdpa").position_scheme
    for case in vectors.cases:
        if case.position_ids is not None:
            ours = scheme.positions(case.prompt, 0, len(case.prompt))
            tally.count(
                f"{vectors.name} {case.name} positions",
                None if ours == case.position_ids else "position ids differ",
            )


def _check_transformers(vectors: Vectors, tally: Tally) -> None:
    module = vectors.module("sdpa")
    fill(module, Checkpoint(vectors.folder), Precision.FP32, _TORCH)
    for case in vectors.cases:
        tally.attempt(
            f"{vectors.name} {case.name} transformers",
            lambda case=case: vectors.judge(case, _decode_padded(vectors, module, [case], "left")[0]),
        )
    for side in ("left", "right"):
        answers: list[Answer] = []
        try:
            answers = _decode_padded(vectors, module, vectors.cases, side)
        except Exception as error:
            tally.count(f"{vectors.name} {side}", f"{type(error).__name__}: {error}")
        for case, answer in zip(vectors.cases, answers, strict=False):
            tally.count(f"{vectors.name} {case.name} {side}", vectors.judge(case, answer))


@torch.inference_mode()
def _decode_padded(vectors: Vectors, module: Any, cases: Sequence[Case], side: str) -> list[Answer]:
    """Greedy decoding of one padded batch with Transformers' DynamicCache."""
    width = max(len(case.prompt) for case in cases)
    tokens = torch.zeros(len(cases), width, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    last = torch.zeros(len(cases), dtype=torch.int64)
    for row, case in enumerate(cases):
        size = len(case.prompt)
        place = slice(width - size, width) if side == "left" else slice(0, size)
        tokens[row, place] = torch.tensor(case.prompt)
        mask[row, place] = 1
        last[row] = place.stop - 1
    cache = DynamicCache()
    out = module(input_ids=tokens, attention_mask=mask, cache=cache)
    logits = out.logits[torch.arange(len(cases)), last]
    answers = [Answer([], []) for _ in cases]
    scheme = module.position_scheme
    for step in range(max(len(case.greedy) for case in cases)):
        chosen = logits.argmax(-1)
        for row, answer in enumerate(answers):
            answer.greedy.append(int(chosen[row]))
            answer.logits.append(logits[row, vectors.probe])
        mask = torch.cat((mask, torch.ones(len(cases), 1, dtype=torch.int64)), dim=1)
        positions = torch.tensor(
            [
                scheme.positions(case.prompt, len(case.prompt) + step, len(case.prompt) + step + 1)
                for case in cases
            ]
        )
        logits = module(
            input_ids=chosen[:, None],
            attention_mask=mask,
            position_ids=positions if scheme.rows > 1 else positions[:, 0],
            cache=cache,
        ).logits[:, -1]
    return [
        Answer(answer.greedy[: len(case.greedy)], answer.logits[: len(case.greedy)])
        for case, answer in zip(cases, answers, strict=True)
    ]


def _check_engine(
    vectors: Vectors,
    cases: Sequence[Case],
    precision: Precision,
    prefix: str,
    tally: Tally,
    placement: Placement = _TORCH,
) -> None:
    model = vectors.model()
    room = 4 * sum(len(case.prompt) + len(case.greedy) for case in (*vectors.cases, *cases))
    try:
        runner = ModelRunner(model, placement=placement, precision=precision, cache_tokens=room)
    except Exception as error:
        tally.count(f"{vectors.name} {prefix}engine", f"{type(error).__name__}: {error}")
        return
    for case in cases:
        tally.attempt(
            f"{vectors.name} {case.name} {prefix}alone",
            lambda case=case: vectors.judge(case, next(_serve(vectors, runner, [case], every=1))),
        )
    crowd = list(cases) if len(cases) > 1 else [*cases, *vectors.cases]
    for every, order in ((1, 1), (3, 1), (3, -1)):
        way = f"{prefix}batched, one joining every {every} steps, {'first' if order > 0 else 'last'} first"
        answers: dict[str, Answer] = {}
        arranged = crowd[::order]
        try:
            for case, answer in zip(arranged, _serve(vectors, runner, arranged, every=every), strict=True):
                answers[case.name] = answer
        except Exception as error:
            tally.count(f"{vectors.name} {way}", f"{type(error).__name__}: {error}")
        for case in cases:
            if case.name in answers:
                tally.count(f"{vectors.name} {case.name} {way}", vectors.judge(case, answers[case.name]))


def _serve(vectors: Vectors, runner: ModelRunner, cases: Sequence[Case], *, every: int) -> Iterator[Answer]:
    """Run the cases through scheduler and runner together, one joining in every `every`th step."""
    scheduler = Scheduler(runner.allocator, max_batch=len(cases), prefill_tokens=32)
    waiting = list(enumerate(cases))
    answers = [Answer([], []) for _ in cases]
    for step in count():
        if waiting and step % every == 0:
            place, case = waiting.pop(0)
            scheduler.add(
                EngineSequence(
                    id=place,
                    user=str(place),
                    prompt_length=len(case.prompt),
                    tokens=list(case.prompt),
                    sampling=Sampling(max_tokens=len(case.greedy), temperature=0),
                    arrival=float(place),
                    whole_prefill=runner.model.positions.context_length(case.prompt) > 0,
                    prefix=runner.prefix_length,
                )
            )
        chunks = scheduler.schedule()
        if not chunks:
            if not waiting:
                break
            continue
        logits = runner.step(chunks)
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        for chunk in chunks:
            chunk.sequence.computed += chunk.length
        for sequence, row in zip(drawing, logits, strict=True):
            answer = answers[sequence.id]
            token = int(row.argmax())
            answer.greedy.append(token)
            answer.logits.append(row[vectors.probe])
            sequence.tokens.append(token)
            if sequence.drawn >= sequence.sampling.max_tokens:
                scheduler.remove(sequence)
    yield from answers


def _check_example(vectors: Vectors, bits: int, example: dict[str, Any]) -> str | None:
    """The first quantised row of the first linear."""
    name = next(name for name in vectors.weights if name.endswith("query_key_value.weight"))
    quantized, scale = quantize_rows(vectors.weights[name], bits)
    if quantized[0].tolist() != example["first_row"]:
        return "the first quantised row differs"
    if float(scale[0]) != example["first_row_scale"]:
        return f"its scale is {float(scale[0])}, expected {example['first_row_scale']}"
    packed = example.get("packed_first_row")
    if packed is not None and pack_nibbles(quantized)[0].view(torch.uint8).tolist() != packed:
        return "its packed bytes differ"
    return None


def write_checkpoint(fields: dict[str, Any], folder: Path) -> dict[str, Tensor]:
    """The model of a vectors file in the published layout: config.json, and two .bin shards with their index."""
    weights = {
        name: torch.from_numpy(parameter(name, shape, fields["seed"], fields["model"]))
        for name, shape in fields["parameters"].items()
    }
    config = {"model_type": "chatglm", "architectures": ["ChatGLMModel"], **fields["config"]}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    names = list(weights)
    index: dict[str, str] = {}
    for shard, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        file = f"pytorch_model-{shard:05d}-of-00002.bin"
        torch.save({name: weights[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}), "utf-8")
    return weights


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


def main(files: Sequence[str]) -> int:
    if not files:
        print(__doc__)
        return 2
    tally = Tally()
    for file in files:
        try:
            check(Path(file), tally)
        except Exception as error:
            tally.count(file, f"{type(error).__name__}: {error}")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
