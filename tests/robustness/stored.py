"""A store as people leave it, and everything that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from glmbot.errors import StoreError
from glmbot.keys import UserKey
from glmbot.store.base import Store
from glmbot.store.blobs import keep
from glmbot.store.blobs import read as read_file
from glmbot.store.records import StoredAnswer
from robustness.talk import PLATFORM, said_by, talking
from robustness.watch import Watch, watching

__all__ = ["fill_store", "look_beside_somebody_else", "look_everywhere"]

_FORGOTTEN = 2
_LONGEST_LOOK_S = 300


async def fill_store(store: Store, people: Iterable[int]) -> None:
    """For each of them one row at least in each table, as a person leaves them."""
    for person in people:
        user = UserKey(PLATFORM, str(person))
        for number in (1, 2):
            asked = said_by(person, f"{person}-{number}", "why?")
            await store.accept(asked, 1.0)
            await store.finish(
                asked, StoredAnswer("blue", "final", ""), question="why?", at=1.0, ref=f"{number}"
            )
            await store.delivered(asked, [f"m{number}"])
        answered = said_by(person, f"{person}-3", "and?", origin={"query": "9"}, quoted="x")
        await store.accept(answered, 2.0)
        await store.mark(answered, {"sent": "5", "tries": "1"})
        await store.finish(
            answered, StoredAnswer("green", "final", "a notice"), question="and?", at=2.0, ref="3"
        )
        dead = said_by(person, f"{person}-4", "that one")
        await store.accept(dead, 3.0)
        await store.set_aside(dead, "it broke", 3.0)
        waits = said_by(person, f"{person}-5", "not yet")
        await store.accept(waits, 4.0)
        for content in (str(person).encode(), b"shared"):
            await keep(
                store, waits.conversation, user, content, media_type="text/plain", name=str(person), at=4.0
            )
        await store.set_setting(user, "limit", "5")
        await store.count(f"{PLATFORM}:{person}-3", {str(user): 5}, 1.0)


async def look_beside_somebody_else(store: Store, people: Iterable[int], what: str) -> None:
    """Everything that reads a store with `what` in it, while another person is answered from it."""
    async with talking(store) as talk, watching(talk.somebody_else) as watch:
        with watch.trying(what):
            async with asyncio.timeout(_LONGEST_LOOK_S):
                await look_everywhere(store, watch, people)


async def look_everywhere(store: Store, watch: Watch, people: Iterable[int]) -> None:
    """Everything that reads; each may refuse in words."""

    async def everything() -> None:
        async for _ in store.everything():
            pass

    async def files(user: UserKey | None) -> None:
        async for each in store.blobs(user):
            await store.blob(each.conversation, each.blob.digest)
            async for _ in read_file(store, each.conversation, each.blob):
                pass

    async def put_file(person: int) -> None:
        where = said_by(person, f"{person}-5", "not yet").conversation
        await keep(store, where, UserKey(PLATFORM, str(person)), b"shared", media_type="x", name="", at=5.0)

    reads: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.unfinished(PLATFORM), store.dead_letters, store.backlog, lambda: store.recent(0.0), store.all_settings,
        everything, partial(files, None),
    ]  # fmt: skip
    for person in people:
        user, message = UserKey(PLATFORM, str(person)), said_by(person, f"{person}-5", "not yet")
        reads += [
            partial(store.conversations, user), partial(store.export, user), partial(store.settings, user),
            partial(store.last_turns, message.conversation, 10), partial(store.turn_of, message.conversation, "m1"),
            partial(store.followers, message.conversation, [0, 1]), partial(store.lead, message.conversation, 1, {"m1": 1}),
            partial(files, user), partial(store.blob_bytes, user), partial(put_file, person),
            partial(store.answer, message), partial(store.counted, str(user), 5.0),
        ]  # fmt: skip
    # Each waits several times for the disk.
    reads += [partial(store.forget, UserKey(PLATFORM, str(person))) for person in sorted(people)[:_FORGOTTEN]]
    for read in reads:
        try:
            await read()
        except StoreError as error:
            if "Traceback" in str(error) or len(str(error)) > 2000:
                watch.blame(f"words: {error}")
        except Exception as error:
            watch.blame(f"{read}: {type(error).__name__}: {error}")
