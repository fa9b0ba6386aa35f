"""Hold our work against what others wrote: `make rig`.

The platform servers of our tests are driven by clients that are not ours: aiogram and grammY for Telegram, discord.js
for Discord, lark-oapi for Feishu, dingtalk-stream for DingTalk, slack-bolt for Slack, qq-botpy for QQ's official bots,
wecom-aibot-python-sdk and wecom-aibot-sdk for WeCom, nonebot and koishi for OneBot, each of which must parse every reply without complaint. Between our Satori adapter and our OneBot server stands satori-python, which speaks both.
Our bot talks in rooms of a real Synapse. Its webhook mode runs against telemelya, and the chat page runs in Chromium. Servers of tools (MCP) are used in a conversation on Telegram. GGUF files are
answered from beside llama.cpp's server, and lm-eval scores texts by POST /v1/completions. OpenAI's client and the agents of LangChain and pydantic-ai call tools through `glmbot serve`. Ends with "N passed, N failed".

The other projects' packages are installed under .glmbot/rig, from PyPI and npm; node and npm must be there.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
RIG = ROOT / ".glmbot" / "rig"
HERE = Path(__file__).parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "adapters")]

from platforms import dingtalk_server, feishu_server, qq_server, slack_server, wecom_server  # noqa: E402
from platforms.discord_server import CHANNEL_ID, DiscordServer  # noqa: E402
from platforms.discord_server import TOKEN as DISCORD_TOKEN  # noqa: E402
from platforms.onebot_server import SELF, OneBotServer  # noqa: E402
from platforms.onebot_server import TOKEN as ONEBOT_TOKEN  # noqa: E402
from platforms.telegram_server import TOKEN, TelegramServer  # noqa: E402
from rig.environments import environment  # noqa: E402
from rig.gguf_answers import TYPES  # noqa: E402
from rig.matrix_bot import check_matrix  # noqa: E402
from rig.programs import ENVIRONMENTS  # noqa: E402
from rig.satori_bot import check_satori  # noqa: E402
from rig.telemelya_bot import check_webhook  # noqa: E402

PYPI = ("aiogram==3.31.0", "telemelya==0.2.2", "lark-oapi==1.7.5", "dingtalk-stream==0.24.3", "setuptools<81")
SLACK = ("slack-bolt==1.30.0", "slack-sdk==3.48.0", "aiohttp==3.14.5")
LM_EVAL = ("lm-eval[api]==0.4.13", "transformers==5.24.0")
# In an environment of their own, since each wants other releases of the same.
QQ = (
    "nonebot2[websockets]==2.5.0",
    "nonebot-adapter-onebot==2.4.6",
    "satori-python-server==1.3.11",
    "satori-python-adapter-onebot11==0.6.0",
)
BOTPY = ("qq-botpy==1.2.1", "aiohttp==3.14.5")
WECOM = ("wecom-aibot-python-sdk==1.0.2", "wecom-aibot-sdk==1.0.8")
SYNAPSE = ("matrix-synapse==1.163.2",)
NPM = (
    "grammy@1.46.0",
    "discord.js@14.28.1",
    "koishi@4.18.11",
    "koishi-plugin-adapter-onebot@6.9.4",
    "@koishijs/plugin-http@0.6.3",
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
)
TESTS = ("tests/adapters/test_page.py", "tests/adapters/test_telegram.py", "tests/adapters/test_discord.py")


class Score:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def note(self, who: str, what: str, ok: bool, why: str = "") -> None:
        self.passed += ok
        self.failed += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {who}: {what}{f' ({why})' if why and not ok else ''}", flush=True)


async def main() -> int:
    install()
    score = Score()
    await telegram_client("aiogram", [str(RIG / "venv/bin/python"), str(HERE / "aiogram_client.py")], score)
    await telegram_client("grammY", ["node", str(HERE / "grammy_client.mjs")], score)
    await discord_client("discord.js", ["node", str(HERE / "discordjs_client.mjs")], score)
    await lark_oapi(score)
    await dingtalk_stream(score)
    await slack_bolt(score)
    await qq_botpy(score)
    await wecom_aibot(score)
    await onebot_client("nonebot", [str(RIG / "qq/bin/python"), str(HERE / "onebot_nonebot.py")], score)
    await onebot_client("koishi", ["node", str(HERE / "onebot_koishi.mjs")], score)
    await satori(score)
    await synapse(score)
    await telemelya(score)
    await mcp_servers(score)
    await programs(score)
    await gguf_answers(score)
    await lm_eval(score)
    if not os.environ.get("RIG_SHORT"):
        pytest(score)
    print(f"{score.passed} passed, {score.failed} failed")
    return 1 if score.failed or not score.passed else 0


def install() -> None:
    """Each package in a place of its own, at the version that was tried."""
    RIG.mkdir(parents=True, exist_ok=True)
    for name, packages in (
        ("venv", PYPI),
        ("qq", QQ),
        ("botpy", BOTPY),
        ("slack", SLACK),
        ("wecom", WECOM),
        ("synapse", SYNAPSE),
    ):
        python = RIG / name / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(RIG / name)], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    if shutil.which("npm") is None:
        raise SystemExit("npm is not installed; grammY, discord.js and koishi need it")
    (RIG / "package.json").write_text('{"private": true, "type": "module"}\n')
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", *NPM], cwd=RIG, check=True)
    for script in HERE.glob("*.mjs"):
        # Node looks for packages beside the script.
        shutil.copy(script, RIG / script.name)


async def telegram_client(who: str, command: list[str], score: Score) -> None:
    """A client's script asks for what people should do (`want`), and says what it saw (`check`)."""
    server = TelegramServer(seconds_per_message=0.01, burst=50)
    await server.start()

    async def act(wish: dict[str, Any]) -> None:
        match wish["want"]:
            case "say":
                await server.say(wish["text"], chat=wish.get("chat"), photo=wish.get("photo", False))
            case "edit":
                newest = max(number for chat, number in server.said if chat == 7)
                await server.edit(newest, wish["text"])
            case "press":
                await server.press(max(server.messages[7]), wish["button"])
            case "hold":
                server.hold(7, wish["seconds"])
            case "block":
                await server.shut_out(7)
            case "topic":
                server.chats_with_topics.add(-100)
                await server.say(wish["text"], chat=-100, thread=5)
            case other:
                raise ValueError(other)

    await converse(who, command, {"RIG_URL": server.url, "RIG_TOKEN": TOKEN}, act, score)
    score.note(who, "broke none of the server's laws", server.violations == [], str(server.violations))
    await server.stop()


