"""What decoding, reading prompts and switching cost, of a runner as the engine has it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from gpu_model import random_prompt

from glmbot.cuda.program import CardProgram
from glmbot.engine.answer import Answer
from glmbot.engine.base import Sampling
from glmbot.engine.computing import Computing
from glmbot.engine.kv_cache import Arena
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Chunk, Sequence
from glmbot.engine.sizes import weight_bytes
from glmbot.native.program import Rows

__all__ = [
    "ROOM", "copy_speed", "decode", "graph_ms", "held", "plainly", "prompt_speed", "step_bytes", "wait",
]  # fmt: skip

ROOM = 96
"""New tokens that a conversation has room for."""
_WARM = 3
_MOST_STEPS = 40
_REPLAYS = 20


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_speed(device: torch.device, size: int) -> float:
    """Bytes read and written a second by copies on the device, at best."""
    source = torch.ones(size // 8, dtype=torch.int64, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(8):
        wait(device)
        began = time.perf_counter()
        target.copy_(source)
        wait(device)
        best = max(best, 2 * source.nbytes / (time.perf_counter() - began))
    return best


def step_bytes(runner: ModelRunner, people: int, tokens: int) -> int:
    """What a step of decoding must read: all weights but the table of embeddings, and the conversations' cache."""
    module: Any = runner.model.module
    shape = runner.model.shape
    each = Arena.bytes_per_token(
        layers=shape.layers, kv_heads=shape.kv_heads, head_dim=shape.head_dim, dtype=runner.part.arena.dtype
    )
    return weight_bytes(module) - module.transformer.word_embeddings.weight.nbytes + people * tokens * each


@contextmanager
def plainly(runner: ModelRunner) -> Generator[None]:
    """By torch's modules, as before there was a program for cards."""
    part = runner.part
    before = part.lowered, part.decoding
    part.lowered = part.decoding = None
    try:
        yield
    finally:
        part.lowered, part.decoding = before


class Talk:
    """Conversations that go on, a token of each at a time, as the model thread has it."""

    def __init__(self, runner: ModelRunner, sequences: list[Sequence]) -> None:
        self.sequences = sequences
        model = runner.model
        self._answers = {each.id: Answer(each, 0, model.chat_format, ()) for each in sequences}
        self._computing = Computing(runner, self._answers)

    def step(self, *, undisturbed: bool = True) -> None:
        """undisturbed: the next step may be begun before this one is read."""
        chunks = [Chunk(each, 1) for each in self.sequences]
        _, drawn = self._computing.compute(chunks, undisturbed=undisturbed)
        for sequence, ((token, _),) in zip(self.sequences, drawn, strict=True):
            if token < 0:
                raise ArithmeticError("logits hold NaN or infinity")
            sequence.computed += 1
            answer = self._answers[sequence.id]
            answer.append(token)
            answer.growing()

    def close(self) -> None:
        self._computing.close()


@contextmanager
def held(runner: ModelRunner, people: int, tokens: int) -> Generator[Talk]:
    """Conversations of so many tokens whose cache holds anything finite."""
    arena = runner.part.arena
    for tensor in (*arena.keys, *arena.values):
        tensor.normal_()
    config = runner.model.module.config
    made = [conversation(runner, number, random_prompt(config, tokens, number)) for number in range(people)]
    for sequence in made:
        sequence.started, sequence.computed = True, tokens
        sequence.tokens.append(5)
    talk = Talk(runner, made)
    try:
        yield talk
    finally:
        talk.close()
        for sequence in made:
            give_back(runner, sequence)


def conversation(runner: ModelRunner, number: int, prompt: list[int]) -> Sequence:
    sampling = Sampling(max_tokens=ROOM, temperature=0)
    made = runner.sequence(number, "bench", prompt, sampling, arrival=0.0)
    made.place = runner.allocator.take(made.reserved)
    if made.place is None:
        raise MemoryError(f"the cache of {runner.allocator.capacity} tokens is full")
    return made


def give_back(runner: ModelRunner, sequence: Sequence) -> None:
    if sequence.place is not None:
        runner.allocator.give_back(sequence.place)


@torch.inference_mode()
def decode(talk: Talk, seconds: float) -> float:
    """Milliseconds of a whole step, the median. What was begun ahead is thrown away at the end."""
    for _ in range(_WARM):
        talk.step()
    taken: list[float] = []
    room = min(_MOST_STEPS, ROOM - talk.sequences[0].drawn - 3)
    while room > len(taken) and (len(taken) < 3 or sum(taken) < seconds):
        began = time.perf_counter()
        talk.step()
        taken.append(time.perf_counter() - began)
    talk.step(undisturbed=False)
    return 1000 * statistics.median(taken)


@torch.inference_mode()
def graph_ms(runner: ModelRunner, sequences: list[Sequence]) -> float | None:
    """Milliseconds of the program alone, captured and replayed, by the card's own clock. None without a card."""
    lowered, device = runner.part.lowered, runner.device
    if lowered is None or not isinstance(lowered.program, CardProgram) or device.type != "cuda":
        return None
    program, arena = lowered.program, runner.part.arena
    begins = [0 if each.place is None else each.place.start for each in sequences]
    computed = [each.computed for each in sequences]
    places, bases, counts, drawn = (
        torch.tensor(each, dtype=torch.int32, device=device)
        for each in (
            [begin + length for begin, length in zip(begins, computed, strict=True)],
            begins,
            [length + 1 for length in computed],
            list(range(len(sequences))),
        )
    )
    positions = torch.tensor([computed, [1] * len(computed)], device=device)
    rotation = None if lowered.rotation is None else lowered.rotation(positions)
    module: Any = runner.model.module
    hidden = torch.randn(len(sequences), module.config.hidden_size, device=device)
    rows = Rows(hidden, places, bases, counts, drawn, rotation)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            program.run(rows, arena.keys, arena.values)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        program.run(rows, arena.keys, arena.values)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    begin.record()
    for _ in range(_REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / _REPLAYS


def prompt_speed(runner: ModelRunner, tokens: int, say: Callable[[str], None]) -> float:
    """Tokens a second of one prompt read in one step, at best of three after one to warm up."""
    best = 0.0
    for turn in range(4):
        sequence = conversation(runner, turn, random_prompt(runner.model.module.config, tokens, turn))
        wait(runner.device)
        began = time.perf_counter()
        runner.step([Chunk(sequence, tokens)])
        wait(runner.device)
        speed = tokens / (time.perf_counter() - began)
        best = max(best, speed) if turn else best
        give_back(runner, sequence)
    say(f"prompt of {tokens}: {best:.0f} tokens/s")
    return best
