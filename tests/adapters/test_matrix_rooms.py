"""Matrix: who is slow to let the bot come holds up nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters import matrix_bot
from adapters.scripted import echoing
from adapters.waiting import lawful
from conftest import until
from glmbot.store.base import Store
from platforms.matrix_server import BOT, MatrixServer


async def test_invitations_to_slow_homeservers_hold_up_no_other(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_matrix.rooms._MOST_S", 0.2)
    async with lawful(MatrixServer()) as server, matrix_bot.bot(server, echoing(), sqlite_store) as bot:
        client = bot._rooms._client
        join = client.join

        async def slowly(room: str) -> Any:
            return await (asyncio.Event().wait() if "slow" in room else join(room))

        monkeypatch.setattr(client, "join", slowly)
        # More than are asked for at once.
        for number in range(20):
            await server.invite(f"!slow{number}:test")
        await server.invite("!ours:test")
        await until(lambda: server.rooms["!ours:test"].members[BOT] == "join")
