"""Several processes share the work of one bot over Redis, each conversation in order, also when one is killed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from chaos.kills import Counts, judge_conversations, settled, write_config
from chaos.people import SECRETS, TelegramPeople
from conftest import until
from glmbot.keys import ConversationKey
from glmbot.store.redis import RedisStore
from platforms.telegram_server import BOT, TelegramServer
from program import Program

CONVERSATIONS, MESSAGES, PROCESSES = 25, 5, 3


@pytest.fixture
def killed_at_last() -> Generator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("victim", ["nobody", "the one that polls"])
async def test_messages_of_many_are_answered_once_and_in_order(
    tmp_path: Path, tiny_model: Path, redis_url: str, victim: str, killed_at_last: ExitStack
) -> None:
    prefix = f"three-{victim.replace(' ', '-')}"
    telegram = TelegramServer(seconds_per_message=0.001, burst=100)
    people = TelegramPeople(telegram)
    await people.start()
    logs = [tmp_path / str(number) / "log.txt" for number in range(PROCESSES)]
    processes: dict[int, Program] = {}
    for number, log in enumerate(logs):
        log.parent.mkdir()
        section = f"kind = 'redis'\nurl = '{redis_url}'\nprefix = '{prefix}'\njournal_path = '{log.parent}/journal'\n"
        # Each says in its answers' notices how long they may be, which tells them apart.
        config = write_config(log.parent, tiny_model, people, section, tokens=5 + number)
        with log.open("w") as output:
            process = Program(
                "run", "--config", str(config), cwd=log.parent, environment=SECRETS, output=output
            )
        killed_at_last.callback(process.close)
        processes[process.pid] = process
    await until(lambda: all("is listening" in log.read_text() for log in logs), 300)

    asked: dict[ConversationKey, list[str]] = {}
    for number in range(MESSAGES):
        for user in range(1000, 1000 + CONVERSATIONS):
            asked.setdefault(ConversationKey("telegram", str(user)), []).append(f"question {number}")
            await telegram.say(f"question {number}", user=user)
    if victim != "nobody":
        await until(lambda: len(telegram.edits) > CONVERSATIONS * MESSAGES // 4, 300)
        leader = processes.pop(await polling(redis_url, prefix))
        leader.kill()
        assert await asyncio.to_thread(leader.wait) == -signal.SIGKILL
        assert len(telegram.edits) < CONVERSATIONS * MESSAGES * 3 // 4, "it died in the middle"

    store = RedisStore(redis_url, prefix=prefix)
    await store.open()
    counts = Counts()
    assert await settled(people, store, asked, within_s=600), [log.read_text()[-2000:] for log in logs]
    wrong = await judge_conversations(people, store, asked, counts)
    await store.close()
    for process in processes.values():
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    await people.stop()
    assert wrong == []
    assert (counts.lost, counts.doubled, counts.misordered) == (0, 0, 0)
    shown = "".join(text for key in asked for text in telegram.texts(int(key.chat)))
    shares = [shown.count(f"limit of {5 + number} tokens") for number in range(PROCESSES)]
    assert sum(shares) == CONVERSATIONS * MESSAGES
    # How the work falls is the operating system's affair: on a busy machine two may be done before the third begins.
    assert sum(share >= MESSAGES for share in shares) >= 2, f"the work is shared: {shares}"


async def polling(url: str, prefix: str) -> int:
    """The process that asks Telegram for news."""
    client = Redis.from_url(url, decode_responses=True)
    owner = await client.get(f"{prefix}:lease:poll telegram {BOT['id']}")
    await client.aclose()
    assert owner is not None
    return int(str(owner).split("/")[1])
