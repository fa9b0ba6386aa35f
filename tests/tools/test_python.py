"""A model's program can calculate, and reaches nothing: each way out that is known is tried."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from pydantic_monty import Monty

from glmbot.host import Nature, ToolFailed
from glmbot_tools.python import python_tool
from glmbot_tools.python_worker import ran
from glmbot_tools.worker import Workers
from tools.fake_use import told

# {secret} is a file of ours.
ESCAPES = [
    "open('{secret}').read()",
    "open('{secret}', 'w').write('x')",
    "from pathlib import Path; Path('{secret}').read_text()",
    "from pathlib import Path; list(Path('/').iterdir())",
    "from pathlib import Path; Path('/tmp/glmbot-escape').write_text('x')",
    "import os; os.listdir('/')",
    "import os; os.system('id')",
    "import os; os.popen('id').read()",
    "import os; os.environ['GLMBOT_SECRET']",
    "import os; os.getenv('GLMBOT_SECRET')",
    "import os; os.remove('{secret}')",
    "import os; os.kill(1, 9)",
    "import os; os.fork()",
    "import socket; socket.create_connection(('127.0.0.1', 80))",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1/')",
    "import http.client",
    "import asyncio; asyncio.open_connection('127.0.0.1', 80)",
    "import subprocess; subprocess.run(['id'])",
    "import ctypes",
    "import importlib; importlib.import_module('os').system('id')",
    "import pickle",
    "import builtins",
    "import sys; sys.modules['os']",
    "import sys; sys._getframe()",
    "import glmbot",
    "import pydantic_monty",
    "__import__('os').system('id')",
    "__builtins__['open']('{secret}')",
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 0).__globals__",
    "'{{0.__class__}}'.format(1)",
    "globals()['open']",
    "eval(\"open('{secret}').read()\")",
    "exec(\"import subprocess\")",
    "try:\n    1 / 0\nexcept Exception as error:\n    error.__traceback__.tb_frame.f_globals",
    "class A:\n    pass\nA.__subclasses__()",
    "def f():\n    yield 1\nf().gi_frame.f_back",
]  # fmt: skip
GROWS = [
    "while True:\n    pass",
    "x = [0] * 10 ** 9",
    "x = 'a'\nwhile True:\n    x += x",
    "9 ** 9 ** 9",
    "def f():\n    return f()\nf()",
    "while True:\n    print('y' * 1000)",
    "'x' * 10 ** 10",
    "sorted(range(10 ** 9))",
    "import json; json.loads('[' * 10 ** 6)",
    "(" * 10_000,
    "for _ in range(100):\n    open('x')",
]  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Generator[Monty, None, None]:
    with Monty(max_processes=1, request_timeout=5.0) as made:
        yield made


def run(pool: Monty, code: str) -> dict[str, str]:
    wish: dict[str, Any] = {"code": code, "seconds": 0.3, "memory": 32_000_000, "zone": "Asia/Shanghai"}
    return ran(pool, wish)


def test_no_escape_reaches_anything(
    pool: Monty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLMBOT_SECRET", "the secret")
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    assert len(ESCAPES) >= 20
    through: list[tuple[str, dict[str, str]]] = []
    for escape in ESCAPES:
        came = run(pool, escape.format(secret=secret))
        if not came["failed"] or "the secret" in str(came):
            through.append((escape, came))
    assert through == []
    assert secret.read_text() == "the secret"
    assert not Path("/tmp/glmbot-escape").exists()
    assert "uid=" not in capfd.readouterr().out


@pytest.mark.parametrize("code", GROWS)
def test_what_grows_or_does_not_end_is_ended(pool: Monty, code: str) -> None:
    started = time.monotonic()
    came = run(pool, code)
    assert came["failed"]
    assert len(came["printed"]) <= 20_000
    assert time.monotonic() - started < 10
    assert run(pool, "1 + 1")["value"] == "2"


async def test_the_tool_tells_what_was_printed_and_what_went_wrong() -> None:
    tool = python_tool(Workers(), 2.0, 64_000_000)
    assert tool.nature is Nature.PURE
    said = await told(
        tool, code="import math\nprint('hello')\nfor i in range(2):\n    print(i)\nmath.factorial(10)"
    )
    assert said == "hello\n0\n1\n3628800"
    with pytest.raises(ToolFailed, match=r"(?s)before.*ZeroDivisionError"):
        await told(tool, code="print('before')\n1 / 0")
    with pytest.raises(ToolFailed, match="1 to 20,000 characters"):
        await told(tool, code=" ")
