"""The worst values in every field of a model folder's files: opened, or refused in words, while another model answers."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from chatglm_folder import write_chatglm_folder
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import EngineError, GlmbotError
from robustness.values import WORST, cases, some
from robustness.watch import Watch, watching
from tiny_model import write_tiny_model

_LONGEST_S = 90.0
_SPOKEN = 10
# A folder is read by libraries that take a huge file in as it is; so huge values are left to whoever chose the folder.
_VALUES = [name for name in WORST if "huge" not in name]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("folders")
    return {
        "llama": write_tiny_model(base / "llama", hidden=16, heads=2, kv_heads=1, layers=1),
        "chatglm": write_chatglm_folder(base / "chatglm", "chatglm3-6b"),
    }


def somebody_else(engine: LocalEngine) -> Callable[[], Any]:
    async def answered() -> None:
        prompt = engine.chat_format.encode_chat("", [], "hello")
        last = None
        sampling = Sampling(max_tokens=_SPOKEN, temperature=0)
        async with aclosing(engine.generate(prompt, sampling, user="ann", deadline_s=60)) as answer:
            async for last in answer:
                pass
        assert last is not None
        assert last.completion_tokens == _SPOKEN

    return answered


async def opened(watch: Watch, folder: Path, name: str) -> None:
    settings = LocalEngineSettings(
        folder, precision=Precision.FP32, cache_tokens=256, context_length=256, threads=1
    )
    with watch.trying(name):
        words = str(folder)
        try:
            async with asyncio.timeout(_LONGEST_S):
                engine = await LocalEngine.start(settings)
                try:
                    prompt = engine.chat_format.encode_chat("", [], "hi")
                    async for _ in engine.generate(prompt, Sampling(max_tokens=2, temperature=0), user="bob"):
                        pass
                except (EngineError, ValueError) as error:
                    # It can be opened, and does not compute.
                    words = str(error)
                finally:
                    await engine.close()
        except GlmbotError as error:
            words = str(error)
        except TimeoutError:
            watch.blame("still at it")
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a library's panic is none of Python's own exceptions
            watch.blame(f"{type(error).__name__}: {str(error)[:500]}")
        if not words.strip() or "Traceback" in words or len(words) > 5_000:
            watch.blame(f"words: {words[:500]}")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["llama", "chatglm"])
async def test_the_worst_folders_harm_no_other_model(
    engine: LocalEngine, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    files = sorted(file.name for file in folders[kind].glob("*.json"))
    assert "config.json" in files
    async with watching(somebody_else(engine)) as watch:
        for name in files:
            for case in some(cases(json.loads((folders[kind] / name).read_text("utf-8")), _VALUES), 12):
                folder = tmp_path / "model"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(folders[kind], folder)
                (folder / name).write_text(case.text, "utf-8", "surrogatepass")
                await opened(watch, folder, f"{name}: {case}")