async def discord_client(who: str, command: list[str], score: Score) -> None:
    server = DiscordServer(window_s=0.3)
    await server.start()

    async def act(wish: dict[str, Any]) -> None:
        match wish["want"]:
            case "say":
                await server.say(wish["text"], direct=wish.get("direct", False), thread=wish.get("thread"))
            case "edit":
                await server.edit(max(server.said), wish["text"])
            case "delete":
                await server.delete(max(server.said))
            case "use":
                await server.use(wish["command"], **wish.get("options", {}))
            case "complete":
                await server.complete(wish["command"], wish["typed"])
            case "press":
                await server.press(max(server.messages[CHANNEL_ID]), wish["button"])
            case "drop":
                await server.drop_connections()
            case other:
                raise ValueError(other)

    environment = {"RIG_URL": server.url.rpartition("/v10")[0], "RIG_TOKEN": DISCORD_TOKEN}
    await converse(who, command, environment, act, score)
    await server.stop()


async def lark_oapi(score: Score) -> None:
    server = feishu_server.FeishuServer()
    await server.start()
    # In two frames.
    await server.say("long " * 300)
    command = [str(RIG / "venv/bin/python"), "-W", "ignore", str(HERE / "feishu_client.py")]
    known = {"RIG_ID": feishu_server.APP_ID, "RIG_TOKEN": feishu_server.SECRET}
    await converse("lark-oapi", command, {"RIG_URL": server.url, **known}, nothing, score)
    score.note(
        "lark-oapi", "broke none of the server's laws", server.violations == [], str(server.violations)
    )
    await server.stop()


