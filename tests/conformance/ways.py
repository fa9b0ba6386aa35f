"""The ways in which a model answers the cases of a vectors file."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import torch
from transformers import DynamicCache
from vectors_file import Answer, Case, Tally, Vectors

from glmbot.engine.base import Precision, Sampling
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Scheduler
from glmbot.engine.scheduler import Sequence as EngineSequence
from glmbot.models.checkpoint import Checkpoint

__all__ = ["TORCH", "check_engine", "check_ways", "serve"]

# Quantised products in float32, as the vectors have them; and what an operator on a CPU gets: native programs.
TORCH = Placement(torch.device("cpu"), activations=torch.float32)
NATIVE = Placement(torch.device("cpu"))


def check_ways(vectors: Vectors, tally: Tally) -> None:
    """The file's own cases in float32."""
    check_positions(vectors, tally)
    check_transformers(vectors, tally)
    check_engine(vectors, vectors.cases, Precision.FP32, "", tally)
    check_engine(vectors, vectors.cases, Precision.FP32, "native ", tally, NATIVE)


def check_positions(vectors: Vectors, tally: Tally) -> None:
    scheme = vectors.module("sdpa").position_scheme
    for case in vectors.cases:
        if case.position_ids is not None:
            ours = scheme.positions(case.prompt, 0, len(case.position_ids[0]))
            tally.count(
                f"{vectors.name} {case.name} positions",
                None if ours == case.position_ids else "position ids differ",
            )


def check_transformers(vectors: Vectors, tally: Tally) -> None:
    @functools.cache
    def module() -> Any:
        made = vectors.module("sdpa")
        fill(made, Checkpoint(vectors.folder), Precision.FP32, TORCH)
        return made

    def decoded(cases: Sequence[Case], side: str) -> Sequence[Answer]:
        return vectors.runs.of(side, cases, lambda: decode_padded(vectors, module(), cases, side))

    for case in vectors.cases:
        tally.attempt(
            f"{vectors.name} {case.name} transformers",
            lambda case=case: vectors.judge(case, decoded([case], "left")[0]),
        )
    for side in ("left", "right"):
        answers: Sequence[Answer] = []
        try:
            answers = decoded(vectors.cases, side)
        except Exception as error:
            tally.count(f"{vectors.name} {side}", f"{type(error).__name__}: {error}")
        for case, answer in zip(vectors.cases, answers, strict=False):
            tally.count(f"{vectors.name} {case.name} {side}", vectors.judge(case, answer))


@torch.inference_mode()
def decode_padded(vectors: Vectors, module: Any, cases: Sequence[Case], side: str) -> list[Answer]:
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


def check_engine(
    vectors: Vectors,
    cases: Sequence[Case],
    precision: Precision,
    prefix: str,
    tally: Tally,
    placement: Placement = TORCH,
) -> None:
    room = 4 * sum(len(case.prompt) + len(case.greedy) for case in (*vectors.cases, *cases))

    @functools.cache
    def runner() -> ModelRunner:
        return ModelRunner(vectors.model(), placement=placement, precision=precision, cache_tokens=room)

    def served(cases: Sequence[Case], every: int) -> Sequence[Answer]:
        way = f"{prefix}served every {every}"
        return vectors.runs.of(way, cases, lambda: serve(vectors, runner(), cases, every=every))

    for case in cases:
        tally.attempt(
            f"{vectors.name} {case.name} {prefix}alone",
            lambda case=case: vectors.judge(case, served([case], 1)[0]),
        )
    crowd = list(cases) if len(cases) > 1 else [*cases, *vectors.cases]
    for every, order in ((1, 1), (3, 1), (3, -1)):
        way = f"{prefix}batched, one joining every {every} steps, {'first' if order > 0 else 'last'} first"
        answers: dict[str, Answer] = {}
        arranged = crowd[::order]
        try:
            for case, answer in zip(arranged, served(arranged, every), strict=True):
                answers[case.name] = answer
        except Exception as error:
            tally.count(f"{vectors.name} {way}", f"{type(error).__name__}: {error}")
        for case in cases:
            if case.name in answers:
                tally.count(f"{vectors.name} {case.name} {way}", vectors.judge(case, answers[case.name]))


def serve(vectors: Vectors, runner: ModelRunner, cases: Sequence[Case], *, every: int) -> Iterator[Answer]:
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
