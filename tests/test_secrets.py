"""A bot with every secret there is tells none, and a test run that writes a secret fails (see secret_scan.py)."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from conftest import free_port
from glmbot.store.sealed import new_key
from platforms.discord_server import TOKEN as DISCORD_TOKEN
from platforms.openai_server import KEY
from platforms.telegram_server import TOKEN, TelegramServer
from program import glmbot, running
from secret_scan import SEEN, Seen

SECRETS = {
    "GLMBOT_TELEGRAM__TOKEN": TOKEN,
    "GLMBOT_TELEGRAM__WEBHOOK_SECRET": "a-webhook-secret-of-ours",
    "GLMBOT_DISCORD__TOKEN": DISCORD_TOKEN,
    "GLMBOT_WEB__TOKEN": "the-token-of-the-web-page",
    "GLMBOT_WEB__ADMIN_TOKEN": "the-token-of-the-operators-page",
    "GLMBOT_REMOTE__API_KEY": KEY,
    "GLMBOT_STORE__ENCRYPTION_KEY": new_key(),
}
PASSWORD = "the-password-of-redis"
SEEN.secrets.update(SECRETS.values(), [PASSWORD])


def test_secrets_are_looked_for_and_worst_values_are_none() -> None:
    seen = Seen()
    for value in (TOKEN, f"redis://user:{PASSWORD}@127.0.0.1:6379/0", "9" * 20, "1" + "0" * 30, "short"):
        seen.secret(value)
    assert seen.secrets == {TOKEN, PASSWORD}
    assert seen.leaks([f"refused: {TOKEN}", "refused: " + "9" * 100, PASSWORD.upper()]) == [
        f"refused: {TOKEN}"
    ]


async def test_a_bot_with_every_secret_there_is_tells_none(tmp_path: Path, tiny_model: Path) -> None:
    """In trouble everywhere: a store with a wrong password, a model server that is away, tokens that are refused."""
    telegram = TelegramServer()
    await telegram.start()
    port, away = free_port(), free_port()
    config = tmp_path / "config.toml"
    base = (
        f"[telegram]\napi_base_url = '{telegram.url}'\n[discord]\napi_base_url = 'http://127.0.0.1:{away}/api'\n"
        f"[web]\nport = {port}\n[model]\npath = '{tiny_model}'\nprecision = 'fp32'\n[log]\nlevel = 'DEBUG'\n"
    )
    on_redis = f"[store]\nkind = 'redis'\nurl = 'redis://user:{PASSWORD}@127.0.0.1:{away}/0'\n"
    on_server = (
        f"[remote]\nservers = ['http://127.0.0.1:{away}/v1']\ntokenizer = '{tiny_model}'\npatience_s = 0\n"
    )
    said: list[str] = []
    for command, text in (
        ("check", base + on_redis + on_server),
        ("doctor", base + on_redis + on_server),
        ("run", base + on_redis),
        ("run", base + on_server.replace("tokenizer", "tokeniser")),
    ):
        config.write_text(text)
        said.append(await asyncio.to_thread(told, command, config))
    config.write_text(base.partition("[discord]")[0] + "[web]" + base.partition("[web]")[2] + on_server)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
    with running(*command_line("run", config), cwd=tmp_path, **secrets(discord=False)) as bot:
        pages = [
            await asyncio.to_thread(asked, port, path, sent)
            for path, sent in (
                ("/readyz", None),
                ("/v1/chat/completions", body),
                ("/metrics", None),
                ("/api/admin/overview", None),
            )
        ]
        bot.terminate()
        said.append("".join(await asyncio.to_thread(bot.communicate)))
    await telegram.stop()
    everything = [*said, *pages]
    for secret in (*SECRETS.values(), PASSWORD):
        assert not [text for text in everything if secret in text], secret
    assert "is ready" in said[-1]
    assert "no model server works" in pages[1]
    assert "glmbot_engine_server_up" in pages[2]
    assert '"errors"' in pages[3]


def secrets(*, discord: bool = True) -> dict[str, str]:
    return {name: value for name, value in SECRETS.items() if discord or name != "GLMBOT_DISCORD__TOKEN"}


def command_line(command: str, config: Path) -> list[str]:
    return [command, str(config)] if command == "check" else [command, "--config", str(config)]


def told(command: str, config: Path) -> str:
    outcome = glmbot(*command_line(command, config), cwd=config.parent, **secrets())
    return outcome.stdout + outcome.stderr


def asked(port: int, path: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"}
    )
    request.add_header("Authorization", f"Bearer {SECRETS['GLMBOT_WEB__ADMIN_TOKEN']}")
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            assert time.monotonic() < deadline, "the page did not come"
            time.sleep(0.2)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("written", ["f'bot{secret}/getMe'", "'a bot'"])
def test_a_test_run_that_writes_a_secret_which_a_test_used_fails(
    workers: int, written: str, tmp_path: Path
) -> None:
    """One test uses the secret and another one, perhaps in another process, writes it."""
    secret = "-".join(["a", "secret", "of", "this", "test"])
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["secret_scan"]\n')
    (tmp_path / "test_uses.py").write_text(
        f"import pydantic\ndef test_uses():\n    pydantic.SecretStr({secret!r})\n"
    )
    (tmp_path / "test_writes.py").write_text(
        f"import logging\nsecret = '-'.join({secret.split('-')!r})\n"
        f"def test_writes():\n    logging.getLogger('glmbot').info({written})\n"
    )
    outcome = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "xdist.plugin",
            "-p",
            "no:cacheprovider",
            "-n",
            str(workers),
            str(tmp_path),
        ],
        cwd=tmp_path,
        # Of the plug-ins that are installed the one that has workers is enough.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    leaked = "secret" in written
    assert "2 passed" in outcome.stdout
    assert outcome.returncode == (pytest.ExitCode.TESTS_FAILED if leaked else pytest.ExitCode.OK)
    assert ("A secret that a test used was written" in outcome.stdout) is leaked