async def dingtalk_stream(score: Score) -> None:
    server = dingtalk_server.DingTalkServer()
    await server.start()
    await server.say("hello")
    command = [str(RIG / "venv/bin/python"), str(HERE / "dingtalk_client.py")]
    known = {"RIG_ID": dingtalk_server.CLIENT_ID, "RIG_TOKEN": dingtalk_server.SECRET}
    await converse("dingtalk-stream", command, {"RIG_URL": server.url, **known}, nothing, score)
    grown = server.texts(dingtalk_server.staff(7))
    score.note("dingtalk-stream", "its card has streamed to its end", grown == ["one two three"], str(grown))
    await server.stop()


async def slack_bolt(score: Score) -> None:
    server = slack_server.SlackServer(seconds_per_message=0.01, burst=50)
    await server.start()

    async def act(wish: dict[str, Any]) -> None:
        match wish["want"]:
            case "say":
                await server.say(wish["text"])
            case "mention":
                await server.say(wish["text"], channel=slack_server.GROUP, mention=True)
            case "command":
                await server.command(wish["text"])
            case "press":
                await server.press(wish["channel"], wish["ts"], "retry")
            case "post":
                server.posts_to = wish["url"]
                status = await server.post(
                    "url_verification", {"type": "url_verification", "challenge": "c1"}
                )
                confirmed = status == 200 and "c1" in server.said_back
                score.note("slack-bolt", "confirms its address", confirmed, server.said_back)
                wrong = await server.post("events_api", {"type": "event_callback"}, secret="another")
                score.note("slack-bolt", "refuses a signature of somebody else's", wrong == 401, str(wrong))
                await server.say(wish["text"])
            case other:
                raise ValueError(other)

    command = [str(RIG / "slack/bin/python"), str(HERE / "slack_client.py")]
    known = {
        "RIG_URL": server.url,
        "RIG_TOKEN": slack_server.TOKEN,
        "RIG_APP_TOKEN": slack_server.APP_TOKEN,
        "RIG_SECRET": slack_server.SIGNING_SECRET,
    }
    await converse("slack-bolt", command, known, act, score)
    score.note("slack-bolt", "confirms what was posted", server.posted == [200], str(server.posted))
    streamed = server.texts(slack_server.channel_of(7))
    score.note("slack-bolt", "its stream stands there", "**one** two three" in streamed, str(streamed))
    in_channel = server.texts(slack_server.GROUP)
    score.note("slack-bolt", "so does the one in a channel", in_channel == ["for you"], str(in_channel))
    score.note("slack-bolt", "acknowledged what came", server.unacknowledged == 0, str(server.unacknowledged))
    score.note(
        "slack-bolt", "broke none of the server's laws", server.violations == [], str(server.violations)
    )
    await server.stop()


async def qq_botpy(score: Score) -> None:
    server = qq_server.QQServer(granted={"markdown", "buttons"})
    await server.start()

    async def act(wish: dict[str, Any]) -> None:
        match wish["want"]:
            case "say":
                await server.say(wish["text"], scene=wish["scene"])
            case "press":
                await server.press(server.shown[qq_server.GROUP][-1], wish["button"], group=True)
            case "drop":
                await server.disconnect(4009)
            case other:
                raise ValueError(other)

    command = [str(RIG / "botpy/bin/python"), str(HERE / "qq_client.py")]
    known = {"RIG_URL": server.url, "RIG_ID": qq_server.APP_ID, "RIG_TOKEN": qq_server.SECRET}
    await converse("qq-botpy", command, known, act, score)
    went_on = [operation for operation, _ in server.greetings]
    score.note("qq-botpy", "has gone on with its session", went_on == [2, 6], str(went_on))
    score.note("qq-botpy", "broke none of the server's laws", server.violations == [], str(server.violations))
    await server.stop()


