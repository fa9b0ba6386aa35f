"""Several engines by name: what is loaded when, who gives way, and that the memory is never more than was stated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.scripted import ScriptedEngine
from glmbot.engine.base import Engine, EngineStats, Precision, PrecisionChange, Waits
from glmbot.engine.named import Memory, Model
from glmbot.engine.pool import Engines
from glmbot.engine.templated import answering_conversations
from glmbot.errors import EngineStopped, ModelFileError, ModelTooLarge, ModelUnavailable
from virtual_time import run_in_virtual_time

_WAITS = Waits((), (), 0, 0.0, None)
_HALF = {Precision.BF16: 1, Precision.FP32: 2}


class _Weighty(ScriptedEngine):
    """Of a stated size at bf16, and twice that at fp32."""

    precision = Precision.BF16
    precisions: Sequence[Precision] = (Precision.BF16, Precision.FP32)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.closed = False

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        before, self.precision = self.precision, precision
        await asyncio.sleep(1)
        return PrecisionChange(before, precision, 0, 0, 1.0, 1.0, 1.0)

    def stats(self) -> EngineStats:
        size = self.size * _HALF[self.precision]
        return EngineStats(
            "m", self.precision, 0, 0, 9, 0, 0, 0, 0, 0, 0, _WAITS, 0.0, 0, True, weight_bytes=size
        )

    async def close(self) -> None:
        assert not self.closed
        self.closed = True


class _Shelf:
    """Models that can be had, and how often each was loaded; no two are at once."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.loads: list[str] = []
        self.made: dict[str, _Weighty] = {}
        self.fails: set[str] = set()
        self.busy = False

    def model(self, name: str, *, at_start: bool = False) -> Model:
        size = self.sizes[name]

        async def start(report: Callable[[float], None]) -> Engine:
            assert not self.busy, "two are loaded at once"
            self.busy = True
            report(0.5)
            await asyncio.sleep(10)
            self.busy = False
            self.loads.append(name)
            if name in self.fails:
                raise ModelFileError(f"/models/{name}: config.json is missing")
            self.made[name] = _Weighty(size)
            return answering_conversations(self.made[name])

        def memory() -> Memory:
            return Memory(size, {precision: size * times for precision, times in _HALF.items()})

        return Model(name, start, memory if size else None, at_start=at_start)

    def engines(self, budget: int | None = None, **named: Any) -> Engines:
        first, *others = self.sizes
        models = [self.model(first, at_start=True), *(self.model(name) for name in others)]
        return Engines(models, budget=budget, clock=asyncio.get_running_loop().time, **named)


async def _ask(engines: Engines, name: str, lasts_s: float = 1.0) -> None:
    async with engines.use(name) as engine:
        assert not engine.tokens.closed  # pyright: ignore
        await asyncio.sleep(lasts_s)
        assert not engine.tokens.closed, "it was unloaded under who used it"  # pyright: ignore


def test_a_model_is_loaded_once_for_all_who_ask_and_others_go_on_meanwhile() -> None:
    async def main() -> None:
        shelf = _Shelf(a=5, b=5)
        engines = shelf.engines()
        await engines.start()
        assert (shelf.loads, engines.default, engines.names) == (["a"], "a", ["a", "b"])
        began = asyncio.get_running_loop().time()
        asked = [asyncio.create_task(_ask(engines, "b")) for _ in range(3)]
        await asyncio.sleep(1)
        assert [state.share for state in engines.states()] == [None, 0.5]
        assert (engines.ready("a"), engines.ready("b")) == (True, False)
        await _ask(engines, "a")
        assert asyncio.get_running_loop().time() - began < 3
        asked[0].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert shelf.loads == ["a", "b"]
        assert engines.find("B") == "b"
        assert engines.find("c") is None
        await engines.close()

    run_in_virtual_time(main())


def test_the_least_recently_used_gives_way_and_never_under_who_uses_it() -> None:
    async def main() -> None:
        shelf = _Shelf(a=4, b=4, c=4)
        engines = shelf.engines(budget=8)
        await engines.start()
        await _ask(engines, "b")
        await _ask(engines, "a")
        # b was used before a, but is in use.
        using = asyncio.create_task(_ask(engines, "b", 100))
        await asyncio.sleep(1)
        await _ask(engines, "c")
        assert engines.stats().keys() == {"b", "c"}
        assert engines.bytes == 8
        # Once a waits for the room of b nobody begins with that any more, however many come.
        keeping = asyncio.create_task(_ask(engines, "c", 500))
        await asyncio.sleep(1)
        back = asyncio.create_task(_ask(engines, "a"))
        await asyncio.sleep(1)
        late = asyncio.create_task(_ask(engines, "b"))
        await asyncio.gather(using, back)
        assert not late.done()
        await asyncio.gather(late, keeping)
        assert shelf.loads == ["a", "b", "c", "a", "b"]
        assert engines.stats().keys() == {"b", "c"}
        await engines.close()

    run_in_virtual_time(main())


