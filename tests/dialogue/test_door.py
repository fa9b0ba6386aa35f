"""What plug-ins register, and that one that breaks hurts nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, SecretStr

from adapters.scripted import ScriptedEngine
from conftest import make_dialogue
from glmbot import plugins as door
from glmbot.content import Text, ToolCall, ToolResult
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.manager import DialogueManager
from glmbot.engine.base import Conversation, PastExchange
from glmbot.engine.templated import TemplatedEngine
from glmbot.host import Call, Command, Exchange, Follows, Host, Tool, ToolUse
from glmbot.http.routes import Address, HttpAnswer, HttpCall, Route
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message, Reply, ReplyState, Role
from glmbot.plugins import Plugin, Plugins, load_plugins
from glmbot.registered import RegisteredCommandbox
from glmbot.store.base import Store
from glmbot.store.sqlite import SqliteStore
from virtual_time import run_in_virtual_time

SCHEMA = {"type": "object", "properties": {}}
_numbers = iter(range(1, 10**6))
_registered: dict[str, Any] = {}


def installed(monkeypatch: pytest.MonkeyPatch, **others: Any) -> None:
    """The built-in plug-ins, and these functions as if each had been installed."""
    found = [each for each in door.entry_points(group=door.GROUP) if each.name in door.BUILT_IN]
    _registered.clear()
    _registered.update(others)
    found += [EntryPoint(name, f"{__name__}:_registered.{name}", door.GROUP) for name in others]
    monkeypatch.setattr(door, "entry_points", lambda group: found)
    load = EntryPoint.load
    monkeypatch.setattr(
        EntryPoint, "load", lambda entry: others[entry.name] if entry.name in others else load(entry)
    )


def asked(text: str, user: str = "5", **changes: Any) -> Message:
    where = ConversationKey("telegram", str(int(user)))
    return Message(str(next(_numbers)), where, UserKey("telegram", str(int(user))), text, **changes)


async def replies_to(dialogue: DialogueManager, message: Message) -> list[Reply]:
    assert await dialogue.accept(message)
    async with aclosing(dialogue.respond(message)) as replies:
        got = [reply async for reply in replies]
    await dialogue.delivered(message)
    return got


async def last(dialogue: DialogueManager, text: str, user: str = "5", **changes: Any) -> Reply:
    return (await replies_to(dialogue, asked(text, user, **changes)))[-1]


# Whatever comes with the bot.
INSTALLED = {plugin.name for plugin in load_plugins(quiet=True).found}


def newest(plugins: Plugins) -> Plugin:
    return [plugin for plugin in plugins.found if plugin.name not in INSTALLED][-1]


def with_plugins(store: Store, plugins: Plugins | None = None, **changes: Any) -> DialogueManager:
    engine = ScriptedEngine(lambda prompt: "You said: " + prompt.rpartition("Q:")[2].removesuffix("\nA:"))
    return make_dialogue(engine, store, plugins=plugins or load_plugins(), **changes)


@asynccontextmanager
async def in_a_new_store(folder: Path, **changes: Any) -> AsyncGenerator[tuple[DialogueManager, Store]]:
    store = SqliteStore(folder / "s.sqlite3")
    await store.open()
    yield with_plugins(store, **changes), store
    await store.close()


async def roll(call: Call) -> Reply:
    return call.say("dice.rolled", sides=call.argument or "6")


WORDS = {
    "en": {"command.dice": "roll a die", "dice.rolled": "A die of {sides} sides."},
    "zh": {"command.dice": "掷骰子", "dice.rolled": "{sides} 面的骰子。"},
}


async def hear(message: Message) -> str:
    return "what was said"


async def shout(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    async for reply in following(exchange):
        yield Reply(reply.text.upper(), reply.state, reply.notice)


async def nothing(use: ToolUse) -> str:
    return ""


def hook(path: str, **changes: Any) -> Route:
    async def handle(call: HttpCall) -> HttpAnswer:
        return HttpAnswer(text=call.body.decode())

    return Route(path, lambda _: True, handle, **changes)


def test_what_is_registered_is_listed_and_whoever_raises_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def good(host: Host) -> None:
        host.words(**WORDS)
        host.command(Command("dice", roll, argument="SIDES"))
        host.tool(Tool("clock", "the time", SCHEMA, nothing))
        host.step("shout", shout, after="moderate")
        host.transform("voice", hear)
        host.route(hook("/plugins/good/hook"))

    def half(host: Host) -> None:
        host.words(**WORDS)
        host.tool(Tool("half", "", SCHEMA, nothing))
        raise RuntimeError("no luck")

    installed(monkeypatch, good=good, half=half)
    found = load_plugins({"nobody": {}})
    by_name = {plugin.name: plugin for plugin in found.found}
    assert list(by_name["good"].registered) == [
        "command /dice", "tool clock", "step shout (after moderate)", "transform voice",
        "route /plugins/good/hook",
    ]  # fmt: skip
    assert by_name["half"].trouble == "RuntimeError: no luck"
    assert "no plug-in of this name" in by_name["nobody"].trouble
    assert "half" not in found.tools
    assert list(found.routes) == ["/plugins/good/hook"]
    assert "the plug-in half is left out: RuntimeError: no luck" in caplog.text
    assert {"help", "new", "dice"} <= found.commands.keys()


def _wrong_words(host: Host) -> None:
    host.words(en={"a": "{x}"}, zh={"a": "{y}"})


def _half_words(host: Host) -> None:
    host.words(en={"a": ""}, zh={})


def _wordless(host: Host) -> None:
    host.command(Command("dice", roll))


def _taken(host: Host) -> None:
    host.command(Command("help", roll))


def _misplaced(host: Host) -> None:
    host.step("shout", shout, before="nothing")


def _unplaced(host: Host) -> None:
    host.step("shout", shout)


def _each_before_the_other(host: Host) -> None:
    host.step("shout", shout, before="whisper")
    host.step("whisper", shout, before="shout")


def _nameless(host: Host) -> None:
    host.tool(Tool("No Name", "", SCHEMA, nothing))


def _schemaless(host: Host) -> None:
    host.tool(Tool("tool", "", {"type": "string"}, nothing))


def _elsewhere(host: Host) -> None:
    host.route(hook("/plugins/other/hook"))


def _with_a_door(host: Host) -> None:
    host.route(hook("/plugins/odd/hook", door=Address("127.0.0.1", 1)))


def _greedy(host: Host) -> None:
    host.route(hook("/plugins/odd/hook", most_bytes=2**40))


def _twice(host: Host) -> None:
    host.route(hook("/plugins/odd/hook"))
    host.route(hook("/plugins/odd/hook"))


def _leaves(host: Host) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "register",
    [
        _wrong_words, _half_words, _wordless, _taken, _misplaced, _unplaced, _each_before_the_other, _nameless, _schemaless, _leaves,
        _elsewhere, _with_a_door, _greedy, _twice,
        None, 5,
    ],
)  # fmt: skip
def test_whatever_can_not_be_registered_is_named(monkeypatch: pytest.MonkeyPatch, register: Any) -> None:
    installed(monkeypatch, odd=register)
    found = load_plugins()
    assert newest(found).name == "odd"
    assert newest(found).trouble
    assert "dice" not in found.commands
    assert found.commands["help"].plugin == "commands"


class Weather(BaseModel):
    town: str
    key: SecretStr = SecretStr("")


def test_settings_are_checked_and_no_value_of_theirs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Weather] = []
    installed(monkeypatch, weather=lambda host: got.append(host.settings(Weather)))
    plugins = load_plugins({"weather": {"town": "Berlin", "key": "hush"}})
    assert got[0].town == "Berlin"
    assert plugins.secrets == ["hush"]
    wrong = newest(load_plugins({"weather": {"town": {"secret": "hush"}}})).trouble
    assert wrong == "[plugins.weather] town: Input should be a valid string"
    assert "[plugins.weather] town: Field required" in newest(load_plugins({})).trouble
    mistyped = newest(load_plugins({"weather": {"town": "Berlin", "kye": "hush"}})).trouble
    assert mistyped == "[plugins.weather] has no key 'kye'; did you mean 'key'?"


def test_what_breaks_tells_no_secret_of_its_settings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def weather(host: Host) -> None:
        key = host.settings(Weather).key.get_secret_value()
        raise ValueError(f"{'no such place: ' * 18}https://weather.example/?key={key}")

    installed(monkeypatch, weather=weather)
    plugins = load_plugins({"weather": {"town": "Berlin", "key": "hush-hush"}})
    assert "no such place" in newest(plugins).trouble
    assert "hush" not in newest(plugins).trouble + caplog.text
    assert plugins.secrets == ["hush-hush"], "what it has started may write it later"


class _Aliased(BaseModel):
    town: str = Field(alias="city")
    key: str = Field(default="", validation_alias=AliasChoices("token", AliasPath("secrets", "key")))


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_keys_may_have_other_names_and_any_name_where_a_model_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    got: list[Any] = []
    installed(monkeypatch, weather=lambda host: got.extend(map(host.settings, (_Aliased, _Open))))
    found = load_plugins({"weather": {"city": "Berlin", "secrets": {"key": "hush"}}})
    assert not newest(found).trouble
    assert (got[0].town, got[0].key, got[1].city) == ("Berlin", "hush", "Berlin")


def test_settings_that_nobody_reads_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, odd=lambda host: host.transform("voice", hear))
    found = load_plugins({"odd": {"key": 1}})
    assert "has no settings" in newest(found).trouble
    assert not found.transforms
    assert not newest(load_plugins({"odd": {}})).trouble
    moderation = load_plugins({"moderation": {"words_file": "words.txt"}}).found[1]
    assert moderation.trouble.endswith("this plug-in has no settings; what it does stands in [moderation]")


async def test_a_command_of_a_plug_in_is_obeyed_in_both_languages_and_listed(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store
) -> None:
    def register(host: Host) -> None:
        host.words(**WORDS)
        host.command(Command("dice", roll, argument="SIDES"))

    installed(monkeypatch, dice=register)
    dialogue = with_plugins(sqlite_store, language="auto")
    assert (await last(dialogue, "/dice 20")).notice == "A die of 20 sides."
    assert (await last(dialogue, "/dice", language="zh")).notice == "6 面的骰子。"
    assert "/dice SIDES – roll a die" in (await last(dialogue, "/help")).notice
    assert [info.name for info in dialogue.commands("en")][-1] == "dice"


class _Broken(Exception):
    pass


async def _raises(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    if exchange.message.text == "bad":
        raise _Broken
    async for reply in following(exchange):
        yield reply


async def _raises_in_the_middle(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    async for reply in following(exchange):
        if exchange.message.text == "bad" and reply.text:
            raise _Broken
        yield reply


async def _hangs(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    if exchange.message.text == "bad":
        await asyncio.Event().wait()
    async for reply in following(exchange):
        yield reply


async def _hangs_in_the_middle(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    async for reply in following(exchange):
        yield reply
        if exchange.message.text == "bad" and reply.text:
            await asyncio.Event().wait()


async def _says_nonsense(exchange: Exchange, following: Follows) -> AsyncGenerator[Any, None]:
    if exchange.message.text == "bad":
        yield "text"
    async for reply in following(exchange):
        yield reply


async def _forgets_the_end(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    async for reply in following(exchange):
        if exchange.message.text == "bad" and reply.state.ended:
            return
        yield reply


async def _clings(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    """To its task, and would have the rest done after all."""
    while exchange.message.text == "bad":
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(100)
            break
    async for reply in following(exchange):
        yield reply


async def _never_closes(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    try:
        if exchange.message.text == "bad":
            await asyncio.Event().wait()
        async for reply in following(exchange):
            yield reply
    finally:
        await asyncio.Event().wait()


async def _cancels_itself(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    if exchange.message.text == "bad":
        raise asyncio.CancelledError
    async for reply in following(exchange):
        yield reply


async def _leaves_the_process(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
    if exchange.message.text == "bad":
        raise SystemExit(3)
    async for reply in following(exchange):
        yield reply


def _no_generator(exchange: Exchange, following: Follows) -> Any:
    return None if exchange.message.text == "bad" else following(exchange)


_EVERYWHERE = ("admit", "quota", "await_turn", "recall", "record")
_STEPS = (
    _raises, _raises_in_the_middle, _hangs, _hangs_in_the_middle, _says_nonsense, _forgets_the_end, _no_generator,
)  # fmt: skip
_HOSTILE = (_clings, _never_closes, _cancels_itself, _leaves_the_process)


@pytest.mark.parametrize(
    ("step", "place"),
    [
        *((step, place) for step in _STEPS for place in _EVERYWHERE),
        *((step, place) for step in _HOSTILE for place in ("quota", "recall")),
    ],
)
def test_a_step_that_breaks_fails_its_exchange_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, step: Any, place: str
) -> None:
    """Others are answered meanwhile, and the next question in the same conversation is, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with in_a_new_store(tmp_path, deadline_s=30.0) as (dialogue, store):
            bad = asyncio.create_task(replies_to(dialogue, asked("bad")))
            await asyncio.sleep(0)
            behind = asyncio.create_task(replies_to(dialogue, asked("good")))
            assert (await last(dialogue, "hi", "6")).text == "You said: hi"
            assert loop.time() - began < 5
            end, behind_it = (await bad)[-1], (await behind)[-1]
            turns = await store.last_turns(ConversationKey("telegram", "5"), 9)
        assert end.state.ended
        assert loop.time() - began < 65
        # It failed, or its answer stands as it was recorded.
        assert ("odd" in end.notice and "failed" in end.notice) or end.text == "You said: bad"
        assert behind_it.text.endswith("You said: good")
        assert all(turn.answer for turn in turns)

    installed(monkeypatch, odd=lambda host: host.step("odd", step, before=place))
    run_in_virtual_time(main())