async def wecom_aibot(score: Score) -> None:
    server = wecom_server.WeComServer()
    await server.start()
    await server.say("hello")

    async def act(wish: dict[str, Any]) -> None:
        if wish["want"] == "say":
            await server.say("again")
        else:
            event = {"msgid": "e", "msgtype": "event", "event": {"eventtype": "enter_chat"}}
            await server.tell("aibot_event_callback", event)

    command = [str(RIG / "wecom/bin/python"), str(HERE / "wecom_client.py")]
    known = {"RIG_ID": wecom_server.BOT_ID, "RIG_TOKEN": wecom_server.SECRET}
    await converse("wecom-aibot", command, {"RIG_URL": server.ws_url, **known}, act, score)
    stands = server.texts(wecom_server.member(7))
    score.note(
        "wecom-aibot",
        "what it said stands there",
        stands == ["one two three", "**pushed**", "答案.txt"],
        str(stands),
    )
    score.note("wecom-aibot", "its file came whole", [len(each) for _, each in server.files] == [1_200_000])
    score.note("wecom-aibot", "says ping", server.calls.count("ping") >= 2)
    await server.stop()


async def nothing(_: dict[str, Any]) -> None:
    """These clients wish for nothing."""


async def onebot_client(who: str, command: list[str], score: Score) -> None:
    """By forward WebSocket. Strings are theirs to send; ours sends none."""
    server = OneBotServer(only_arrays=False)
    await server.start()

    async def act(wish: dict[str, Any]) -> None:
        match wish["want"]:
            case "say":
                group = None if wish.get("private") else 5
                await server.say(wish["text"], group=group, at=[SELF] if wish.get("at") else [])
            case "recall":
                await server.recall(max(server.said))
            case "poke":
                await server.happen(
                    "notice", notice_type="notify", sub_type="poke", group_id=5, user_id=7, target_id=SELF
                )
            case other:
                raise ValueError(other)

    environment = {"RIG_URL": server.url, "RIG_TOKEN": ONEBOT_TOKEN, "RIG_SELF": str(SELF)}
    await converse(who, command, environment, act, score)
    score.note(who, "broke none of the server's laws", server.violations == [], str(server.violations))
    await server.stop()


async def satori(score: Score) -> None:
    """Our bot behind satori-python, which is connected to our OneBot server."""
    try:
        async with asyncio.timeout(180):
            for what, ok, why in await check_satori(RIG / "qq/bin/python"):
                score.note("satori-python", what, ok, why)
    except Exception as error:
        score.note("satori-python", "our bot behind it", False, repr(error))


async def synapse(score: Score) -> None:
    """Our bot in rooms of a real homeserver."""
    try:
        async with asyncio.timeout(600):
            for what, ok, why in await check_matrix(RIG / "synapse/bin/python"):
                score.note("Synapse", what, ok, why)
    except Exception as error:
        score.note("Synapse", "our bot in its rooms", False, repr(error))


async def converse(
    who: str,
    command: list[str],
    environment: dict[str, str],
    act: Callable[[dict[str, Any]], Awaitable[None]],
    score: Score,
) -> None:
    script = Path(command[-1])
    if script.suffix == ".mjs":
        command = [*command[:-1], str(RIG / script.name)]
    client = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        cwd=RIG,
    )
    assert client.stdout is not None
    ended = False
    acting: set[asyncio.Task[None]] = set()
    try:
        async with asyncio.timeout(90):
            async for line in client.stdout:
                try:
                    said = json.loads(line)
                except ValueError:
                    print(f"     {who} says: {line.decode().rstrip()}")
                    continue
                if "want" in said:
                    task = asyncio.ensure_future(act(said))
                    acting.add(task)
                    task.add_done_callback(acting.discard)
                elif "check" in said:
                    score.note(who, said["check"], said["ok"], said.get("why", ""))
                ended = ended or "end" in said
    except TimeoutError:
        client.kill()
    await client.wait()
    if acting:
        # What it answered last may still be on its way.
        await asyncio.wait(acting, timeout=30)
    score.note(who, "came to its end", ended and client.returncode == 0, f"status {client.returncode}")


