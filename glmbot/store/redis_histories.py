"""Turns in Redis: one by one, by person, by page; never all at once on the way of a message."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ConversationSummary
from glmbot.store.message_json import kept_json
from glmbot.store.records import ExportedConversation, StoredConversation, Turn
from glmbot.store.redis_connection import RedisConnection
from glmbot.store.redis_keys import TURN_PARTS, RedisKeys

__all__ = ["RedisHistories", "conversation_of", "moved_of", "number_of", "turn_body", "turns_of"]

_log = logging.getLogger(__name__)

_PAGE = 200
_MOST_FOLLOWERS = 5000
_LONGEST_NUMBER = 16
_COUNT = re.compile(r"[0-9]{1,18}", re.ASCII)


class RedisHistories:
    def __init__(self, connection: RedisConnection, keys: RedisKeys) -> None:
        self._connection = connection
        self._redis = connection.client
        self._ask, self._each = connection.ask, connection.each
        self._keys = keys

    async def last_turns(self, conversation: ConversationKey, limit: int, upto: int | None) -> list[Turn]:
        end = "" if upto is None else str(upto)
        keys = self._keys.all_of(conversation, ("tree", "meta"))
        found: list[str] = await self._connection.run("last_turns", keys, str(limit), end)
        return turns_of(zip(found[::2], found[1::2], strict=True))[::-1]

    async def followers(self, conversation: ConversationKey, turns: Sequence[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        key = self._keys.of(conversation, "children")
        for start in range(0, len(turns), _PAGE):
            page = turns[start : start + _PAGE]
            ask = self._redis.pipeline(transaction=False)
            for turn in page:
                ask.zrangebyscore(key, turn, turn, start=0, num=_MOST_FOLLOWERS)
            for turn, children in zip(page, await self._ask(ask.execute()), strict=True):
                # Of one score they stand in the order of their letters.
                if numbers := sorted(number for child in children if (number := number_of(child))):
                    found[turn] = numbers
        return found

    async def lead(self, conversation: ConversationKey, head: int, refs: Mapping[str, int]) -> bool:
        keys = self._keys.all_of(conversation, ("tree", "meta", "anchors", "refs"))
        pairs = [text for ref, turn in refs.items() for text in (ref, str(turn))]
        return await self._connection.run("lead", keys, str(head), *pairs) == 1

    async def turn_of(self, conversation: ConversationKey, ref: str) -> Turn | None:
        anchor: str | None = await self._ask(self._redis.hget(self._keys.of(conversation, "anchors"), ref))
        if anchor is None:
            return None
        found = await self.turns(conversation, [anchor.partition(" ")[0]])
        return found[0] if found else None

    async def shown(self, conversation: ConversationKey, turn: int) -> list[str]:
        places = await self._places(conversation, turn)
        return [ref for place, ref in places if place > 0]

    async def pieces(self, conversation: ConversationKey, turn: int) -> dict[str, int]:
        return {ref: -1 - place for place, ref in await self._places(conversation, turn) if place < 0}

    async def _places(self, conversation: ConversationKey, turn: int) -> list[tuple[int, str]]:
        """Of the messages that the turn's question and answer stand in, in order."""
        refs = await self._ask(self._redis.zrangebyscore(self._keys.of(conversation, "refs"), turn, turn))
        if not refs:
            return []
        anchors = await self._ask(self._redis.hmget(self._keys.of(conversation, "anchors"), refs))
        found: list[tuple[int, str]] = []
        for ref, anchor in zip(refs, anchors, strict=True):
            _, _, place = (anchor or "").partition(" ")
            later = place.startswith("-")
            number = number_of(place.removeprefix("-"))
            found.append((-number if later else number, ref))
        return sorted(found)

    async def turns(self, conversation: ConversationKey, ids: Sequence[str]) -> list[Turn]:
        if not ids:
            return []
        stored = await self._ask(self._redis.hmget(self._keys.of(conversation, "tree"), ids))
        return turns_of(
            (number, entry) for number, entry in zip(ids, stored, strict=True) if entry is not None
        )

    async def remove(self, conversation: ConversationKey, user: str, ids: Sequence[str]) -> int:
        """Take some turns of one person out."""
        keys = [*self._keys.all_of(conversation, TURN_PARTS), self._keys.turns_of(conversation, user)]
        return int(await self._connection.run("remove", keys, user, *ids))

    async def state(self, conversation: ConversationKey) -> str:
        """Another one after each removal. Who reads turns, or a message, to write them into this conversation asks
        before, and the scripts `copy` and `bring` write nothing after a removal."""
        meta = self._keys.of(conversation, "meta")
        counts = ["epoch", "removed"]
        found = await self._ask(self._redis.hmget(meta, counts))
        for place, (name, count) in enumerate(zip(counts, found, strict=True)):
            if count is not None and not _COUNT.fullmatch(count):
                # No script would find it equal to what it has, or could count on.
                _log.error("%s of %s in the store is damaged and begins anew", name, conversation)
                found[place] = str(time.time_ns() // 1000)
                await self._ask(self._redis.hset(meta, name, found[place]))
        epoch, removed = found
        return f"{epoch or 0} {removed or 0}"

    async def note(
        self, conversation: ConversationKey, user: UserKey, at: float, *, later: bool = False
    ) -> None:
        """Before a turn is appended: where to find it. later: what is known there may be newer."""
        index = self._redis.pipeline(transaction=False)
        index.zadd(self._keys.named(f"recent:{conversation.platform}"), {str(conversation): at}, gt=later)
        index.zadd(self._keys.owner(user, "places"), {str(conversation): at}, gt=later)
        # Until now they may have only written.
        index.persist(self._keys.owner(user, "places"))
        index.sadd(self._keys.named("platforms"), conversation.platform)
        # Also where turns are kept for ever: that may change.
        index.zadd(self._keys.named("ages"), {str(conversation): at}, nx=True)
        await self._ask(index.execute())

    async def unnote(self, conversation: ConversationKey, user: UserKey) -> None:
        """No turn came of it: whoever was forgotten meanwhile must not be mentioned again."""
        ask = self._redis.pipeline(transaction=False)
        for part in ("queue", "tree"):
            ask.exists(self._keys.of(conversation, part))
        ask.exists(self._keys.turns_of(conversation, user))
        waiting, turns, theirs = await self._ask(ask.execute())
        if not turns:
            recent = self._keys.named(f"recent:{conversation.platform}")
            await self._ask(self._redis.zrem(recent, str(conversation)))
            await self._ask(self._redis.zrem(self._keys.named("ages"), str(conversation)))
        if not theirs and not waiting:
            await self._ask(self._redis.zrem(self._keys.owner(user, "places"), str(conversation)))

    async def renote(self, conversation: ConversationKey, user: str) -> None:
        """After a turn was removed: their last one is another."""
        last = await self._ask(
            self._redis.zrange(self._keys.turns_of(conversation, user), -1, -1, withscores=True)
        )
        if last:
            key = self._keys.owner(user, "places")
            await self._ask(self._redis.zadd(key, {str(conversation): last[0][1]}, xx=True))

    async def places(self, user: UserKey) -> list[ConversationKey]:
        """Where this person has written, in a fixed order."""
        names = await self._ask(self._redis.zrange(self._keys.owner(user, "places"), 0, -1))
        return [found for name in sorted(names) if (found := conversation_of(name)) is not None]

    async def with_turns(self, user: UserKey) -> list[ConversationKey]:
        places = await self.places(user)
        counts = self._redis.pipeline(transaction=False)
        for conversation in places:
            counts.exists(self._keys.turns_of(conversation, user))
        found = await self._ask(counts.execute()) if places else []
        return [conversation for conversation, has in zip(places, found, strict=True) if has]

    async def summaries(
        self, user: UserKey, limit: int, before: tuple[float, str] | None
    ) -> list[ConversationSummary]:
        at, name = before or (float("inf"), "")
        key, offset = self._keys.owner(user, "places"), 0
        found: list[ConversationSummary] = []
        while len(found) < limit:
            page = await self._ask(
                self._redis.zrevrangebyscore(key, at, "-inf", start=offset, num=limit, withscores=True)
            )
            if not page:
                break
            offset += len(page)
            earlier = [
                (place, score) for place, score in page if before is None or (score, place) < (at, name)
            ]
            found += await self._summaries(user, earlier)
        return found[:limit]

    async def _summaries(
        self, user: UserKey, places: Sequence[tuple[str, float]]
    ) -> list[ConversationSummary]:
        ask = self._redis.pipeline(transaction=False)
        for place, _ in places:
            ask.zcard(self._keys.turns_of(place, user))
            ask.zrange(self._keys.turns_of(place, user), 0, 0)
        answers = await self._ask(ask.execute()) if places else []
        found: list[ConversationSummary] = []
        for (place, at), count, first in zip(places, answers[::2], answers[1::2], strict=True):
            conversation = conversation_of(place) if count else None
            if conversation is not None:
                titles = await self.turns(conversation, first)
                title = titles[0].question if titles else ""
                found.append(ConversationSummary(conversation, title, int(count), at))
        return found

    async def pages(self, user: UserKey) -> AsyncGenerator[ExportedConversation, None]:
        for conversation in await self.with_turns(user):
            key, start = self._keys.turns_of(conversation, user), 0
            while ids := await self._ask(self._redis.zrange(key, start, start + _PAGE - 1)):
                yield ExportedConversation(conversation, await self.turns(conversation, ids))
                start += len(ids)

    async def recent(self, since: float) -> list[ConversationKey]:
        found: set[str] = set()
        for platform in await self._ask(self._redis.smembers(self._keys.named("platforms"))):
            key, start = self._keys.named(f"recent:{platform}"), 0
            while page := await self._ask(
                self._redis.zrangebyscore(key, since, "+inf", start=start, num=1000)
            ):
                ask = self._redis.pipeline(transaction=False)
                for name in page:
                    ask.exists(self._keys.of(name, "tree"))
                found |= {name for name, has in zip(page, await self._ask(ask.execute()), strict=True) if has}
                start += len(page)
        return [key for name in sorted(found) if (key := conversation_of(name)) is not None]

    async def everything(self) -> AsyncGenerator[StoredConversation, None]:
        for conversation in await self.recent(float("-inf")):
            # A scan may find one twice while others write.
            turns: dict[int, Turn] = {}
            async for number, entry in self._each(
                self._redis.hscan_iter(self._keys.of(conversation, "tree"), count=_PAGE)
            ):
                turns |= {turn.id: turn for turn in turns_of([(number, entry)])}
            head = await self._ask(self._redis.hget(self._keys.of(conversation, "meta"), "head"))
            if turns:
                yield StoredConversation(
                    conversation, [turns[number] for number in sorted(turns)], number_of(head)
                )

    async def put(self, stored: StoredConversation) -> bool:
        conversation = stored.conversation
        if not stored.turns or await self._ask(self._redis.exists(self._keys.of(conversation, "tree"))):
            return False
        for user in {turn.user for turn in stored.turns}:
            last = max(turn.at for turn in stored.turns if turn.user == user)
            await self.note(conversation, user, last)
        oldest = {str(conversation): min(turn.at for turn in stored.turns)}
        recent = {str(conversation): max(turn.at for turn in stored.turns)}
        await self._ask(self._redis.zadd(self._keys.named(f"recent:{conversation.platform}"), recent))
        await self._ask(self._redis.zadd(self._keys.named("ages"), oldest))
        write = self._redis.pipeline(transaction=True)
        for turn in stored.turns:
            self.write_turn(write, conversation, turn)
        meta = self._keys.of(conversation, "meta")
        write.hincrby(meta, "epoch", 1)
        write.persist(meta)
        write.hset(meta, mapping={"last_id": max(turn.id for turn in stored.turns), "head": stored.head})
        await self._ask(write.execute())
        return True

    def write_turn(self, write: Any, conversation: ConversationKey, turn: Turn) -> None:
        """Add the commands that write a turn with its indexes to a pipeline."""
        body = turn_body(turn.question, turn.answer, turn.ref, turn.thought, turn.parts)
        write.hset(
            self._keys.of(conversation, "tree"),
            str(turn.id),
            f"{turn.parent} {turn.user} {turn.at!r}\n{body}",
        )
        write.zadd(self._keys.of(conversation, "children"), {str(turn.id): turn.parent})
        write.sadd(self._keys.of(conversation, "people"), str(turn.user))
        write.zadd(self._keys.turns_of(conversation, turn.user), {str(turn.id): turn.at})
        if turn.ref:
            write.hset(self._keys.of(conversation, "anchors"), turn.ref, f"{turn.id} 0")
            write.zadd(self._keys.of(conversation, "refs"), {turn.ref: turn.id})


def turn_body(question: str, answer: str, ref: str, thought: str, parts: str) -> str:
    """What says nothing is not written, as earlier releases did not."""
    body = {"question": question, "answer": answer, "ref": ref}
    more = {name: text for name, text in (("thought", thought), ("parts", parts)) if text}
    return json.dumps({**body, **more}, ensure_ascii=False)


def turns_of(stored: Iterable[tuple[str, str]]) -> list[Turn]:
    """Damaged ones are left out: one of them must not cost the whole history."""
    found: list[Turn] = []
    for number, entry in stored:
        try:
            head, _, body = entry.partition("\n")
            parent, user, at = head.split(" ")
            fields = kept_json(body)
            texts = (fields["question"], fields["answer"], fields["ref"])
            texts += (fields.get("thought", ""), fields.get("parts", ""))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("a text is none")
            question, answer, ref, thought, parts = texts
            who, place = UserKey.parse(user), int(parent)
            found.append(Turn(int(number), who, question, answer, float(at), place, ref, thought, parts))
        except (ValueError, TypeError, KeyError) as error:
            _log.error("turn %.40r in the store is damaged and is left out: %s", number, type(error).__name__)
    return found


def number_of(text: str | None) -> int:
    """0 for what is none, or damaged."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER else 0


def moved_of(text: str | None) -> tuple[ConversationKey, int, int, int] | None:
    """Where a conversation went, what is added to its ids, the last id with room there, and its head."""
    name, *numbers = (text or "").split(" ")
    conversation = conversation_of(name) if len(numbers) == 3 else None
    if conversation is None:
        return None
    shift, upto, head = map(number_of, numbers)
    return conversation, shift, upto, head


def conversation_of(text: str) -> ConversationKey | None:
    """None, and a word in the log, for what nobody can have written there but damage."""
    try:
        return ConversationKey.parse(text)
    except ValueError:
        _log.error("the store holds a conversation that is none, which is left out: %.100r", text)
        return None
