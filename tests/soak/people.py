"""Simulated people on three platforms. Each asks, waits until the answer has visibly ended, thinks, and asks again; some
stop, retry, break off, or come back later."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp

from platforms.discord_server import CHANNEL_ID, DiscordServer
from platforms.telegram_server import TelegramServer

__all__ = ["DiscordPerson", "Person", "ProgramPerson", "TelegramPerson", "Watch", "WebPerson"]

PATIENCE_S = 120.0
THINKS_S = 20.0
_EVERY_S = 0.1
_WORDS = [
    "what",
    "how",
    "why",
    "when",
    "tell",
    "me",
    "about",
    "the",
    "story",
    "of",
    "a",
    "fox",
    "and",
    "你好",
    "世界",
    "please",
    "explain",
    "numbers",
    "1",
    "2",
    "3",
]


@dataclass
class Watch:
    """What all people saw. `waits` and `ends`: seconds until the first word, and until the end."""

    ends_at: float
    counts: Counter[str] = field(default_factory=Counter[str])
    waits: list[float] = field(default_factory=list[float])
    ends: list[float] = field(default_factory=list[float])
    unanswered: list[str] = field(default_factory=list[str])

    @property
    def over(self) -> bool:
        return time.monotonic() > self.ends_at


class Person:
    def __init__(self, number: int, watch: Watch) -> None:
        self.number = number
        self.watch = watch
        self.dice = random.Random(number)

    async def live(self) -> None:
        await asyncio.sleep(self.dice.uniform(0, THINKS_S))
        while not self.watch.over:
            self.watch.counts["questions"] += 1
            self.watch.counts[f"questions, {type(self).__name__.removesuffix('Person')}"] += 1
            try:
                await self.ask()
            except TimeoutError:
                self.watch.unanswered.append(
                    f"{type(self).__name__} {self.number}: {self.last}; seen: {self.sight()}"
                )
            await asyncio.sleep(self.dice.expovariate(1 / THINKS_S))

    last = ""

    def sight(self) -> object:
        """What stands on the screen, for the report."""
        return ""

    async def ask(self) -> None:
        """Raises TimeoutError when no end was seen."""
        raise NotImplementedError

    def words(self) -> str:
        self.last = (
            " ".join(self.dice.choices(_WORDS, k=self.dice.randint(2, 30))) + f" #{self.dice.random():.9f}"
        )
        return self.last

    async def see(self, begun: Callable[[], bool], ended: Callable[[], bool]) -> None:
        began = time.monotonic()
        waited = False
        async with asyncio.timeout(PATIENCE_S):
            while not ended():
                if not waited and begun():
                    waited = True
                    self.watch.waits.append(time.monotonic() - began)
                await asyncio.sleep(_EVERY_S)
        if not waited:
            self.watch.waits.append(time.monotonic() - began)
        self.watch.ends.append(time.monotonic() - began)


class TelegramPerson(Person):
    def __init__(self, number: int, watch: Watch, telegram: TelegramServer, group: int | None = None) -> None:
        super().__init__(number, watch)
        self._telegram = telegram
        self._group = group
        self._chat = number if group is None else group

    async def ask(self) -> None:
        text = self.words() if self._group is None else f"@glm_test_bot {self.words()}"
        if self.dice.random() < 0.05:
            text = self.dice.choice(["/help", "/context", "/whoami", "/queue"])
            text = text if self._group is None else f"{text}@glm_test_bot"
        self.last = text
        asked = self._asked = await self._telegram.say(text, user=self.number, chat=self._group)
        stops = self.dice.random() < 0.08
        if stops:
            await asyncio.sleep(self.dice.uniform(0, 3))
            if shown := self._shown(asked):
                await self._press(shown[-1], "stop")
        await self.see(lambda: bool(self._shown(asked)), lambda: self._ended(asked))
        if not stops and not text.startswith("/") and self.dice.random() < 0.05:
            await self._retry(self._shown(asked)[-1])

    def sight(self) -> object:
        messages = self._telegram.messages[self._chat]
        newer = [each for each in messages if each > self._asked]
        return [
            (
                each,
                messages[each].get("replies_to"),
                str(messages[each].get("text"))[:20],
                self._telegram.buttons(self._chat, each),
            )
            for each in newer[:6]
        ]

    async def _retry(self, message_id: int) -> None:
        before = len(self._telegram.edits[self._chat, message_id])
        if await self._press(message_id, "retry"):
            self.watch.counts["retries"] += 1
            changed = lambda: len(self._telegram.edits[self._chat, message_id]) > before  # noqa: E731
            await self.see(changed, lambda: changed() and not self._growing(message_id))

    async def _press(self, message_id: int, command: str) -> bool:
        if command not in self._telegram.buttons(self._chat, message_id):
            return False
        await self._telegram.press(message_id, command, user=self.number, chat=self._group)
        self.watch.counts[f"pressed {command}"] += 1
        return True

    def _shown(self, asked: int) -> list[int]:
        """Messages that answer this one and say something."""
        return [
            message_id
            for message_id, message in sorted(self._telegram.messages[self._chat].items())
            if message_id > asked
            and message.get("text", "") != "…"
            and (self._group is None or message.get("replies_to") == asked)
        ]

    def _growing(self, message_id: int) -> bool:
        return "stop" in self._telegram.buttons(self._chat, message_id)

    def _ended(self, asked: int) -> bool:
        newer = [each for each in self._telegram.messages[self._chat] if each > asked]
        texts = [self._telegram.messages[self._chat][each].get("text") for each in newer]
        shown = self._shown(asked)
        waits = self._group is None and "…" in texts
        return bool(shown) and not waits and not any(self._growing(each) for each in shown)


class DiscordPerson(Person):
    def __init__(
        self, number: int, watch: Watch, discord: DiscordServer, *, direct: bool, mention: str
    ) -> None:
        super().__init__(number, watch)
        self._discord = discord
        self._direct = direct
        self._mention = mention

    async def ask(self) -> None:
        text = self.words() if self._direct else f"{self._mention} {self.words()}"
        asked = self._asked = await self._discord.say(text, user=self.number, direct=self._direct)
        await self.see(lambda: bool(self._shown(asked)), lambda: self._ended(asked))

    def sight(self) -> object:
        return [
            (each["id"], str(each["content"])[:20], str(each["components"])[:80])
            for each in self._shown(self._asked)
        ]

    def _shown(self, asked: int) -> list[dict[str, object]]:
        channel = self._discord.direct_channel(self.number) if self._direct else CHANNEL_ID
        return [
            message
            for message_id, message in self._discord.messages[channel].items()
            if message_id > asked
            and message["content"] != "…"
            and (self._direct or str((message["reference"] or {}).get("message_id")) == str(asked))
        ]

    def _ended(self, asked: int) -> bool:
        shown = self._shown(asked)
        return bool(shown) and not any(":stop:" in json.dumps(each["components"]) for each in shown)


class WebPerson(Person):
    """A page in a browser, whose connection sometimes breaks and is made again."""

    def __init__(self, number: int, watch: Watch, url: str) -> None:
        super().__init__(number, watch)
        self._url = url

    async def live(self) -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as self._session:
            async with self._session.get(self._url):
                pass
            await super().live()

    async def ask(self) -> None:
        body = {
            "id": f"p{self.number}-{self.dice.random():.12f}".replace(".", "-"),
            "conversation": 1,
            "text": self.words(),
        }
        async with asyncio.timeout(PATIENCE_S):
            async with self._session.post(f"{self._url}/api/messages", json=body) as answer:
                assert answer.status == 202, await answer.text()
                stream = f"{self._url}/api/streams/{(await answer.json())['stream']}"
            if self.dice.random() < 0.08:
                stop = {"id": f"{body['id']}-stop", "conversation": 1, "text": "/stop"}
                await asyncio.sleep(self.dice.uniform(0, 2))
                async with self._session.post(f"{self._url}/api/messages", json=stop):
                    self.watch.counts["pressed stop"] += 1
            began, waited = time.monotonic(), False
            breaks = self.dice.random() < 0.15
            while True:
                async with self._session.get(stream) as events:
                    async for line in events.content:
                        if not line.startswith(b"data: ") or line.strip() == b"data: {}":
                            continue
                        event = json.loads(line[6:])
                        if not waited and event["text"]:
                            waited = True
                            self.watch.waits.append(time.monotonic() - began)
                        if breaks and event["text"]:
                            breaks = False
                            self.watch.counts["pages that lost their connection"] += 1
                            break
                        if event["state"] not in ("queued", "streaming"):
                            self.watch.ends.append(time.monotonic() - began)
                            return


class ProgramPerson(Person):
    """A program at the OpenAI interface, which sometimes goes away in the middle."""

    def __init__(self, number: int, watch: Watch, url: str) -> None:
        super().__init__(number, watch)
        self._url = url

    async def ask(self) -> None:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": self.words()}]}
        leaves = self.dice.random() < 0.3
        began, waited = time.monotonic(), False
        async with (
            asyncio.timeout(PATIENCE_S),
            aiohttp.ClientSession() as session,
            session.post(f"{self._url}/v1/chat/completions", json=body) as events,
        ):
            if events.status == 429:
                self.watch.counts["programs told to wait"] += 1
                return
            assert events.status == 200, await events.text()
            async for line in events.content:
                if not waited and b'"content"' in line:
                    waited = True
                    self.watch.waits.append(time.monotonic() - began)
                    if leaves:
                        self.watch.counts["programs that left in mid-answer"] += 1
                        return
                if line.strip() == b"data: [DONE]":
                    self.watch.ends.append(time.monotonic() - began)
                    return
        raise TimeoutError