async def telemelya(score: Score) -> None:
    """Our own bot in webhook mode, against a Bot API that somebody else wrote. It keeps its state in Redis."""
    if shutil.which("redis-server") is None:
        score.note("telemelya", "redis-server is installed", False)
        return
    redis_port, port = free_port(), free_port()
    redis = subprocess.Popen(  # noqa: ASYNC220
        ["redis-server", "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    environment = {
        **os.environ,
        "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        "MOCK_SERVER_HOST": "127.0.0.1",
        "MOCK_SERVER_PORT": str(port),
    }
    python, script = str(RIG / "venv/bin/python"), str(HERE / "telemelya_server.py")
    server = subprocess.Popen(  # noqa: ASYNC220
        [python, script], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(90):
            for what, ok, why in await check_webhook(f"http://127.0.0.1:{port}"):
                score.note("telemelya", what, ok, why)
    except Exception as error:
        score.note("telemelya", "our bot's webhook mode", False, repr(error))
    finally:
        for process in (server, redis):
            process.terminate()
            process.wait()


async def mcp_servers(score: Score) -> None:
    """Tools, prompts and resources of others' servers in a conversation, and what happens when those are killed."""
    await told_by("MCP", [str(HERE / "mcp_servers.py"), str(RIG / "node_modules")], score)


async def programs(score: Score) -> None:
    """Each in an environment of its own: they want other releases of the same."""
    for name, packages in ENVIRONMENTS.items():
        score.note(name, "is installed", await environment(RIG / name, packages) is not None)
    await told_by("programs", [str(HERE / "programs.py"), str(RIG)], score)


async def told_by(who: str, command: list[str], score: Score) -> None:
    """A script of ours says what it saw (`check`), and of whom where that is not `who`."""
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ended = False
    try:
        async with asyncio.timeout(900):
            async for line in process.stdout:
                said = json.loads(line)
                if "check" in said:
                    score.note(said.get("who", who), said["check"], said["ok"], said["why"])
                ended = ended or "end" in said
    except TimeoutError:
        process.terminate()
    await process.wait()
    score.note(who, "came to its end", ended and process.returncode == 0, f"status {process.returncode}")


async def gguf_answers(score: Score) -> None:
    """What the demo model's GGUF file answers, of each type, here and in llama.cpp's server."""
    for kind in TYPES:
        command = [sys.executable, str(HERE / "gguf_answers.py"), kind]
        process = await asyncio.create_subprocess_exec(*command)
        score.note("llama.cpp", f"draws the same tokens from {kind}", await process.wait() == 0)


async def lm_eval(score: Score) -> None:
    """In an environment of its own: it wants other releases than ours of what both use."""
    score.note("lm-eval", "is installed", await environment(RIG / "lm-eval", LM_EVAL) is not None)
    script, folder = str(HERE / "lm_eval_scores.py"), RIG / "lm-eval"
    process = await asyncio.create_subprocess_exec(sys.executable, script, str(folder / "bin" / "python"))
    score.note("lm-eval", "is told the likelihoods that Transformers computes", await process.wait() == 0)


def pytest(score: Score) -> None:
    """The page in Chromium, and python-telegram-bot and discord.py against the same servers."""
    report = RIG / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *TESTS], cwd=ROOT, check=False
    )
    for case in ElementTree.parse(report).iter("testcase"):
        bad = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        name = case.get("name", "").replace("_", " ").removeprefix("test ")
        score.note(case.get("classname", "").rpartition(".")[2], name, not bad, ", ".join(bad))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
