"""Others' MCP servers, from a Telegram conversation: `glmbot run` with server-everything and server-filesystem of
npm, over their input and output and over HTTP. What is called is what Ann writes: see `mcp_bot.py`.

    python tests/rig/mcp_servers.py FOLDER_OF_NODE_MODULES

Says what it saw, a line of JSON each, for `run.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from platforms.telegram_server import TOKEN, TelegramServer  # noqa: E402

ANN = 7
_PATIENCE_S = 40.0


class Conversation:
    """What Ann says to the bot, and what she sees of its newest answer."""

    def __init__(self, telegram: TelegramServer) -> None:
        self.telegram = telegram

    async def say(self, words: str) -> int:
        return await self.telegram.say(words, user=ANN)

    async def seen(self, before: int, *words: str) -> tuple[int, str]:
        """The first answer after `before` that shows one of the words."""
        texts: dict[int, str] = {}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    messages = self.telegram.messages.get(ANN, {})
                    texts = {
                        number: str(each.get("text", ""))
                        for number, each in messages.items()
                        if number > before
                    }
                    for number, text in texts.items():
                        if any(word in text for word in words):
                            return number, text
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return 0, f"none of {words} in {list(texts.values())}"

    async def ask(self, question: str, *words: str) -> str:
        _, text = await self.seen(await self.say(question), *words)
        return text


def note(what: str, ok: bool, why: str = "") -> None:
    print(json.dumps({"check": what, "ok": ok, "why": why[:500]}), flush=True)


async def main(node_modules: Path) -> None:
    telegram = TelegramServer(seconds_per_message=0.01, burst=100)
    await telegram.start()
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "shared"
        shared.mkdir()
        (shared / "note.txt").write_text("the shelf is full")
        port = free_port()
        everything = [str(node_modules / ".bin/mcp-server-everything")]
        files = [str(node_modules / ".bin/mcp-server-filesystem"), str(shared)]
        config = Path(folder) / "glmbot.toml"
        config.write_text(configuration(telegram.url, everything, files, node_modules, shared, port))
        served = await http_server(everything, port)
        async with bot(config, folder):
            talk = Conversation(telegram)
            try:
                await there(talk, ("everything", "files", "far"))
                await checks(talk)
                await comes_and_goes(talk, served, everything, port, folder)
            finally:
                note("no law of Telegram's was broken", telegram.violations == [], str(telegram.violations))
    await telegram.stop()


async def there(talk: Conversation, servers: tuple[str, ...]) -> None:
    text = ""
    for _ in range(30):
        text = await talk.ask("/mcp", "connected", "connecting", "away")
        if all(f"{each}: connected" in text for each in servers):
            break
        await asyncio.sleep(1)
    for each in servers:
        note(f"{each} is there", f"{each}: connected" in text, text)


async def checks(talk: Conversation) -> None:
    for server in ("everything", "far"):
        text = await talk.ask(f'call {server}_echo {{"message": "hello"}}', "Result:")
        note(f"a tool of {server}", "Echo: hello" in text, text)
        text = await talk.ask(f'call {server}_get-sum {{"a": 2, "b": 40}}', "Result:")
        note(f"a tool of {server} with numbers", "42" in text, text)
        text = await talk.ask(f"call {server}_get-tiny-image {{}}", "Result:")
        note(f"a picture of {server} is named", "[image/png, 4,035 bytes]" in text, text)
        uri = "demo://resource/static/document/architecture.md"
        text = await talk.ask(f'call {server}_read_resource {{"uri": "{uri}"}}', "Result:")
        note(f"a resource of {server}", "Architecture" in text, text)
        text = await talk.ask(f"/{server}_args_prompt city=Paris state=Texas", "Asked:")
        note(f"a prompt of {server} is asked", "weather in Paris" in text, text)
        await progress_and_stop(talk, server)
    text = await talk.ask('call everything_get-sum {"a": "two"}', "Result:")
    note("arguments that do not fit reach no server", "do not fit" in text, text)
    text = await talk.ask("call everything_get-env {}", "Result:")
    note("a server's program knows no secret of the bot's", "HOME" in text and TOKEN not in text, text)
    text = await talk.ask('call files_read_text_file {"path": "note.txt"}', "Result:")
    note("a file that is shared is read", "the shelf is full" in text, text)
    text = await talk.ask('call files_read_text_file {"path": "/etc/passwd"}', "Result:")
    note("no other is", "root:" not in text and "denied" in text, text)
    text = await talk.ask("call files_write_file {}", "Result:")
    note("a tool that is not on the list is not there", "no tool files_write_file" in text, text)


async def progress_and_stop(talk: Conversation, server: str) -> None:
    operation = f"call {server}_trigger-long-running-operation"
    before = await talk.say(f'{operation} {{"duration": 4, "steps": 4}}')
    _, text = await talk.seen(before, ": 2/4", ": 3/4", ": 4/4")
    note(f"progress of {server} shows in the answer", "/4" in text, text)
    _, text = await talk.seen(before, "Result:")
    note(f"and then what came of it, at {server}", "operation completed" in text, text)
    before = await talk.say(f'{operation} {{"duration": 60, "steps": 120}}')
    number, text = await talk.seen(before, "/120")
    note(f"a long call of {server} is under way", "/120" in text, text)
    await talk.telegram.press(
        number, next(each for each in talk.telegram.buttons(ANN, number) if "top" in each)
    )
    _, text = await talk.seen(before, "Stopped", "stopped")
    note(f"Stop ends it at {server}", "topped" in text, text)
    text = await talk.ask(f'call {server}_echo {{"message": "after"}}', "Echo: after")
    note(f"{server} goes on after that", "Echo: after" in text, text)


async def comes_and_goes(
    talk: Conversation, served: asyncio.subprocess.Process, everything: list[str], port: int, folder: str
) -> None:
    operation = '_trigger-long-running-operation {"duration": 60, "steps": 120}'
    before = await talk.say(f"call everything{operation}")
    await talk.seen(before, "/120")
    killed = kill_programs(everything[0], Path(folder))
    _, text = await talk.seen(before, "Result:")
    note("a program that is killed fails its call", killed > 0 and "not known" in text, f"{killed}: {text}")
    await there(talk, ("everything",))
    text = await talk.ask('call everything_echo {"message": "back"}', "Echo: back", "no tool")
    note("and comes back", "Echo: back" in text, text)
    before = await talk.say(f"call far{operation}")
    await talk.seen(before, "/120")
    served.kill()
    await served.wait()
    _, text = await talk.seen(before, "Result:")
    note("a server that goes away fails its call", "did not do it" in text, text)
    again = await http_server(everything, port)
    await there(talk, ("far",))
    text = await talk.ask('call far_echo {"message": "back"}', "Echo: back", "no tool")
    note("and is there again when it is", "Echo: back" in text, text)
    again.kill()
    await again.wait()


def configuration(
    telegram: str, everything: list[str], files: list[str], modules: Path, shared: Path, port: int
) -> str:
    """JSON's lists and texts are TOML's, too."""
    return f"""
