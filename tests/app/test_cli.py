"""The program as a person runs it: a process, its words, its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from conftest import REPOSITORY, free_port
from platforms.telegram_server import TOKEN, TelegramServer

GLMBOT = Path(sys.executable).parent / "glmbot"


def glmbot(
    *arguments: str, cwd: Path, stdin: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GLMBOT, *arguments],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def running(*arguments: str, cwd: Path, **environment: str) -> Generator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [GLMBOT, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_page(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(f"{url}/healthz", timeout=2) as response:
                assert response.status == 200
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def stop(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr."""
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return errors


def test_once_prints_the_models_answer_and_nothing_else(demo_model: Path, tmp_path: Path) -> None:
    done = glmbot(
        "chat", "--once", "What is the capital of France?", "--model", str(demo_model), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert done.stderr == ""


def test_questions_come_through_a_pipe_a_line_each(tiny_model: Path, tmp_path: Path) -> None:
    done = glmbot(
        "chat", "--model", str(tiny_model), cwd=tmp_path, stdin="hello\n\n/whoami\nstop\nnever read\n"
    )
    assert done.returncode == 0, done.stderr
    assert "console:" in done.stdout
    assert len(done.stdout.strip().splitlines()) >= 2


def test_a_chat_in_a_terminal_streams_stops_and_ends(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[model]\npath = '{tiny_model}'\nmax_answer_tokens = 1900\n")
    # pexpect answers no cursor position requests, for which prompt_toolkit would wait.
    environment = {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1"}
    chat = pexpect.spawn(str(GLMBOT), ["chat"], cwd=str(tmp_path), env=environment, encoding="utf-8",
                         codec_errors="replace", timeout=60)  # fmt: skip
    chat.expect(">")
    chat.send("hello\r")
    chat.expect("hello")
    time.sleep(0.5)
    chat.sendintr()
    chat.expect("Stopped")
    chat.expect(">")
    chat.send("clear\r")
    chat.expect("new conversation")
    chat.send("stop\r")
    chat.expect(pexpect.EOF)
    chat.close()
    assert chat.exitstatus == 0


def test_demo_without_a_terminal_serves_its_page_and_stops_cleanly(demo_model: Path, tmp_path: Path) -> None:
    port = free_port()
    home = demo_model.parents[1]
    with running("demo", "--port", str(port), "--home", str(home), cwd=tmp_path) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_page(url, process)
        body = json.dumps(
            {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
        ).encode()
        request = urllib.request.Request(f"{url}/v1/chat/completions", body)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert "Paris" in json.load(response)["choices"][0]["message"]["content"]
        assert url in stop(process)


@pytest.mark.parametrize("seconds", [0.7, 2.0, 3.0, 4.0])
@pytest.mark.parametrize(("number", "statuses"), [(signal.SIGTERM, {0}), (signal.SIGINT, {0, 130})])
def test_a_signal_at_any_time_of_the_start_ends_it(
    demo_model: Path, tmp_path: Path, number: int, statuses: set[int], seconds: float
) -> None:
    with running("serve", "--model", str(demo_model), "--port", "0", cwd=tmp_path) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
        assert process.returncode in statuses, errors
        assert "Traceback" not in errors


def test_a_taken_port_is_one_clear_line(tiny_model: Path, tmp_path: Path) -> None:
    port = free_port()
    arguments = ("serve", "--model", str(tiny_model), "--port", str(port))
    with running(*arguments, cwd=tmp_path) as first:
        wait_for_page(f"http://127.0.0.1:{port}", first)
        second = glmbot(*arguments, cwd=tmp_path)
        assert second.returncode == 1
        assert f"127.0.0.1:{port} can't be listened on" in second.stderr
        assert "Traceback" not in second.stderr
        stop(first)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[web]\nprot = 1\n", r"line 2: \[web\] has no key 'prot'; did you mean 'port'"),
        ("[telegram]\n[model]\npath = '{model}'\n", "no token; set GLMBOT_TELEGRAM__TOKEN"),
        ("[web]\n[model]\npath = 'nowhere'\n", "there is no such model folder"),
        ("[web]\n[store]\nkind = 'redis'\nurl = 'redis://127.0.0.1:9/0'\n", "redis at 127.0.0.1:9"),
        ("[model]\npath = '{model}'\n", "no platform is configured"),
        ("[web]\nhost = '0.0.0.0'\n[model]\npath = '{model}'\n", "set token"),
        ("[web]\n[model]\npath = '{model}'\nmax_answer_tokens = 4000\n", "max_answer_tokens"),
        (
            "[web]\n[model]\npath = '{model}'\nprecision = 'fp16'\ndevice = 'cpu'\n",
            "fp16 is not available on cpu",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_paragraph(
    tiny_model: Path, tmp_path: Path, text: str, complaint: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text.format(model=tiny_model))
    done = glmbot("run", "--config", str(config), cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(complaint, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_check_and_doctor_say_what_is_in_order_and_what_is_not(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[telegram]\n[web]\n[model]\npath = '{tiny_model}'\n")
    assert glmbot("check", str(config), cwd=tmp_path).returncode == 0
    sick = glmbot("doctor", "--config", str(config), cwd=tmp_path)
    assert sick.returncode == 1
    assert "FAIL telegram: no token" in sick.stderr
    assert "FAIL access: nobody may talk on telegram" in sick.stderr
    assert "ok   memory" in sick.stderr
    config.write_text(f"[telegram]\n[access]\nadmins = ['telegram:1']\n[model]\npath = '{tiny_model}'\n")
    well = glmbot("doctor", "--config", str(config), cwd=tmp_path, GLMBOT_TELEGRAM__TOKEN=TOKEN)
    assert well.returncode == 0, well.stderr
    assert TOKEN not in well.stderr


def test_init_asks_and_writes(tmp_path: Path) -> None:
    done = glmbot("init", cwd=tmp_path, stdin="models/x\ny\n8099\ny\nt.token\n777\nn\n")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "config.toml").read_text()
    assert "port = 8099" in text
    assert 'admins = ["telegram:777"]' in text
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


async def test_a_killed_process_answers_after_its_restart_and_logs_no_token(
    tiny_model: Path, tmp_path: Path
) -> None:
    """glmbot run, kill -9 in mid-answer, run again: the same message is finished, once."""
    telegram = TelegramServer(seconds_per_message=0.02)
    await telegram.start()
    config = tmp_path / "config.toml"
    config.write_text(
        f"[telegram]\napi_base_url = '{telegram.url}'\nedit_interval_s = 0.03\n"
        f"[access]\nusers = ['telegram:7']\n[sampling]\ntemperature = 0.0\n"
        f"[model]\npath = '{tiny_model}'\nmax_answer_tokens = 1200\nprecision = 'fp32'\n"
        "[log]\nlevel = 'DEBUG'\n"
    )
    log = tmp_path / "log.txt"

    async def run_until(holds: Callable[[], bool], number: int) -> None:
        process = subprocess.Popen(  # noqa: ASYNC220
            [GLMBOT, "run", "--config", str(config)],
            env={**os.environ, "GLMBOT_TELEGRAM__TOKEN": TOKEN},
            stdin=subprocess.DEVNULL, stdout=log.open("a"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            for _ in range(6000):
                if holds():
                    break
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.01)
            else:
                raise AssertionError(f"nothing came: {log.read_text()[-3000:]}")
        finally:
            process.send_signal(number)
            await asyncio.to_thread(process.wait)

    await telegram.say("hello")
    await run_until(lambda: len(next(iter(telegram.edits.values()), [])) >= 3, signal.SIGKILL)
    first_id, cut = min(telegram.messages[7]), "".join(telegram.texts(7))
    await run_until(lambda: any("limit of 1200 tokens" in text for text in telegram.texts(7)), signal.SIGTERM)
    whole = "".join(telegram.texts(7))
    assert min(telegram.messages[7]) == first_id
    assert len(whole) > len(cut)
    assert whole.count("limit of 1200 tokens") == 1
    await run_until(lambda: telegram.calls[-1][0] == "getUpdates", signal.SIGTERM)
    assert "".join(telegram.texts(7)) == whole, "a third start answers nothing again"
    await telegram.stop()
    assert telegram.violations == []
    assert "@glm_test_bot is listening" in log.read_text()
    assert TOKEN not in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_version_is_the_packages(tmp_path: Path) -> None:
    assert glmbot("--version", cwd=tmp_path).stdout.startswith("glmbot 0.")
    assert "version = " in (REPOSITORY / "pyproject.toml").read_text()
