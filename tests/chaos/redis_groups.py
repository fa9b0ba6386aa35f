"""What can happen to several Redis servers that work together: failovers of Sentinel, failovers and moves of a cluster.

Counted like the faults of one server.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from chaos.faults import under_fault
from chaos.kills import Counts, Zygote
from glmbot.keys import ConversationKey
from glmbot.store.redis import RedisStore
from redis_server import Cluster, Watched, serving

__all__ = ["redis_group_faults"]

_CONVERSATION = ConversationKey("telegram", "7")


async def the_master_is_killed(group: Watched) -> None:
    await group.first.kill()
    await group.promoted()


async def the_master_is_killed_and_comes_back(group: Watched) -> None:
    await the_master_is_killed(group)
    await group.first.start()


async def the_master_is_silent_and_comes_back(group: Watched) -> None:
    group.first.send(signal.SIGSTOP)
    await group.promoted()
    await asyncio.sleep(3)
    group.first.send(signal.SIGCONT)


async def another_master_is_asked_for(group: Watched) -> None:
    await group.sentinels[0].ask("SENTINEL", "FAILOVER", "glm")
    await group.promoted()


async def the_first_sentinel_dies_then_the_master(group: Watched) -> None:
    await group.sentinels[0].kill()
    await the_master_is_killed(group)


async def a_replica_dies(group: Watched) -> None:
    await group.replicas[0].kill()


async def both_replicas_die_and_come_back(group: Watched) -> None:
    """Meanwhile the master takes nothing."""
    for replica in group.replicas:
        await replica.kill()
    await asyncio.sleep(4)
    for replica in group.replicas:
        await replica.start()


async def the_nodes_master_is_killed(group: Cluster) -> None:
    slot = await _slot(group)
    master = await group.master_of(slot)
    await master.kill()
    await group.moved_from(slot, master)


async def the_nodes_master_is_killed_and_comes_back(group: Cluster) -> None:
    slot = await _slot(group)
    master = await group.master_of(slot)
    await master.kill()
    await group.moved_from(slot, master)
    await master.start()


async def the_nodes_master_is_silent_and_comes_back(group: Cluster) -> None:
    slot = await _slot(group)
    master = await group.master_of(slot)
    master.send(signal.SIGSTOP)
    await group.moved_from(slot, master)
    await asyncio.sleep(3)
    master.send(signal.SIGCONT)


async def another_master_of_the_node_is_asked_for(group: Cluster) -> None:
    slot = await _slot(group)
    master, replica = await group.master_of(slot), await group.replica_of(slot)
    await replica.ask("CLUSTER", "FAILOVER")
    await group.moved_from(slot, master)


async def the_conversation_moves(group: Cluster) -> None:
    slot = await _slot(group)
    await group.move(slot, await group.another_master(slot))


async def the_streams_move(group: Cluster) -> None:
    """What is not a conversation's own moves too: the work, the signals, the index of what is open."""
    for key in ("glmbot:work:telegram", "glmbot:signals", "glmbot:pending:telegram"):
        slot = await group.slot_of(key)
        await group.move(slot, await group.another_master(slot))


async def the_conversation_moves_there_and_back(group: Cluster) -> None:
    slot = await _slot(group)
    home = await group.master_of(slot)
    await group.move(slot, await group.another_master(slot))
    await group.move(slot, home)


_OF_SENTINEL: tuple[Callable[[Watched], Awaitable[None]], ...] = (
    the_master_is_killed,
    the_master_is_killed_and_comes_back,
    the_master_is_silent_and_comes_back,
    another_master_is_asked_for,
    the_first_sentinel_dies_then_the_master,
    a_replica_dies,
    both_replicas_die_and_come_back,
)
_OF_A_CLUSTER: tuple[Callable[[Cluster], Awaitable[None]], ...] = (
    the_nodes_master_is_killed,
    the_nodes_master_is_killed_and_comes_back,
    the_nodes_master_is_silent_and_comes_back,
    another_master_of_the_node_is_asked_for,
    the_conversation_moves,
    the_conversation_moves_there_and_back,
    the_streams_move,
)


async def redis_group_faults(zygote: Zygote, model: Path, only: str = "") -> Counts:
    counts = Counts()
    kinds: tuple[tuple[str, Any, tuple[Callable[[Any], Awaitable[None]], ...]], ...] = (
        ("sentinel", Watched, _OF_SENTINEL),
        ("cluster", Cluster, _OF_A_CLUSTER),
    )
    for place, kind, faults in kinds:
        for work in faults:
            name = f"{place}: {work.__name__.replace('_', ' ')}"
            if only not in name:
                continue
            with tempfile.TemporaryDirectory() as where:
                folder = Path(where)
                async with serving(kind(folder)) as group:
                    section = (
                        f"kind = 'redis'\nurl = '{group.url}'\njournal_path = '{folder}/journal.sqlite3'\n"
                    )
                    store = RedisStore(group.url)
                    await under_fault(
                        zygote, model, name, section, store, folder, partial(work, group), counts
                    )
    return counts


async def _slot(group: Cluster) -> int:
    return await group.slot_of(f"glmbot:{{{_CONVERSATION}}}:inbox")