[store]
path = "bot.sqlite3"
[access]
admins = ["telegram:{ANN}"]
[telegram]
token = "{TOKEN}"
api_base_url = "{telegram}"
poll_timeout_s = 1
[remote]
interface = "chat"
servers = ["http://127.0.0.1:1/v1"]
model = "scripted"
[tools]
told = "all"
rights = {{ "*" = "allow" }}
[plugins.mcp.servers.everything]
command = {json.dumps(everything)}
read = {json.dumps([str(modules)])}
[plugins.mcp.servers.files]
command = {json.dumps(files)}
read = {json.dumps([str(modules)])}
write = {json.dumps([str(shared)])}
tools = ["read_text_file"]
[plugins.mcp.servers.far]
url = "http://127.0.0.1:{port}/mcp"
"""


@asynccontextmanager
async def bot(config: Path, folder: str) -> AsyncGenerator[None]:
    log = Path(folder) / "log.txt"
    with log.open("w") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "tests/rig/mcp_bot.py"),
            "run",
            "--config",
            str(config),
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    try:
        async with asyncio.timeout(180):
            while "is listening" not in log.read_text() and process.returncode is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # its log is a file
        if process.returncode is not None:
            raise SystemExit(f"the bot does not start: {log.read_text()}")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        status = await process.wait()
        said = log.read_text()
        note(
            "the bot ends well, and says no traceback", status == 0 and "Traceback" not in said, said[-2000:]
        )


async def http_server(everything: list[str], port: int) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *everything, "streamableHttp", env={**os.environ, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return process


def kill_programs(program: str, folder: Path) -> int:
    """Those with this program in their command line whose HOME is below the folder."""
    killed = 0
    for each in Path("/proc").iterdir():
        try:
            command, environment = (each / "cmdline").read_text(), (each / "environ").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if program in command and f"HOME={folder.resolve()}" in environment:
            os.kill(int(each.name), signal.SIGKILL)
            killed += 1
    return killed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    if shutil.which("node") is None:
        raise SystemExit("node is not installed")
    asyncio.run(main(Path(sys.argv[1])))
    print(json.dumps({"end": True}), flush=True)
