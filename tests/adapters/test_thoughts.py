"""What a model thinks is shown folded where it is to be seen, and nowhere else, however its answer was cut."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import aiohttp
import pytest
from discord import Client, Intents
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from telegram import Bot

from adapters import discord_bot, telegram_bot
from adapters.discord_bot import MENTION
from adapters.scripted import ScriptedEngine
from adapters.telegram_bot import USER
from adapters.web_site import ScriptedDialogue, browser, scripted_site
from conftest import until
from glmbot.delivery.outlet import Outlet
from glmbot.delivery.split import utf16_length
from glmbot.delivery.thoughts import without_thoughts
from glmbot.engine.base import FinishReason, Progress
from glmbot.engine.thoughts import apart
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState
from glmbot.store.base import Store
from glmbot_console.delivery import print_replies
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.render import render_thought as discord_thought
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.render import render_thought as telegram_thought
from glmbot_web.delivery import Stream
from glmbot_web.events import _event, _Frame
from platforms.discord_server import DiscordServer
from platforms.telegram_server import TelegramServer

WHOLE = "<think>\nSECRET: they want a sum.\n</think>\n\n**4**"
ASKED = Message("1", ConversationKey("telegram", str(USER)), UserKey("telegram", str(USER)), "2+2?", ref="1")


async def replies_of(text: str, cuts: Sequence[int], *, hidden: bool) -> list[Reply]:
    """Snapshots of this text of a model, as an adapter is given them."""

    async def says() -> AsyncGenerator[Progress, None]:
        for at in sorted(cuts):
            yield Progress(text[:at])
        yield Progress(text, FinishReason.STOP)

    async def respond(_: Any) -> AsyncGenerator[Reply, None]:
        async for progress in apart(says()):
            state = ReplyState.STREAMING if progress.finish is None else ReplyState.FINAL
            thinks = progress.thought and not progress.text
            yield Reply(progress.text, state, "Thinking…" if thinks else "", thought=progress.thought)

    dialogue: Any = ScriptedDialogue(script=respond)
    dialogue = without_thoughts(dialogue) if hidden else dialogue
    return [reply async for reply in dialogue.respond(ASKED)]


def outlets() -> list[Outlet]:
    message = Message("1", ConversationKey("discord", "5", "7"), UserKey("discord", "7"), "2+2?", ref="1")
    client = Client(intents=Intents.none())
    return [
        TelegramOutlet(cast(Bot, None), ASKED, thoughts="Thoughts"),
        ChannelOutlet(client, message, lambda _: "Thoughts"),
    ]


async def seen_of(replies: list[Reply]) -> list[str]:
    """Everything that some platform would have been sent."""
    seen: list[str] = []
    for outlet in outlets():
        seen += [repr(piece) for reply in replies for piece in outlet.cut(reply)]
    stream, before = Stream(ASKED), None
    for version, reply in enumerate(replies, 1):
        frame = _Frame(version, reply, [reply.text])
        seen.append(json.dumps(_event(before, frame)))
        before = frame
    del stream
    out = io.StringIO()

    async def again() -> AsyncGenerator[Reply]:
        for reply in replies:
            yield reply

    await print_replies(again(), Console(file=out, force_terminal=True, width=80))
    return [*seen, out.getvalue()]


@given(
    st.lists(
        st.tuples(st.text("SECRT \n`*|", max_size=30), st.text("abc *\n", max_size=30)),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.integers(0, 300), max_size=12),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
async def test_where_it_is_hidden_nothing_of_it_is_sent_wherever_the_text_was_cut(
    told: list[tuple[str, str]], cuts: list[int], unfinished: bool
) -> None:
    text = "".join(f"<think>\nSECRET{secret}\n</think>\n{said}\n" for secret, said in told)
    text += "<think>SECRET" if unfinished else ""
    for words in await seen_of(await replies_of(text, cuts, hidden=True)):
        assert "SECRET" not in words
        assert "think" not in words.replace("Thinking…", "")
        assert "<" not in words.replace("<strong>", "")


async def test_where_it_is_shown_it_comes_folded_before_the_answer() -> None:
    replies = await replies_of(WHOLE, range(len(WHOLE)), hidden=False)
    for outlet in outlets():
        *_, last = replies
        thought, answer = outlet.cut(last)
        assert (thought.thought, thought.text, answer.text) == ("SECRET: they want a sum.", "", "**4**")
        thinking = [piece for reply in replies if not reply.text for piece in outlet.cut(reply)]
        assert {(piece.text, piece.thought) for piece in thinking} == {("", "")}


@given(st.text(max_size=400) | st.text("a _*|<>`\n", min_size=3000, max_size=9000))
@settings(max_examples=30, deadline=None)
async def test_a_thought_of_any_length_is_one_message_that_its_platform_takes(text: str) -> None:
    reply = Reply("4", ReplyState.FINAL, thought=f"begins {text} ends")
    of_telegram, of_discord = (outlet.cut(reply)[0].thought for outlet in outlets())
    words, entities = telegram_thought(of_telegram, "Thoughts")
    assert utf16_length(words) <= 4096
    assert entities[0].length == utf16_length(words)
    assert len(discord_thought(of_discord, "Thoughts")) <= 2000
    for thought in (of_telegram, of_discord):
        assert thought.startswith("begins")
        assert thought.endswith("ends")


def test_on_discord_no_thought_steps_out_from_behind_its_bars() -> None:
    content = discord_thought("a || b\n# c\n```\nd |", "Thoughts")
    assert content == "-# Thoughts\n||a \\|\\| b\n\\# c\n\\`\\`\\`\nd | ||"


@pytest.mark.parametrize("shown", [True, False])
async def test_on_telegram(telegram: TelegramServer, sqlite_store: Store, shown: bool) -> None:
    engine: Any = ScriptedEngine(WHOLE, steps=len(WHOLE), step_s=0.005)
    async with telegram_bot.bot(telegram, engine, sqlite_store, settings={"show_thoughts": shown}):
        await telegram.say("2+2?")
        await telegram_bot.answered(telegram, sqlite_store, 1)
        await telegram.say("and 3+3?")
        await telegram_bot.answered(telegram, sqlite_store, 2)
        written = [text for versions in telegram.edits.values() for text in versions]
        texts = telegram.texts(USER)
        assert texts == ["Thoughts\nSECRET: they want a sum.", "4"] * 2 if shown else ["4", "4"]
        assert ("SECRET" in str(written)) is shown
        assert "SECRET" not in engine.prompts[-1]
        assert "Thinking…" in str(written)
        assert not telegram.violations


@pytest.mark.parametrize("shown", [True, False])
async def test_on_discord(discord: DiscordServer, sqlite_store: Store, shown: bool) -> None:
    engine: Any = ScriptedEngine(WHOLE, steps=len(WHOLE), step_s=0.005)
    async with discord_bot.bot(discord, engine, sqlite_store, settings={"show_thoughts": shown}):
        await discord.say(f"{MENTION} 2+2?")
        await discord_bot.answered(sqlite_store, 1)
        await until(lambda: discord.texts()[-1:] == ["**4**"])
        expected = ["-# Thoughts\n||SECRET: they want a sum. ||", "**4**"] if shown else ["**4**"]
        assert discord.texts() == expected


@pytest.mark.parametrize("shown", [True, False])
async def test_over_http(shown: bool) -> None:
    async def script(_: Any) -> AsyncGenerator[Reply, None]:
        for thought, text in (("SEC", ""), ("SECRET", ""), ("SECRET", "4")):
            yield Reply(text, ReplyState.STREAMING, thought=thought)
        yield Reply("4", ReplyState.FINAL, finish_reason="stop", thought="SECRET")

    body: dict[str, Any] = {"messages": [{"role": "user", "content": "2+2?"}]}
    dialogue = ScriptedDialogue(script=script)
    async with scripted_site(dialogue, show_thoughts=shown) as site, browser() as client:
        url = f"{site.url}/v1/chat/completions"
        answer = await (await client.post(url, json=body)).json()
        message = answer["choices"][0]["message"]
        assert (message["content"], message.get("reasoning_content")) == ("4", "SECRET" if shown else None)
        deltas = await _deltas(await client.post(url, json={**body, "stream": True}))
        thought = [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta]
        assert "".join(thought) == ("SECRET" if shown else "")
        assert "".join(delta.get("content", "") for delta in deltas) == "4"
        page = {"id": "12345678", "conversation": 5, "text": "2+2?"}
        await client.get(site.url)
        await client.post(f"{site.url}/api/messages", json=page)
        name = dialogue.accepted[0].update_id
        events = await (await client.get(f"{site.url}/api/streams/{name}")).text()
        assert ("SECRET" in events) is shown
        person = dialogue.accepted[0].user.id
        dialogue.kept[ConversationKey("web", "5", str(person))] = [("r", "2+2?", "4", 1, (), "SECRET")]  # type: ignore[list-item]
        kept = await (await client.get(f"{site.url}/api/conversations/5")).json()
        assert kept["turns"][0]["thought"] == ("SECRET" if shown else "")


async def _deltas(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    lines = (await response.text()).splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [event["choices"][0]["delta"] for event in events]
