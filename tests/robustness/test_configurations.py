"""The worst values of every key of the configuration, in the file and in the environment: refused in words, or taken,
and then what is made of it works, while a bot that runs goes on."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from glmbot.app import adapter_settings, dialogue_for, open_store
from glmbot.completions import Completion
from glmbot.config.configuration import CORE_SECTIONS, Configuration
from glmbot.config.load import load_configuration
from glmbot.engines import engine_settings, engines_for, remote_settings
from glmbot.errors import GlmbotError
from glmbot.keys import UserKey
from glmbot.store.base import Store
from robustness.scripted import ScriptedEngine
from robustness.talk import talking
from robustness.values import TEXTS, WORST, sampled
from robustness.watch import Watch, watching

_LONGEST_S = 90.0
# Sizes of the model beside these stay as small as they are.
_SMALL = "[model]\npath = '{model}'\nprecision = 'fp32'\nthreads = 1\ncontext_length = 256\nmax_answer_tokens = 16\n"


class _Tried:
    def __init__(self, section: str, key: str, what: str, *, environment: bool) -> None:
        self.section, self.key, self.what, self.environment = section, key, what, environment
        self.place = f"{'environment ' if environment else ''}[{section}] {key}"

    def __str__(self) -> str:
        return f"{self.place} = {self.what}"


def sections() -> dict[str, type[BaseModel]]:
    return {**CORE_SECTIONS, **adapter_settings()}


def tried() -> list[_Tried]:
    found: list[_Tried] = []
    for section, model in sections().items():
        for key in model.model_fields:
            found += [_Tried(section, key, what, environment=False) for what in WORST]
            found += [_Tried(section, key, f"text: {what}", environment=True) for what in TEXTS]
    return found


def toml(what: str) -> str:
    """JSON as TOML, as far as it can be said there."""
    names = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf", "1e999": "inf"}
    text = str(WORST[what])
    return names.get(text, text.replace('":', '" = ') if text.startswith("{") else text)


def read(path: Path, case: _Tried, model: Path) -> Configuration:
    environment: dict[str, str] = {}
    file = _SMALL.format(model=model)
    if case.environment:
        environment[f"GLMBOT_{case.section}__{case.key}".upper()] = TEXTS[case.what.removeprefix("text: ")]
    else:
        lines = [
            line
            for line in file.splitlines()
            if not line.startswith(f"{case.key} =") or case.section != "model"
        ]
        line = f"{case.key} = {toml(case.what)}"
        lines += [line] if case.section == "model" else [f"[{case.section}]", line]
        file = "\n".join(lines)
    path.write_text(file, "utf-8", "surrogatepass")
    return load_configuration(path, adapter_settings(), environment)


async def build(configuration: Configuration, case: _Tried, store: Store) -> None:
    """What `glmbot run` would make of it, without reaching out to anybody. Raises GlmbotError."""
    engine: Any = ScriptedEngine()
    engine_settings(configuration.model)
    if configuration.remote.servers:
        remote_settings(configuration)
    if case.section == "store":
        open_store(configuration)
    if case.section == "model" and case.key != "path":
        engine = engines_for(configuration)
        await engine.start()
    try:
        dialogue = dialogue_for(configuration, store, engine)
        completion = Completion([("user", "hello")], UserKey("web", "5"), trim=True, max_tokens=2)
        async with aclosing(dialogue.complete(completion)) as replies:
            async for _ in replies:
                pass
    except ValueError as error:
        # As the HTTP interface tells it.
        raise GlmbotError(str(error)) from error
    finally:
        await engine.close()


async def settle(watch: Watch, case: _Tried, path: Path, model: Path, store: Store) -> None:
    with watch.trying(case):
        try:
            async with asyncio.timeout(_LONGEST_S):
                configuration = await asyncio.to_thread(read, path, case, model)
                await build(configuration, case, store)
        except GlmbotError as error:
            # What the operator wrote may be told again whole.
            words = str(error)
            if not words.strip() or "Traceback" in words or len(words) > 200_000:
                watch.blame(f"words: {words[:500]}")
        except TimeoutError:
            watch.blame(f"not done after {_LONGEST_S} s")
        except Exception as error:
            watch.blame(f"{type(error).__name__}: {str(error)[:500]}")


@pytest.mark.timeout(7200)
async def test_the_worst_settings_are_refused_or_taken_and_harm_nobody_who_runs(
    tmp_path: Path, tiny_model: Path, sqlite_store: Store
) -> None:
    found = tried()
    assert {case.section for case in found} == set(sections())
    async with talking(sqlite_store) as talk, watching(talk.somebody_else) as watch:
        for case in sampled(found, 200):
            await settle(watch, case, tmp_path / "config.toml", tiny_model, sqlite_store)
