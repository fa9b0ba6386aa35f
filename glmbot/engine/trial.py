"""Trying a model folder: loaded as it would be served, compared with its own code, and asked a little."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.cores import usable_cores
from glmbot.engine.kv_cache import Arena
from glmbot.engine.placement import parse_devices, place
from glmbot.engine.precision import available_precisions, chosen_precision
from glmbot.engine.runner import LEAST_CACHE_TOKENS, ModelRunner
from glmbot.engine.scheduler import Scheduler
from glmbot.engine.sizes import expected_weight_bytes
from glmbot.errors import PrecisionError
from glmbot.models.causal_lm import GlmCausalLM
from glmbot.models.chat_format import TemplateChatFormat
from glmbot.models.registry import LoadedModel, load, opening
from glmbot.native.library import loaded

__all__ = ["Trial", "try_model"]

_QUESTION = "The quick brown fox jumps over the lazy dog. 今天天气很好，我们去公园散步吧。"
_READ, _WRITTEN = 256, 24
_STEP_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Trial:
    name: str
    classes: str
    ours: bool
    """Whether the classes are glmbot's own, which its tests hold against published vectors. Others were compared
    with their own forward pass while they were loaded."""
    kernels: str
    """What the native program runs on; empty where torch or a card computes."""
    fast: tuple[str, ...]
    """A card's fast parts that serve this model."""
    given_up: Mapping[str, str]
    """Those that don't, and why."""
    device: str
    precision: Precision
    weights: Mapping[Precision, int]
    """Bytes at each precision that the device has."""
    cache_bytes_per_token: int
    context: int
    """Positions of the model."""
    template: str
    """"folder", "none" (lines of roles and texts), or the name of a format of glmbot's own."""
    system_role: bool
    prompt: str
    """What a first question becomes, control tokens included where they can be shown."""
    read: float
    """Tokens of a prompt a second."""
    written: float
    """Tokens of an answer a second, for one person."""


def try_model(folder: Path, *, precision: Precision | None = None) -> Trial:
    """Takes the model's time and memory. Raises ModelFileError with the reason why it can't be served, and
    PrecisionError."""
    devices = parse_devices("auto")
    if precision is not None and precision not in available_precisions(devices[0]):
        known = ", ".join(available_precisions(devices[0]))
        raise PrecisionError(f"{precision} is not available on {devices[0].type}; choose one of {known}")
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
    register_attention()
    model = load(folder, ATTENTION_NAME)
    weights = {each: expected_weight_bytes(model.module, each) for each in available_precisions(devices[0])}
    with opening(folder):
        wanted = chosen_precision(precision, model.module, model.checkpoint, devices[0])
        placement = place(model.module, model.shape, devices, wanted, LEAST_CACHE_TOKENS)
        runner = ModelRunner(model, placement=placement, precision=wanted, cache_tokens=LEAST_CACHE_TOKENS)
    read, written = _speeds(runner)
    template, system_role, prompt = _talk(model)
    kernels = loaded() if runner.native and runner.device.type == "cpu" else None
    shape = runner.model.shape
    return Trial(
        name=model.name,
        classes=type(model.module).__name__,
        ours=isinstance(model.module, GlmCausalLM),
        kernels="" if kernels is None else kernels.architecture,
        fast=runner.part.fast_parts,
        given_up={} if runner.part.fast is None else runner.part.fast.given_up,
        device=str(devices[0]),
        precision=wanted,
        weights=weights,
        cache_bytes_per_token=Arena.bytes_per_token(
            layers=shape.layers,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            dtype=placement.dtype(wanted),
        ),
        context=shape.positions,
        template=template,
        system_role=system_role,
        prompt=prompt,
        read=read,
        written=written,
    )


def _talk(model: LoadedModel) -> tuple[str, bool, str]:
    chat_format = model.chat_format
    if isinstance(chat_format, TemplateChatFormat):
        return chat_format.source, chat_format.takes_system, chat_format.shown("Hello!")
    name = type(chat_format).__name__.removesuffix("ChatFormat")
    return (
        name,
        getattr(chat_format, "takes_system", False),
        chat_format.decode(chat_format.encode_chat("", (), "Hello!")),
    )


def _speeds(runner: ModelRunner) -> tuple[float, float]:
    """Tokens a second of a prompt and of an answer."""
    model = runner.model
    tokens = model.chat_format.encode_chat("", (), _QUESTION)
    room = min(_READ, model.shape.positions // 2)
    prompt = (tokens * (room // len(tokens) + 1))[:room] if room > len(tokens) else tokens
    if model.positions.context_length(tokens) > 0:
        # Whose question has places of its own, and is no question any more when it is repeated.
        prompt = tokens
    sampling = Sampling(max_tokens=_WRITTEN, temperature=0)
    sequence = runner.sequence(1, "", prompt, sampling, arrival=0.0)
    scheduler = Scheduler(runner.allocator, max_batch=1, prefill_tokens=_STEP_TOKENS)
    scheduler.add(sequence)
    began = time.perf_counter()
    first = began
    while sequence.drawn < _WRITTEN:
        (chunk,) = scheduler.schedule()
        logits = runner.step([chunk])
        draws = chunk.draws
        sequence.computed += chunk.length
        if draws:
            sequence.tokens.append(int(logits[0].argmax()))
            if sequence.drawn == 1:
                first = time.perf_counter()
    scheduler.remove(sequence)
    return len(prompt) / (first - began), (_WRITTEN - 1) / (time.perf_counter() - first)
