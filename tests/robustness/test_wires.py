"""The worst values in every field of what comes over a platform's connection, beside somebody else's answer."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.waiting import until_async
from conftest import until
from glmbot.dialogue.access import Access
from glmbot.keys import UserKey
from glmbot.store.base import Store
from robustness.scripted import QUESTION, SAID, ScriptedEngine
from robustness.values import cases, sampled
from robustness.watch import watching
from robustness.wires import WIRES, Wire

_SOMEBODY_ELSE = 4711
EVENTS = [(kind, name) for kind in WIRES for name in kind.examples]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "event"), EVENTS, ids=[f"{kind.name} {name}" for kind, name in EVENTS])
async def test_the_worst_that_comes_over_a_connection_harms_nobody_else(
    sqlite_store: Store, kind: type[Wire], event: str
) -> None:
    wire = kind()
    await wire.server.start()
    engine: Any = ScriptedEngine()
    access = Access(admins={UserKey(wire.name, wire.administrator)}, open_platforms={wire.name})

    async def somebody_else() -> None:
        before = list(wire.seen(_SOMEBODY_ELSE)).count(SAID)
        await wire.say(QUESTION, _SOMEBODY_ELSE)
        await until(lambda: list(wire.seen(_SOMEBODY_ELSE)).count(SAID) > before)

    settings = dict(wire.settings)
    async with wire.bot(
        engine, sqlite_store, access=access, settings=settings, pending_per_user=10**5
    ) as wire.adapter:
        await wire.say("known", 7)
        wire.topic = event
        async with watching(somebody_else, left_out={"aiohttp.server"}) as watch:
            for case in sampled(cases(wire.examples[event]), 8):
                text = watch.own(lambda case=case: case.text.encode("utf-8", "replace").decode())
                if len(text) * 4 >= wire.most_bytes:
                    continue
                with watch.trying(f"{event}: {case}"):
                    await wire.put(text)
                    await wire.taken()
        await until_async(lambda: sqlite_store.unfinished(wire.name), lambda left: not left)
    await wire.server.stop()
