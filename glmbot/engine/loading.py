"""From an engine's settings to a model that is ready to compute, in this process or shared with others."""

from __future__ import annotations

from collections.abc import Callable

import torch

from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.cores import usable_cores
from glmbot.engine.local_settings import LocalEngineSettings
from glmbot.engine.placement import parse_devices, place, shared_devices, shared_placement
from glmbot.engine.precision import chosen_precision
from glmbot.engine.runner import LEAST_CACHE_TOKENS, ModelRunner
from glmbot.engine.workers import PartSource, Workers
from glmbot.models.registry import load, opening

__all__ = ["load_runner"]


def load_runner(
    settings: LocalEngineSettings, on_lost: Callable[[], None], on_progress: Callable[[float], None]
) -> ModelRunner:
    """on_lost: called in another thread when a process that shares the model has ended.

    Raises ModelFileError, ConfigError, PrecisionError and WorkersLost.
    """
    devices = parse_devices(settings.device)
    processes = settings.tensor_parallel
    threads = settings.threads or min(torch.get_num_threads(), usable_cores())
    if processes > 1:
        devices = shared_devices(devices, processes)
        # Those on one CPU share its cores.
        threads = max(1, threads // processes) if devices[0].type == "cpu" else threads
    torch.set_num_threads(threads)
    register_attention()
    model = load(
        settings.folder,
        ATTENTION_NAME,
        settings.prefix_folder,
        settings.chat_format,
        thinks=settings.thinks,
        adapters=settings.adapters,
    )
    with opening(settings.folder):
        precision = chosen_precision(settings.precision, model.module, model.checkpoint, devices[0])
        workers: Workers | None = None
        if processes > 1:
            source = PartSource(
                settings.folder,
                settings.prefix_folder,
                settings.chat_format,
                settings.adapters,
                threads=threads,
            )
            placement = shared_placement(model, devices[0], 0, processes)
            workers = Workers(source, devices, on_lost=on_lost)
        else:
            cached = settings.cache_tokens or LEAST_CACHE_TOKENS
            placement = place(model.module, model.shape, devices, precision, cached, plain=settings.gpu_plain)
        return ModelRunner(
            model,
            placement=placement,
            precision=precision,
            cache_tokens=settings.cache_tokens,
            context_length=min(settings.context_length, model.shape.positions),
            on_progress=on_progress,
            workers=workers,
        )