async def test_a_command_or_a_transform_that_breaks_is_said_and_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(call: Call) -> Reply:
        raise _Broken

    async def hangs(call: Call) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    async def grows(call: Call) -> AsyncGenerator[Reply, None]:
        yield Reply("", ReplyState.STREAMING, "half")

    async def hears(message: Message) -> str:
        if message.user.id in (6, "6"):
            raise _Broken
        return "what was said"

    def register(host: Host) -> None:
        lines = {f"command.{name}": name for name in ("breaks", "hangs", "grows")}
        host.words(en=lines, zh=lines)
        for command in (Command("breaks", breaks), Command("hangs", hangs), Command("grows", grows)):
            host.command(command)
        host.transform("voice", hears)

    installed(monkeypatch, odd=register)
    dialogue = with_plugins(sqlite_store, deadline_s=1.0)
    for name in ("breaks", "hangs", "grows"):
        reply = await last(dialogue, f"/{name}")
        assert reply.state is ReplyState.FAILED
        assert "odd" in reply.notice
    assert "/hangs took too long" in caplog.text
    assert (await last(dialogue, "", media="voice")).text == "You said: what was said"
    assert "only read text" in (await last(dialogue, "", "6", media="voice")).notice
    assert (await last(dialogue, "hello", "6", media="voice")).text == "You said: hello"


