"""Servers of the Model Context Protocol, connected and called, and what they can't do to anybody."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError

from glmbot.dialogue.tool_words import title_of
from glmbot.host import Nature, ToolFailed
from glmbot_mcp.calls import tools_for
from glmbot_mcp.connection import Connection, State
from glmbot_mcp.listing import Listing, ServerTool
from glmbot_mcp.metered import Rate
from glmbot_mcp.sandbox import bubblewrap_works, walled
from glmbot_mcp.settings import ServerSettings
from glmbot_mcp.slots import Slots
from plugins.mcp_world import LOG, Use, answering, becomes, call, running, tiny


async def test_tools_are_called_and_their_failures_are_told(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        tools = {tool.name: tool for tool in tools_for(server)}
        assert tools["tiny_echo"].parameters["required"] == ["text"]
        assert all(tool.nature is Nature.ACTS for name, tool in tools.items() if name != "tiny_read_resource")
        assert await call(server, "echo", Use(text="你好")) == "You said: 你好"
        with pytest.raises(ToolFailed, match=r"^No luck today\.$"):
            await call(server, "fail")


def test_people_see_whose_a_tool_is_that_is_called_like_another(tmp_path: Path) -> None:
    connection = Connection("tiny", tiny(), tmp_path, LOG, partial(answering, "tiny"))
    shown = ServerTool("send", "tiny_send", "Calculator", "", {"type": "object"}, Nature.READS, "")
    connection.listing = Listing(tools=(shown, replace(shown, public="tiny_other", title="")))
    assert [title_of(tool, "zh") for tool in tools_for(connection)] == ["tiny: Calculator", "tiny_other"]


async def test_a_secret_that_a_server_repeats_is_told_nobody(tmp_path: Path) -> None:
    secret = "sk-0123456789abcdef"
    connection = Connection("tiny", tiny(env={"KEY": secret}), tmp_path, LOG, partial(answering, "tiny"))
    connection._client = cast(Client, object())
    with pytest.raises(MCPError) as refused:
        async with connection.asked(person="telegram:5"):
            raise MCPError(1, f"no such key: {secret}")
    assert refused.value.message == "no such key: [secret]"


async def test_resources_are_read_by_their_addresses_and_by_no_others(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        reader = next(tool for tool in tools_for(server) if tool.name == "tiny_read_resource")
        assert "note://1 (first)" in reader.description
        assert "two words" not in reader.description
        assert await reader.function(Use(uri="note://1")) == "A note.\n\n[image/png, 3 bytes: note://1]"
        with pytest.raises(ToolFailed, match="no such resource"):
            await reader.function(Use(uri="file:///etc/passwd"))


async def test_progress_is_shown_and_stop_reaches_the_server(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        use = Use()
        calling = asyncio.create_task(call(server, "slow", use))
        await use.seen.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert use.shown == ["step by step (1/100)"]
        async with asyncio.timeout(20):
            while not (tmp_path / "tiny" / "cancelled").exists():  # noqa: ASYNC110 — another process
                await asyncio.sleep(0.01)
        assert await call(server, "echo", Use(text="on")) == "You said: on"


async def test_a_server_that_dies_in_a_call_fails_it_and_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        with pytest.raises(ToolFailed, match="whether that was done is not known"):
            await call(server, "die")
        await becomes(server, lambda: server.state is State.AWAY)
        assert not tools_for(server)
        await becomes(server, lambda: server.state is State.READY)
        assert await call(server, "echo", Use(text="again")) == "You said: again"


async def test_a_person_answers_a_server_by_buttons(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        use = Use(lambda choices: choices[0])
        assert json.loads(await call(server, "ask", use)) == {"action": "accept", "content": {"sure": True}}
        assert use.asked == [("tiny asks: Go on? Sure?", ["Yes", "No", "✗ Don't answer", "→ Skip this"])]
        assert json.loads(await call(server, "ask", Use(lambda choices: choices[2])))["action"] == "decline"
        assert json.loads(await call(server, "ask", Use()))["action"] == "cancel"


async def test_with_two_calls_under_way_nobody_is_asked_in_the_others_name(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        waiting, asking = Use(), Use(lambda choices: choices[0])
        slow = asyncio.create_task(call(server, "slow", waiting))
        await waiting.seen.wait()
        assert json.loads(await call(server, "ask", asking))["action"] == "decline"
        assert not waiting.asked
        assert not asking.asked
        slow.cancel()


async def test_who_calls_is_not_asked_what_may_belong_to_a_prompt(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server, server.asked():
        use = Use(lambda choices: choices[0])
        assert json.loads(await call(server, "ask", use))["action"] == "decline"
        assert use.asked == []


async def test_a_tool_that_changed_since_it_was_offered_is_not_called(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        echo = next(tool for tool in tools_for(server) if tool.name == "tiny_echo")
        assert await call(server, "grow") == "grown"
        await becomes(server, lambda: any(tool.name == "new" for tool in server.listing.tools))
        with pytest.raises(ToolFailed, match="has changed this tool"):
            await echo.function(Use(text="secret"))
        assert await call(server, "echo", Use(text="anew")) == "You said: anew"


async def test_a_program_gets_nothing_of_ours_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLMBOT_TELEGRAM__TOKEN", "123456:not-for-servers")
    async with running(tmp_path, tiny(env={"KEY": "its own"})) as server:
        told = json.loads(await call(server, "env"))
        given = {name: value for name, value in told["env"].items() if name != "LC_CTYPE"}
        assert given == {"PATH": os.environ["PATH"], "HOME": told["cwd"], "LANG": "C.UTF-8", "KEY": "its own"}
        assert told["cwd"] == str(tmp_path / "tiny")
    with pytest.raises(ProcessLookupError):
        os.kill(told["pid"], 0)


@pytest.mark.parametrize(
    ("how", "words"), [("silent", "did not come up within 0.5 seconds"), ("none", "there is no /no/program")]
)
async def test_a_server_that_does_not_come_up_is_said(tmp_path: Path, how: str, words: str) -> None:
    settings = tiny(how, connect_s=0.5) if how == "silent" else tiny(command=["/no/program"])
    async with running(tmp_path, settings, State.AWAY) as server:
        assert words in server.trouble
        assert not tools_for(server)


async def test_a_server_without_end_in_its_lists_is_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    async with running(tmp_path, tiny("endless")) as server:
        assert len(server.listing.tools) == 64
        assert "more than 64 tools" in server.listing.left_out[0]


async def test_a_message_without_end_ends_that_server_alone(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        with pytest.raises(ToolFailed):
            await call(server, "huge")
        await becomes(server, lambda: server.state is State.AWAY)
        assert "more than 4 MiB" in server.trouble


async def test_an_answer_that_is_none_fails_that_call_alone(tmp_path: Path) -> None:
    async with running(tmp_path, tiny()) as server:
        with pytest.raises(ToolFailed, match="not of the protocol"):
            await call(server, "odd")
        assert await call(server, "echo", Use(text="on")) == "You said: on"


async def test_a_flood_keeps_nobody_else_from_their_server(tmp_path: Path) -> None:
    flooding = running(tmp_path / "flood", tiny("flood"), State.CONNECTING)
    async with flooding, running(tmp_path, tiny(connect_s=10)) as server:
        async with asyncio.timeout(10):
            for number in range(20):
                assert await call(server, "echo", Use(text=str(number))) == f"You said: {number}"


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 50)), min_size=1, max_size=50))
def test_no_more_is_read_than_the_rate_lets_through(taken: list[tuple[float, float]]) -> None:
    now, total = 0.0, 0.0
    rate = Rate(5.0, 20.0, lambda: now)
    for pause, amount in taken:
        now += pause
        now += rate.take(amount)
        total += amount
        assert total <= 20.0 + 5.0 * now + 1e-6


async def test_lines_that_are_no_messages_are_passed_over(tmp_path: Path) -> None:
    async with running(tmp_path, tiny("chatty")) as server:
        assert await call(server, "echo", Use(text="hi")) == "You said: hi"


def test_the_wall_shows_only_what_was_said_and_no_secret() -> None:
    given = {"command": ["tool", "--x"], "env": {"KEY": "hidden"}, "network": False, "read": ["/data"]}
    command = " ".join(walled(ServerSettings.model_validate(given), Path("/home/tool"), "/usr/bin/bwrap"))
    assert "--unshare-all" in command
    assert "--share-net" not in command
    assert "--ro-bind /data /data" in command
    assert command.endswith("--bind /home/tool /home/tool --chdir /home/tool -- tool --x")
    assert "hidden" not in command


async def test_walled_in_a_program_sees_nothing_of_the_machine(tmp_path: Path) -> None:
    program, python = shutil.which("bwrap"), "/usr/bin/python3"
    if program is None or not Path(python).exists() or not await bubblewrap_works(program):
        pytest.skip("bubblewrap is not here, or can't be used")
    secret = tmp_path / "secret"
    secret.write_text("ours")
    looks = f"import os; print(os.path.exists({str(secret)!r}), os.path.exists('/root'), os.getcwd())"
    settings = ServerSettings(command=[python, "-c", looks])
    home = tmp_path / "home"
    home.mkdir()
    process = await asyncio.create_subprocess_exec(
        *walled(settings, home, program), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert said.decode().split() == ["False", "False", str(home)]


async def test_a_server_that_fails_just_as_it_is_left_leaves_nobodys_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = asyncio.Event()

    async def fails_when_left(_: Connection) -> None:
        connected.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the answer is too long")

    monkeypatch.setattr(Connection, "_connected", fails_when_left)
    left: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: left.append(context))
    connection = Connection("tiny", tiny(), tmp_path, LOG, partial(answering, "tiny"))
    run = asyncio.create_task(connection.run())
    await connected.wait()
    run.cancel()
    await asyncio.wait({run})
    del run
    gc.collect()
    assert left == []


async def test_nobody_holds_more_than_half_of_a_server_and_nothing_while_they_are_asked() -> None:
    slots, ends = Slots(4), asyncio.Event()
    held: list[str] = []

    async def holds(person: str) -> None:
        async with slots.taken(person) as hold:
            held.append(person)
            if person == "asked":
                async with hold.lent():
                    await ends.wait()
            await ends.wait()

    tasks = [asyncio.create_task(holds(person)) for person in ["greedy"] * 5 + ["asked"] * 2 + ["b", "c"]]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(held) == ["asked", "asked", "b", "c", "greedy", "greedy"]
    ends.set()
    await asyncio.gather(*tasks)
    assert held.count("greedy") == 5


async def test_a_call_that_ends_takes_with_it_what_was_asked_in_it() -> None:
    slots = Slots(1)
    async with slots.taken("a") as hold:
        asked = asyncio.create_task(hold.meanwhile(asyncio.Event().wait()))
        await asyncio.sleep(0)
    assert await asked is None
    async with asyncio.timeout(5), slots.taken("b"):
        pass


async def test_a_server_asks_the_model_as_often_as_it_may(tmp_path: Path) -> None:
    async with running(tmp_path, tiny(sampling_calls=1, sampling_tokens=50)) as server:
        use = Use()
        first, second = json.loads(await call(server, "sample", use))
        assert first["content"] == {"type": "text", "text": "the model says so"}
        assert "1 times in a call" in second["message"]
        turns, wishes = use.sampled[0]
        assert (list(turns), wishes["system"], wishes["max_tokens"]) == ([("user", "Hi")], "Be short.", 50)
    async with running(tmp_path, tiny()) as server:
        use = Use()
        assert all("code" in each for each in json.loads(await call(server, "sample", use)))
        assert not use.sampled