def test_what_can_never_fit_is_refused_with_what_to_do_and_loads_nothing() -> None:
    async def main() -> None:
        shelf = _Shelf(a=4_000_000_000, b=9_000_000_000)
        engines = shelf.engines(budget=8_000_000_000)
        await engines.start()
        for asking in (engines.check("b"), _ask(engines, "b")):
            with pytest.raises(ModelTooLarge, match=r"b .* needs 9\.0 GB, and \[models\] memory_gb is 8\.0"):
                await asking
        assert shelf.loads == ["a"]
        assert engines.stats().keys() == {"a"}, "nobody gave way for nothing"
        await engines.close()

    run_in_virtual_time(main())


def test_room_that_does_not_get_free_is_waited_for_so_long_and_no_longer() -> None:
    async def main() -> None:
        shelf = _Shelf(a=4, b=5)
        engines = shelf.engines(budget=8, patience_s=30)
        await engines.start()
        using = asyncio.create_task(_ask(engines, "a", 100))
        await asyncio.sleep(1)
        with pytest.raises(ModelUnavailable, match="a is in use"):
            await _ask(engines, "b")
        assert engines.ready("a"), "it stays"
        await using
        await asyncio.sleep(20)
        await _ask(engines, "b")
        await engines.close()

    run_in_virtual_time(main())


def test_a_model_that_fails_is_not_loaded_anew_for_everybody_but_again_after_a_while() -> None:
    async def main() -> None:
        shelf = _Shelf(a=1, b=1)
        shelf.fails.add("b")
        engines = shelf.engines()
        await engines.start()
        for _ in range(3):
            with pytest.raises(ModelUnavailable, match=r"config\.json is missing"):
                await _ask(engines, "b")
        assert shelf.loads == ["a", "b"]
        assert [bool(state.trouble) for state in engines.states()] == [False, True]
        shelf.fails.clear()
        await asyncio.sleep(30)
        await _ask(engines, "b")
        assert not engines.states()[1].trouble
        await engines.close()

    run_in_virtual_time(main())


def test_what_nobody_asks_is_unloaded_but_what_was_there_at_the_start_stays() -> None:
    async def main() -> None:
        shelf = _Shelf(a=1, b=1)
        engines = shelf.engines(idle_s=600)
        await engines.start()
        running = asyncio.create_task(engines.run())
        await _ask(engines, "b", 1000)
        await asyncio.sleep(500)
        assert engines.ready("b")
        await asyncio.sleep(200)
        assert (engines.ready("b"), engines.ready("a"), engines.bytes) == (False, True, 1)
        assert shelf.made["b"].closed
        running.cancel()
        await engines.close()

    run_in_virtual_time(main())


def test_a_precision_concerns_one_model_and_keeps_to_the_memory() -> None:
    async def main() -> None:
        shelf = _Shelf(a=4, b=4, served=0)
        engines = shelf.engines(budget=10)
        await engines.start()
        await _ask(engines, "b")
        change = await engines.set_precision("b", Precision.FP32)
        assert (change.before, change.after) == (Precision.BF16, Precision.FP32)
        assert engines.stats().keys() == {"b"}, "a gave way to what b needs now"
        assert engines.bytes == 8
        assert engines.stats()["b"].precision is Precision.FP32
        await engines.close()

    run_in_virtual_time(main())


def test_whoever_waits_when_the_bot_ends_is_told() -> None:
    async def main() -> None:
        shelf = _Shelf(a=1, b=1)
        engines = shelf.engines()
        await engines.start()
        waiting = asyncio.create_task(_ask(engines, "b"))
        await asyncio.sleep(1)
        await engines.close()
        with pytest.raises(EngineStopped):
            await waiting

    run_in_virtual_time(main())


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_asked_in_whatever_order_all_are_answered_within_the_budget(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        shelf = _Shelf(a=3, b=5, c=2, d=7, far=0)
        engines = shelf.engines(budget=8, idle_s=60, patience_s=10_000)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, engines.bytes)
                await asyncio.sleep(0.5)

        async def person() -> None:
            for _ in range(8):
                name = dice.choice(engines.names)
                if dice.random() < 0.2 and name in ("a", "c"):
                    await engines.set_precision(name, dice.choice([Precision.BF16, Precision.FP32]))
                await _ask(engines, name, 20 * dice.random())
                await asyncio.sleep(50 * dice.random())

        await engines.start()
        others = [asyncio.create_task(watch()), asyncio.create_task(engines.run())]
        await asyncio.gather(*(person() for _ in range(8)))
        assert 0 < most <= 8
        for task in others:
            task.cancel()
        await engines.close()

    run_in_virtual_time(main())
