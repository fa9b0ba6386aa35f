"""Platforms that can't be reached, refuse us, fail, hang or change: each goes its own way, and it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, SecretStr

from glmbot.background import Troubles
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.registry import Routes
from glmbot.http.routes import HttpAnswer, HttpCall, Route
from glmbot.platforms import Platforms, check
from glmbot.tokens import TokenSettings
from virtual_time import run_in_virtual_time


class Settings(BaseModel):
    word: str = ""


@dataclass
class World:
    """Which platforms are there, and what their adapters did."""

    away: dict[str, Exception] = field(default_factory=dict[str, Exception])
    running: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    tries: dict[str, int] = field(default_factory=dict[str, int])
    most_at_once: int = 0
    hangs_on_stop: bool = False
    falls: dict[str, Exception | None] = field(default_factory=dict[str, Exception | None])

    def maker(self, name: str) -> Callable[..., Any]:
        world = self

        class Adapter:
            def __init__(self, settings: Settings, dialogue: object) -> None:
                self.word = settings.word

            async def start(self) -> None:
                world.tries[name] = world.tries.get(name, 0) + 1
                await asyncio.sleep(0.3)
                if (error := world.away.get(name)) is not None:
                    raise error
                world.running.setdefault(name, []).append(self.word)
                world.most_at_once = max(world.most_at_once, len(world.running[name]))

            async def run(self) -> None:
                await asyncio.sleep(5)
                while name not in world.falls:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
                error = world.falls.pop(name)
                if error is not None:
                    raise error

            async def stop(self) -> None:
                if world.hangs_on_stop:
                    await asyncio.Event().wait()
                if self.word in world.running.get(name, []):
                    world.running[name].remove(self.word)

        return Adapter

    def platforms(self, *names: str, troubles: Troubles | None = None) -> Platforms:
        makers = {name: self.maker(name) for name in names}
        return Platforms(makers, None, troubles or Troubles())  # pyright: ignore[reportArgumentType]


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_in_virtual_time(test())

    run.__name__ = test.__name__
    return run


@in_virtual_time
async def test_one_that_is_away_at_the_start_is_tried_again_while_the_others_work() -> None:
    world, troubles = World(away={"b": AdapterError("b is away"), "c": OSError("broken")}), Troubles()
    platforms = world.platforms("a", "b", "c", troubles=troubles)
    platforms.begin({name: Settings() for name in "abc"})
    await asyncio.sleep(30)
    assert world.running == {"a": [""]}
    assert {each.part for each in troubles.now} == {"b", "c"}
    assert all(each.partial for each in troubles.now)
    assert "b: b is away" in map(str, troubles.now)
    assert 4 <= world.tries["b"] <= 6, "ever more patiently"
    world.away.clear()
    await asyncio.sleep(61)
    assert world.running == {"a": [""], "b": [""], "c": [""]}
    assert troubles.now == []
    assert not platforms.ended.done()
    await platforms.stop()
    assert world.running == {"a": [], "b": [], "c": []}


@pytest.mark.parametrize("error", [AdapterError("gone"), RuntimeError("a fault")])
def test_one_that_fails_while_it_runs_comes_back(error: Exception) -> None:
    async def main() -> None:
        world, troubles = World(), Troubles()
        platforms = world.platforms("a", "b", troubles=troubles)
        platforms.begin({"a": Settings(), "b": Settings()})
        await asyncio.sleep(10)
        world.falls["a"] = error
        await asyncio.sleep(0.2)
        assert [each.part for each in troubles.now] == ["a"]
        await asyncio.sleep(10)
        assert troubles.now == []
        assert not platforms.ended.done()
        await platforms.stop()

    run_in_virtual_time(main())


@in_virtual_time
async def test_when_the_only_one_refuses_us_the_process_ends_with_its_words() -> None:
    world = World(away={"a": PlatformRefused("[a] token: it is not known")})
    platforms = world.platforms("a")
    platforms.begin({"a": Settings()})
    with pytest.raises(AdapterError, match="it is not known"):
        await asyncio.wait_for(platforms.ended, 10)
    await platforms.stop()


@in_virtual_time
async def test_one_that_refuses_us_takes_no_other_with_it() -> None:
    world, troubles = World(away={"a": PlatformRefused("no"), "b": AdapterError("away")}), Troubles()
    platforms = world.platforms("a", "b", troubles=troubles)
    platforms.begin({"a": Settings(), "b": Settings()})
    await asyncio.sleep(100)
    assert not platforms.ended.done(), "b may come yet"
    world.away.pop("b")
    await asyncio.sleep(61)
    assert world.running["b"] == [""]
    assert [each.part for each in troubles.now] == ["a"]
    await platforms.stop()


@in_virtual_time
async def test_a_terminal_that_was_closed_ends_the_process() -> None:
    world = World()
    platforms = world.platforms("a", "b")
    platforms.begin({"a": Settings(), "b": Settings()})
    await asyncio.sleep(10)
    world.falls["a"] = None
    await asyncio.wait_for(platforms.ended, 10)
    await platforms.stop()


@in_virtual_time
async def test_of_changes_that_follow_each_other_the_last_one_counts_and_none_runs_twice() -> None:
    world = World()
    platforms = world.platforms("a", "b", "c")
    platforms.begin({"a": Settings(word="1"), "b": Settings(word="1")})
    await asyncio.sleep(2)
    for number in range(2, 12):
        platforms.change({"a": Settings(word=str(number)), "c": Settings(word=str(number))})
        await asyncio.sleep(0.17)
    await asyncio.sleep(10)
    assert world.running == {"a": ["11"], "b": [], "c": ["11"]}
    assert world.most_at_once == 1
    assert not platforms.ended.done()
    await platforms.stop()


@in_virtual_time
async def test_one_that_can_not_start_after_a_change_is_tried_again() -> None:
    world, troubles = World(), Troubles()
    platforms = world.platforms("a", "b", troubles=troubles)
    platforms.begin({"a": Settings(word="1"), "b": Settings(word="1")})
    await asyncio.sleep(2)
    world.away["a"] = AdapterError("the port is taken")
    platforms.change({"a": Settings(word="2"), "b": Settings(word="2")})
    await asyncio.sleep(5)
    assert world.running == {"a": [], "b": ["2"]}
    assert str(troubles.now[0]) == "a: the port is taken"
    world.away.clear()
    await asyncio.sleep(60)
    assert world.running["a"] == ["2"]
    assert troubles.now == []
    await platforms.stop()


@in_virtual_time
async def test_those_that_hang_when_they_are_stopped_do_so_at_the_same_time() -> None:
    """Whoever stops the process waits for the slowest of them, not for one after the other."""
    world = World(hangs_on_stop=True)
    platforms = world.platforms("a", "b", "c")
    platforms.begin({"a": Settings(), "b": Settings(), "c": Settings()})
    await asyncio.sleep(2)
    await asyncio.wait_for(platforms.stop(), 31)


class Token(TokenSettings):
    pass


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no token; set GLMBOT_A__TOKEN"),
        (b"", "is empty"),
        (b"\xff\xfe", "is no text"),
        (b"a token\nand another", "holds more than a token"),
        (b"x" * 10**6, "holds more than a token"),
        ("folder", "Is a directory"),
        ("missing", "No such file"),
    ],
)
def test_a_token_that_can_not_be_read_is_known_before_anything_is_loaded(
    tmp_path: Path, content: bytes | str | None, complaint: str
) -> None:
    file = tmp_path / "token"
    if content == "folder":
        file.mkdir()
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(AdapterError, match=complaint) as raised:
        check({"a": object}, {"a": Token(token_file=None if content is None else file)})
    assert "another" not in str(raised.value)


def test_what_runs_already_is_not_looked_at_again() -> None:
    seen: list[object] = []

    class Maker:
        @staticmethod
        def check(settings: Settings, running: Settings | None) -> None:
            seen.append((settings.word, running and running.word))

    makers = {"a": Maker, "b": object}
    check(makers, {"a": Settings(word="1"), "b": Settings()})
    check(makers, {"a": Settings(word="1")}, {"a": Settings(word="1")})
    check(makers, {"a": Settings(word="2")}, {"a": Settings(word="1")})
    assert seen == [("1", None), ("2", "1")]
    check({"a": object}, {"a": Token(token=SecretStr("5:x"))})


class Answering:
    """An adapter that answers over HTTP, and is away at first; it notes whether it is open at each moment."""

    seen: ClassVar[list[tuple[str, bool]]] = []
    tries: ClassVar[list[str]] = []
    server: ClassVar[list[Routes]] = []

    def __init__(self, settings: Settings, dialogue: object) -> None:
        self._note("made")

    def _note(self, when: str) -> None:
        self.seen.append((when, any(each.find("/hook") for each in self.server)))

    def routes(self) -> Sequence[Route]:
        async def handle(_: HttpCall) -> HttpAnswer:
            return HttpAnswer()

        return [Route("/hook", lambda _: True, handle)]

    async def start(self) -> None:
        self._note("starts")
        self.tries.append("")
        if len(self.tries) < 2:
            raise AdapterError("away")

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self._note("stops")


class Serving(Answering):
    """The one that answers for all."""

    def __init__(self, settings: Settings, dialogue: object) -> None: ...

    def serve_routes(self, routes: Routes) -> None:
        self.server.append(routes)

    def routes(self) -> Sequence[Route]:
        return ()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@in_virtual_time
async def test_what_an_adapter_answers_over_http_is_open_while_it_runs_and_no_longer() -> None:
    makers = {"one": Answering, "web": Serving}
    platforms = Platforms(makers, None, Troubles())  # pyright: ignore[reportArgumentType]
    platforms.begin({"web": Settings(), "one": Settings()})
    await asyncio.sleep(3)
    (routes,) = Answering.server
    assert routes.find("/hook") is not None
    await platforms.stop()
    assert routes.find("/hook") is None
    assert [each for each in Answering.seen if each[0] != "made"] == [
        ("starts", True), ("stops", False), ("starts", True), ("stops", False)
    ]  # fmt: skip
