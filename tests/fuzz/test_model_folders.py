"""Whatever lies in a model folder, it is opened, or refused in words that name it, in bounded time."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatglm_folder import write_chatglm_folder
from fuzz.inputs import changed, fuzz, nasty_text
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import EngineError, GlmbotError
from tiny_model import write_tiny_model

LONGEST_S = 30
KINDS = ("llama", "chatglm-6b", "chatglm3-6b")
PRECISIONS = st.sampled_from([None, Precision.FP32, Precision.INT4])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("folders")
    return {
        "llama": write_tiny_model(base / "llama", hidden=16, heads=2, kv_heads=1, layers=1),
        "chatglm-6b": write_chatglm_folder(base / "chatglm-6b", "chatglm-6b"),
        "chatglm3-6b": write_chatglm_folder(base / "chatglm3-6b", "chatglm3-6b"),
    }


@contextmanager
def bounded(seconds: int) -> Generator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(draw: st.DrawFn, folder: Path) -> str:
    """Change one file of the folder. Returns what was done."""
    files = sorted(file.name for file in folder.iterdir() if file.is_file())
    small = [name for name in files if name.endswith(".json") and (folder / name).stat().st_size < 4000]
    name = draw(st.sampled_from([*["config.json"] * 6, *small * 3, *files]))
    file = folder / name
    content = file.read_bytes()
    way = draw(
        st.sampled_from(["fields", "fields", "fields", "bytes", "cut", "gone", "text", "empty", "folder"])
    )
    if way == "fields" and name in small:
        file.write_text(json.dumps(draw(changed([json.loads(content)]))), "utf-8")
    elif way == "cut":
        file.write_bytes(content[: draw(st.integers(0, len(content)))])
    elif way == "gone":
        file.unlink()
    elif way == "text":
        file.write_text(draw(nasty_text), "utf-8")
    elif way == "empty":
        file.write_bytes(b"")
    elif way == "folder":
        file.unlink()
        file.mkdir()
    else:
        broken = bytearray(content)
        for _ in range(draw(st.integers(1, 4))):
            # The beginnings of weight files say what lies where.
            place = (
                draw(st.integers(0, min(len(broken), 2000) - 1) | st.integers(0, len(broken) - 1))
                if broken
                else 0
            )
            broken[place : place + 1] = draw(st.binary(max_size=3))
        file.write_bytes(broken)
    return f"{way} of {name}"


@pytest.mark.timeout(7200)
@fuzz
@given(data=st.data())
async def test_any_folder_is_opened_or_refused_in_words(
    folders: dict[str, Path], tmp_path: Path, data: Any
) -> None:
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(folders[data.draw(st.sampled_from(KINDS))], folder)
    done = damage(data.draw, folder)
    settings = LocalEngineSettings(
        folder, precision=data.draw(PRECISIONS), cache_tokens=256, context_length=256, threads=1
    )
    words = str(folder)
    with bounded(LONGEST_S):
        try:
            engine = await LocalEngine.start(settings)
        except GlmbotError as error:
            words = str(error)
        else:
            try:
                prompt = engine.chat_format.encode_chat("", [], "hi")
                async for _ in engine.generate(prompt, Sampling(max_tokens=2, temperature=0), user="ann"):
                    pass
            except (EngineError, ValueError) as error:
                # It can be opened, and does not compute.
                words = f"{folder}: {error}"
            finally:
                await engine.close()
    assert words.strip(), done
    assert "Traceback" not in words
    assert len(words) < 5000