async def test_an_end_of_a_steps_own_is_recorded_like_any_other(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store
) -> None:
    async def refuses(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
        yield Reply("", ReplyState.FINAL, "not here")

    installed(monkeypatch, odd=lambda host: host.step("odd", refuses, before="recall"))
    dialogue = with_plugins(sqlite_store)
    message = asked("hi")
    assert await dialogue.accept(message)
    async with aclosing(dialogue.respond(message)) as replies:
        got = [reply async for reply in replies]
    assert got[-1].notice == "not here"
    stored = await sqlite_store.answer(message)
    assert stored is not None
    assert stored.notice == "not here"


async def test_steps_stand_in_the_order_that_they_name(
    monkeypatch: pytest.MonkeyPatch, sqlite_store: Store
) -> None:
    order: list[str] = []

    def step(name: str) -> Any:
        async def noted(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
            order.append(name)
            async for reply in following(exchange):
                yield reply

        return noted

    def a(host: Host) -> None:
        host.step("one", step("one"), after="two")
        host.step("two", step("two"), before="recall")
        host.step("three", step("three"), after="answer")

    installed(monkeypatch, a=a, b=lambda host: host.step("zero", step("zero"), before="two"))
    await last(with_plugins(sqlite_store), "hi")
    assert order == ["zero", "two", "one", "three"]


@pytest.mark.parametrize(
    ("step", "place"),
    [
        *((_hangs, place) for place in ("admit", "await_turn", "recall", "record")),
        *((_hangs_in_the_middle, place) for place in ("admit", "await_turn", "recall")),
        *((step, "recall") for step in (_clings, _never_closes)),
    ],
)
def test_a_step_that_hangs_ends_soon_after_stop_and_what_waits_behind_it_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, step: Any, place: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with in_a_new_store(tmp_path, deadline_s=300.0) as (dialogue, _):
            bad = asyncio.create_task(replies_to(dialogue, asked("bad")))
            await asyncio.sleep(5)
            assert not bad.done()
            began = loop.time()
            assert "Stopp" in (await last(dialogue, "/stop")).notice
            end = (await bad)[-1]
            assert loop.time() - began < 5
            assert end.state is ReplyState.STOPPED or end.text == "You said: bad", end
            assert (await last(dialogue, "good")).text.endswith("You said: good")

    installed(monkeypatch, odd=lambda host: host.step("odd", step, before=place))
    run_in_virtual_time(main())


def test_a_transform_that_hangs_ends_soon_after_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    async def hangs(message: Message) -> str:
        await asyncio.Event().wait()
        return ""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with in_a_new_store(tmp_path, deadline_s=300.0) as (dialogue, _):
            heard = asyncio.create_task(replies_to(dialogue, asked("", media="voice")))
            await asyncio.sleep(5)
            began = loop.time()
            await last(dialogue, "/stop")
            assert (await heard)[-1].state is ReplyState.STOPPED
            assert loop.time() - began < 3

    installed(monkeypatch, odd=lambda host: host.transform("voice", hangs))
    run_in_virtual_time(main())


async def test_what_a_step_says_came_of_a_question_is_told_with_the_next_one(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = (ToolCall("1", "look"), ToolResult("1", "2 + 2"), Text("A sum."))
    steps: list[Any] = [said, said[:2], [ToolResult("9", "of no call")], "rubbish", ()]

    async def looks(exchange: Exchange, following: Follows) -> AsyncGenerator[Reply, None]:
        exchange.said = steps.pop(0)
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply

    installed(monkeypatch, looker=lambda host: host.step("looker", looks, before="record"))
    dialogue = make_dialogue(ScriptedEngine("A sum."), store, plugins=load_plugins({}))
    told: list[Conversation] = []
    prepare = TemplatedEngine.prepare

    def prepared(engine: TemplatedEngine, conversation: Conversation, room: int) -> Any:
        told.append(conversation)
        return prepare(engine, conversation, room)

    monkeypatch.setattr(TemplatedEngine, "prepare", prepared)
    for text in ("one", "two", "three", "four", "five"):
        assert (await last(dialogue, text)).text == "A sum."
    expected = {"one": said, "two": said, "three": said[2:], "four": said[2:]}
    assert list(told[-1].past) == [PastExchange((Text(text),), parts) for text, parts in expected.items()]
    assert [turn.answer for turn in told[-1].turns] == ["A sum."] * 4
    assert caplog.text.count("what came of the question is left out") == 2


def test_more_commands_than_a_menu_takes_are_there_and_not_listed() -> None:
    class Box:
        def commands(self) -> Sequence[Command]:
            return [Command(f"b{number}", asks="ask", title={"en": "b"}) for number in range(150)]

    log = logging.getLogger("test")
    registered = load_plugins().commands
    words = next(iter(registered.values())).words
    commands = Commands(registered, {"box": RegisteredCommandbox("test", log, words, Box())})
    listed = [each.name for each in commands.listing("en", Role.ADMIN)]
    # https://core.telegram.org/bots/api#setmycommands; a Discord bot with more does not come up.
    assert len(listed) == 100
    assert set(registered) <= set(listed)
    assert "b149" in commands
