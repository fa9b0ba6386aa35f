"""The program as a person runs it: a process, its words, its exit status."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from conftest import REPOSITORY, free_port
from glmbot.backup import back_up, restore
from glmbot.dialogue.access import Access
from glmbot.dialogue.people import People
from glmbot.errors import BackupError
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Role
from glmbot.store.records import StoredAnswer
from glmbot.store.sqlite import SqliteStore
from platforms.telegram_server import TOKEN, TelegramServer
from program import GLMBOT, Program, glmbot, running


@contextmanager
def installed(*arguments: str, cwd: Path) -> Generator[subprocess.Popen[str]]:
    """The installed program, whose start is what is tested. Killed in the end."""
    process = subprocess.Popen(
        [GLMBOT, *arguments],
        cwd=cwd,
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


def wait_for_page(url: str, process: Program) -> None:
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


def wait_until_it_hears(
    process: subprocess.Popen[str] | Program, number: int, while_it_has: str = ""
) -> None:
    """Until the process handles that signal itself and has that file in its memory."""
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, process.communicate()
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
        hears = int(caught, 16) >> (number - 1) & 1
        if hears and while_it_has in Path(f"/proc/{process.pid}/maps").read_text():
            return
        assert time.monotonic() < deadline
        # To read what a process has in its memory takes a millisecond of a processor itself.
        time.sleep(0.02)


def stop(process: Program) -> str:
    """What it wrote to stderr."""
    process.terminate()
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return errors


def test_once_prints_the_models_answer_and_nothing_else(demo_model: Path, tmp_path: Path) -> None:
    question = ("chat", "--once", "What is the capital of France?")
    with installed(*question, "--model", str(demo_model), cwd=tmp_path) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "Paris" in stdout
    assert stderr == ""
    assert not (tmp_path / ".glmbot").exists(), "a single question is remembered by nobody"


def test_questions_come_through_a_pipe_a_line_each_also_beside_a_bot(
    tiny_model: Path, tmp_path: Path
) -> None:
    store = tmp_path / ".glmbot" / "glmbot.sqlite3"
    store.parent.mkdir()
    with store.with_name(f"{store.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stdin = "hello\n\n/whoami\nstop\nnever read\n"
        done = glmbot("chat", "--model", str(tiny_model), cwd=tmp_path, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("a bot answers from") == 1
    assert store.with_name("glmbot-chat.sqlite3").exists()
    assert not store.exists()
    assert "console:" in done.stdout
    assert len(done.stdout.strip().splitlines()) >= 2


def test_a_chat_in_a_terminal_streams_stops_and_ends(tiny_model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"[model]\npath = '{tiny_model}'\nmax_answer_tokens = 1900\n")
    # pexpect answers no cursor position requests, for which prompt_toolkit would wait.
    environment = {**os.environ, "PROMPT_TOOLKIT_NO_CPR": "1"}
    chat = pexpect.spawn(str(GLMBOT), ["chat"], cwd=str(tmp_path), env=environment, encoding="utf-8",
                         codec_errors="replace", timeout=120)  # fmt: skip
    chat.expect(">")
    chat.send("hello\r")
    chat.expect("hello")
    # Its answer begins on a line of its own; the colours before it are no words.
    chat.expect(r"\n[^\x1b\r\n]*\w")
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


@pytest.mark.parametrize("moment", ["", "libtorch_cpu", "tokenizers", "model.safetensors"])
@pytest.mark.parametrize(("number", "statuses"), [(signal.SIGTERM, {0}), (signal.SIGINT, {0, 130})])
def test_a_signal_at_any_time_of_the_start_ends_it(
    demo_model: Path, tmp_path: Path, number: int, statuses: set[int], moment: str
) -> None:
    """At its very beginning, in mid-import, and while the model is being loaded."""
    serve = ("serve", "--model", str(demo_model), "--port", "0")
    imports = moment != "model.safetensors"
    with installed(*serve, cwd=tmp_path) if imports else running(*serve, cwd=tmp_path) as process:
        # Python itself handles SIGINT from its first moment on; SIGTERM tells that our handlers are in place.
        wait_until_it_hears(process, signal.SIGTERM, moment)
        process.send_signal(number)
        _, errors = process.communicate(timeout=90)
        assert process.returncode in statuses, errors
        assert "Traceback" not in errors


def test_a_taken_port_is_one_clear_line(tiny_model: Path, tmp_path: Path) -> None:
    port = free_port()
    arguments = ("serve", "--model", str(tiny_model), "--port", str(port))
    with running(*arguments, cwd=tmp_path) as first:
        wait_for_page(f"http://127.0.0.1:{port}", first)
        second = glmbot(*arguments, cwd=tmp_path)
        assert second.returncode == 1
        assert f"127.0.0.1:{port} can't be listened on: Address already in use; is another" in second.stderr
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
    refused = glmbot("check", str(config), cwd=tmp_path)
    assert refused.returncode == 1
    assert "no token; set GLMBOT_TELEGRAM__TOKEN" in refused.stderr
    sick = glmbot("doctor", "--config", str(config), cwd=tmp_path)
    assert sick.returncode == 1
    assert "FAIL configuration: [telegram] no token" in sick.stderr
    assert "FAIL access: nobody is named on telegram" in sick.stderr
    assert "glmbot pair CODE --admin" in sick.stderr
    assert "ok   memory" in sick.stderr
    # It listens, and asks nobody.
    config.write_text(f"[onebot]\n[access]\nadmins = ['onebot:1']\n[model]\npath = '{tiny_model}'\n")
    well = glmbot("doctor", "--config", str(config), cwd=tmp_path, GLMBOT_ONEBOT__TOKEN=TOKEN)
    assert well.returncode == 0, well.stderr
    assert TOKEN not in well.stderr


def test_init_asks_and_writes_what_can_be_run(tiny_model: Path, tmp_path: Path) -> None:
    token = "123456789:" + "A" * 35
    port = free_port()
    stdin = f"maybe\nn\n{tmp_path}\n{tiny_model}\ny\n99999\n{port}\nirc\ntelegram\nno token\n{token}\n\nAda\n777\nn\n"
    away = {
        "GLMBOT_TELEGRAM__API_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
    }
    done = glmbot("init", cwd=tmp_path, stdin=stdin, **away)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "config.toml").read_text()
    assert f"port = {port}" in text
    assert 'admins = ["telegram:777"]' in text
    assert (tmp_path / "telegram.token").read_text() == token
    for file in ("config.toml", "telegram.token"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
    assert token not in text + done.stdout + done.stderr
    # What is to be done next can be typed as it stands there, where glmbot is in no folder of the PATH.
    assert "glmbot stands for " in done.stderr
    assert "Please answer y or n." in done.stdout
    assert glmbot("check", cwd=tmp_path).returncode == 0


def test_init_says_at_once_that_it_can_write_nothing_there(tmp_path: Path) -> None:
    done = glmbot("init", str(tmp_path / "gone" / "config.toml"), cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no folder" in done.stderr
    assert not done.stdout


async def test_people_and_histories_are_managed_from_a_terminal(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    stranger, chat = UserKey("telegram", "8"), ConversationKey("telegram", "8")
    people = People(store, Access(), time.time)
    asked = Message("1", chat, stranger, "/start", user_name="Ada")
    code = await people.code_for(asked)
    assert await people.code_for(asked) == code
    await store.accept(asked, 1.0)
    await store.finish(asked, StoredAnswer("blue", "final", ""), question="why?", epoch=0, at=1.0)
    (tmp_path / "config.toml").write_text("[store]\npath = 's.sqlite3'\n")
    assert "no such code" in glmbot("pair", "AAAAAAAA", cwd=tmp_path).stderr
    paired = glmbot("pair", code.lower(), "--admin", cwd=tmp_path)
    assert "telegram:8 may talk to the bot now, as an administrator" in paired.stderr
    assert (await people.standing(asked)).role is Role.ADMIN
    exported = glmbot("export", "telegram:8", cwd=tmp_path)
    assert json.loads(exported.stdout)["conversations"][0]["turns"][0]["answer"] == "blue"
    assert "Conversations: 1" in glmbot("backup", "b.gz", cwd=tmp_path).stderr
    assert (tmp_path / "b.gz").stat().st_mode & 0o777 == 0o600
    assert "Turns deleted: 1" in glmbot("forget", "telegram:8", "--yes", cwd=tmp_path).stderr
    assert await store.last_turns(chat, 5) == []
    restored = glmbot("restore", "b.gz", cwd=tmp_path)
    assert "Conversations that are back: 1; people and chats with settings: 1;" in restored.stderr
    assert [turn.answer for turn in await store.last_turns(chat, 5)] == ["blue"]
    assert (await people.standing(asked)).role is Role.ADMIN
    assert "already, and are as they were: 1" in glmbot("restore", "b.gz", cwd=tmp_path).stderr
    await store.close()


@pytest.mark.parametrize(
    "command", [("forget", "telegram:8", "--yes"), ("export", "telegram:8"), ("backup", "b.gz")]
)
def test_in_the_wrong_folder_nobody_is_told_that_nothing_is_kept(
    command: Sequence[str], tmp_path: Path
) -> None:
    done = glmbot(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no such store" in done.stderr
    assert not done.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["cut", "rubbish", "other", "missing", "bad line"])
async def test_a_damaged_backup_is_named_and_restores_nothing(tmp_path: Path, damage: str) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    for number in (1, 2):
        asked = Message(
            str(number),
            ConversationKey("telegram", str(number)),
            UserKey("telegram", str(number)),
            "why?",
        )
        await store.accept(asked, 1.0)
        await store.finish(asked, StoredAnswer("blue", "final", ""), question="why?", epoch=0, at=1.0)
    path = tmp_path / "b.gz"
    assert await back_up(store, path) == 2
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    contents = {
        "cut": path.read_bytes()[:-12],
        "rubbish": b"no gzip",
        "other": gzip.compress(b"{}\n"),
        "missing": gzip.compress(b"".join([*lines[:1], *lines[2:]])),
        "bad line": gzip.compress(b"".join([*lines[:2], b'{"conversation": 5}\n', *lines[3:]])),
    }
    path.write_bytes(contents[damage])
    for number in (1, 2):
        await store.reset(ConversationKey("telegram", str(number)))
    with pytest.raises(BackupError, match=r"b\.gz"):
        await restore(store, path)
    assert [each async for each in store.everything()] == []
    await store.close()


def test_a_configuration_is_read_again_while_it_runs_and_a_broken_one_changes_nothing(
    tiny_model: Path, tmp_path: Path
) -> None:
    port, other = free_port(), free_port()
    config = tmp_path / "config.toml"

    def write(web_port: int, turns: int, threads: int = 0, broken: str = "") -> None:
        config.write_text(
            f"[model]\npath = '{tiny_model}'\nthreads = {threads}\n[dialogue]\nturn_limit = {turns}\n"
            f"[web]\nport = {web_port}\n[log]\nformat = 'json'\n{broken}"
        )

    def said(words: str) -> None:
        deadline = time.monotonic() + 60
        while words not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    write(port, 20)
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = Program("run", cwd=tmp_path, output=output)
    try:
        said(f":{port}")
        wait_until_it_hears(process, signal.SIGHUP)
        write(port, 5, broken="[dialogue]")
        process.send_signal(signal.SIGHUP)
        said("not taken")
        write(port, 5, threads=1)
        process.send_signal(signal.SIGHUP)
        said("In force now: dialogue.")
        said("only after a restart: model")
        write(other, 5)
        process.send_signal(signal.SIGHUP)
        said("In force now: web.")
        said(f":{other}")
        with urllib.request.urlopen(f"http://127.0.0.1:{other}/healthz") as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        assert process.wait(90) == 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)


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
        token = {"GLMBOT_TELEGRAM__TOKEN": TOKEN}
        with log.open("a") as output:
            process = Program("run", "--config", str(config), cwd=tmp_path, environment=token, output=output)
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


def test_the_list_of_commands_cuts_no_sentence(tmp_path: Path) -> None:
    listed = glmbot("--help", cwd=tmp_path, COLUMNS="80").stdout.partition("Commands:")[2]
    assert "doctor" in listed
    assert "..." not in listed
