"""Coalesced edits, floods, outages: in virtual time, so that minutes take milliseconds."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.delivery.abilities import Ability
from glmbot.delivery.once import Once
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Missing,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
)
from glmbot.delivery.pace import Pace
from glmbot.delivery.stream import BrokenOff, show
from glmbot.errors import ClaimLost
from glmbot.messages import Attachment, Reply, ReplyState
from virtual_time import run_in_virtual_time

FINAL = "".join(f"word{number} " for number in range(200)).strip()


async def growing(
    text: str = FINAL, step_s: float = 0.05, ends: ReplyState = ReplyState.FINAL
) -> AsyncGenerator[Reply]:
    for end in range(0, len(text), 7):
        yield Reply(text[:end], ReplyState.STREAMING)
        await asyncio.sleep(step_s)
    yield Reply(text, ends)


@dataclass
class Chat(Outlet):
    """A platform's chat: one write a `law_s` seconds, floods and outages as told, 300 characters a message."""

    law_s: float = 1.0
    latency_s: float = 0.1
    outages: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    gone_after: int = 10**9
    messages: dict[str, Piece | Attachment] = field(default_factory=dict)
    writes: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    held_until: float = 0.0
    sends_once: bool = True
    sent_words: list[str] = field(default_factory=list)
    requests: int = 0
    drafts: bool = False
    edits: bool = True
    drafted: list[str] = field(default_factory=list)
    typed: list[float] = field(default_factory=list)

    @property
    def abilities(self) -> frozenset[Ability]:
        wanted = {Ability.DRAFT: self.drafts, Ability.ONCE: self.sends_once, Ability.EDIT: self.edits}
        return frozenset(Ability) - {each for each, there in wanted.items() if not there}

    def cut(self, reply: Reply) -> Sequence[Piece]:
        text = reply.text
        pieces = [text[start : start + 300] for start in range(0, len(text), 300)] or [""]
        return [*map(Piece, pieces[:-1]), Piece(pieces[-1], reply.notice)]

    async def _request(self) -> None:
        self.requests += 1
        await asyncio.sleep(self.latency_s)
        now = asyncio.get_running_loop().time()
        if self.requests > self.gone_after:
            raise Gone("blocked")
        if self.requests in self.outages:
            raise Unreachable("no network")
        wait = max(self.held_until - now, (self.writes[-1] + self.law_s - now) if self.writes else 0)
        if wait > 1e-9:
            self.refused.append(now)
            raise Flooded(wait)
        self.writes.append(now)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        await self._request()
        name = f"m{len(self.messages) + self.requests * 1000}"
        self.messages[name] = item
        self.sent_words.append(item.text if isinstance(item, Piece) else item.name)
        return name

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        await self._request()
        if message_id not in self.messages or self.requests in self.lost:
            self.messages.pop(message_id, None)
            raise Missing(message_id)
        self.messages[message_id] = item

    async def remove(self, message_id: str) -> None:
        await self._request()
        if message_id not in self.messages:
            raise Missing(message_id)
        del self.messages[message_id]

    async def draft(self, piece: Piece) -> None:
        await self._request()
        self.drafted.append(piece.text)

    async def typing(self) -> None:
        self.typed.append(asyncio.get_running_loop().time())

    @property
    def text(self) -> str:
        return "".join(item.text for item in self.messages.values() if isinstance(item, Piece))

    @property
    def attachments(self) -> list[Attachment]:
        return [item for item in self.messages.values() if isinstance(item, Attachment)]


def test_the_answer_is_seen_growing_and_writes_keep_their_pace() -> None:
    chat = Chat()
    run_in_virtual_time(show(growing(), chat, Pace(1.0)))
    assert chat.text == FINAL
    assert len(chat.writes) > 5
    assert chat.refused == []


@given(
    st.integers(0, 10**6),
    st.floats(0.05, 3.0),
    st.floats(0.0, 2.0),
    st.sets(st.integers(1, 40), max_size=10),
    st.lists(st.tuples(st.floats(0, 20), st.floats(0, 60)), max_size=4),
)
def test_whatever_floods_and_outages_come_the_final_text_arrives(
    seed: int, base: float, latency: float, outages: set[int], holds: list[tuple[float, float]]
) -> None:
    chat = Chat(latency_s=latency, outages=outages)
    dice = random.Random(seed)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for at, length in holds:
            loop.call_at(at, lambda until: setattr(chat, "held_until", until), at + length)
        await show(growing(step_s=dice.random() / 5), chat, Pace(base))

    run_in_virtual_time(main())
    assert chat.text == FINAL
    # A flood answer is obeyed, so a hold costs a refusal or two and never a storm of them.
    assert len(chat.refused) <= 30


def test_the_next_answers_first_message_never_stands_above_this_ones_last() -> None:
    """Two questions in a row, and an answer that needs several messages."""
    chat, pace = Chat(), Pace(1.0)

    async def main() -> None:
        first_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def first() -> None:
            await show(growing(FINAL), chat, pace)
            first_done.set_result(None)

        async def notice() -> AsyncGenerator[Reply]:
            yield Reply("", ReplyState.FINAL, "a command's word")

        await asyncio.gather(
            first(),
            show(growing("SECOND"), chat, pace, after=[first_done]),
            show(notice(), chat, pace, after=[first_done]),
        )

    run_in_virtual_time(main())
    pieces = [item for item in chat.messages.values() if isinstance(item, Piece)]
    assert "".join(piece.text for piece in pieces) == f"{FINAL}SECOND"
    assert "a command's word" in [piece.notice for piece in pieces[:2]], "it waits for nobody"


def test_one_chats_flood_holds_no_other_chat() -> None:
    held, free = Chat(held_until=30.0), Chat()

    async def timed(chat: Chat) -> float:
        await show(growing(), chat, Pace(1.0))
        return asyncio.get_running_loop().time()

    async def main() -> tuple[float, float]:
        first, second = await asyncio.gather(timed(held), timed(free))
        return first, second

    held_ended, free_ended = run_in_virtual_time(main())
    assert held_ended >= 30
    assert free_ended < 15
    assert held.text == free.text == FINAL


def test_five_chats_under_a_simulated_flood_keep_the_law_and_get_every_final_text() -> None:
    """Telegram's law, one write a second; two chats are refused for 30 s in mid-answer, twice."""

    async def main(holds: bool) -> tuple[list[Chat], list[float]]:
        chats = [Chat(law_s=1.0) for _ in range(5)]
        loop = asyncio.get_running_loop()
        if holds:
            for number, at in ((0, 3.0), (0, 40.0), (1, 5.0), (1, 36.0)):
                loop.call_at(at, lambda chat=chats[number], at=at: setattr(chat, "held_until", at + 30))

        async def answer(chat: Chat) -> float:
            await show(growing(FINAL * 3, step_s=0.09), chat, Pace(1.0))
            return loop.time()

        return chats, list(await asyncio.gather(*map(answer, chats)))

    flooded, ended = run_in_virtual_time(main(True))
    _, undisturbed = run_in_virtual_time(main(False))
    assert [chat.text for chat in flooded] == [FINAL * 3] * 5
    assert ended[2:] == undisturbed[2:], "a chat that is not held waits for nobody"
    last_hold_ends = (70.0, 66.0)
    assert all(hold < end < hold + 25 for hold, end in zip(last_hold_ends, ended[:2], strict=True))
    for chat in flooded:
        minutes = [sum(start <= at < start + 60 for at in chat.writes) for start in chat.writes]
        assert max(minutes) <= 60
        assert len(chat.refused) <= 4, "each hold costs a refusal or two"
    # The figures in docs/platforms.md.
    assert [
        (round(end), len(chat.writes), len(chat.refused)) for chat, end in zip(flooded, ended, strict=True)
    ] == [
        (82, 18, 2),
        (87, 19, 2),
        (58, 59, 0),
        (58, 59, 0),
        (58, 59, 0),
    ]


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 2.0),
    st.floats(0.0, 1.5),
    st.lists(st.floats(0.2, 12.0), max_size=4),
    st.lists(st.tuples(st.floats(0, 25), st.floats(0, 40)), max_size=3),
)
def test_whatever_restarts_and_floods_come_the_final_text_stands_once(
    seed: int, base: float, latency: float, lives: list[float], holds: list[tuple[float, float]]
) -> None:
    """Each life of the process ends without warning; the next one knows what the last one had recorded."""
    chat, recorded = Chat(latency_s=latency), list[str]()
    dice = random.Random(seed)

    async def on_sent(ids: Sequence[str]) -> None:
        recorded[:] = ids

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for at, length in holds:
            loop.call_at(at, lambda until: setattr(chat, "held_until", until), at + length)
        for life in lives:
            answer = show(
                growing(step_s=dice.random() / 4), chat, Pace(base), sent=list(recorded), on_sent=on_sent
            )
            process = asyncio.ensure_future(answer)
            await asyncio.wait({process}, timeout=life)
            process.cancel()
            await asyncio.wait({process})
        await show(growing(step_s=0.1), chat, Pace(base), sent=list(recorded), on_sent=on_sent)

    run_in_virtual_time(main())
    assert chat.text == FINAL
    assert list(chat.messages) == recorded


def test_after_a_restart_the_old_messages_are_edited_and_what_is_too_much_removed() -> None:
    chat = Chat(
        messages={"a": Piece("old"), "b": Piece("old"), "c": Piece("old"), "d": Piece("old"), "e": Piece("x")}
    )
    run_in_virtual_time(show(growing(FINAL[:700]), chat, Pace(1.0), sent=["a", "b", "c", "d", "e"]))
    assert list(chat.messages) == ["a", "b", "c"]
    assert chat.text == FINAL[:700]


def test_message_ids_are_reported_before_anything_else_is_written() -> None:
    chat = Chat()
    reported: list[tuple[int, int]] = []

    async def on_sent(ids: Sequence[str]) -> None:
        reported.append((len(ids), chat.requests))

    run_in_virtual_time(show(growing(), chat, Pace(1.0), on_sent=on_sent))
    assert [count for count, _ in reported] == list(range(1, len(chat.messages) + 1))
    assert reported[0] == (1, 1)


def test_a_message_that_somebody_deleted_is_sent_anew() -> None:
    chat = Chat(lost={4})
    run_in_virtual_time(show(growing(FINAL[:250]), chat, Pace(1.0)))
    assert chat.text == FINAL[:250]


def test_a_chat_that_is_gone_cancels_the_generation() -> None:
    closed: list[bool] = []

    async def endless() -> AsyncGenerator[Reply]:
        try:
            while True:
                yield Reply("x", ReplyState.STREAMING)
                await asyncio.sleep(1)
        finally:
            closed.append(True)

    with pytest.raises(Gone):
        run_in_virtual_time(show(endless(), Chat(gone_after=0), Pace(1.0)))
    assert closed == [True]


def test_a_file_comes_after_the_text_and_silence_stays_silence() -> None:
    chat, file = Chat(), Attachment("a.json", b"{}", "application/json")

    async def with_file() -> AsyncGenerator[Reply]:
        yield Reply("", ReplyState.FINAL, "here it is", attachment=file)

    async def nothing() -> AsyncGenerator[Reply]:
        return
        yield Reply("", ReplyState.FINAL)

    run_in_virtual_time(show(with_file(), chat, Pace(1.0)))
    assert chat.attachments == [file]
    silent = Chat()
    assert run_in_virtual_time(show(nothing(), silent, Pace(1.0))) is None
    assert silent.requests == 0


@given(st.integers(0, 10**6), st.lists(st.floats(0.2, 9.0), max_size=5))
def test_where_a_send_can_be_doubled_it_says_nothing_so_that_no_crash_doubles_a_word(
    seed: int, lives: list[float]
) -> None:
    """The process dies at any moment, also between the platform's taking a message and its record."""
    chat, recorded = Chat(law_s=0.0, sends_once=False), list[str]()
    dice = random.Random(seed)
    file = Attachment("a.json", b"{}", "application/json")

    async def answer() -> AsyncGenerator[Reply]:
        async for reply in growing(step_s=0.1):
            yield replace(reply, attachment=file) if reply.state.ended else reply

    async def on_sent(ids: Sequence[str]) -> None:
        await asyncio.sleep(dice.random())
        recorded[:] = ids

    async def main() -> None:
        for life in [*lives, 300.0]:
            shown = show(answer(), chat, Pace(0.5), sent=list(recorded), on_sent=on_sent)
            process = asyncio.ensure_future(shown)
            await asyncio.wait({process}, timeout=life)
            process.cancel()
            await asyncio.wait({process})

    run_in_virtual_time(main())
    assert not any(chat.sent_words), "words and files come by edits alone"
    left_behind = [item for name, item in chat.messages.items() if name not in recorded]
    assert all(item == Piece("", "…") or item == Piece("") for item in left_behind)
    assert chat.text == FINAL
    assert chat.attachments == [file]


def test_with_drafts_only_what_will_not_change_is_sent() -> None:
    chat = Chat(drafts=True)
    run_in_virtual_time(show(growing(), chat, Pace(1.0)))
    assert chat.text == FINAL
    assert len(chat.drafted) > 5
    # One request for each message and none to edit it.
    assert len(chat.writes) == len(chat.messages) + len(chat.drafted)


def test_typing_is_shown_until_the_first_word_and_never_after_the_end() -> None:
    async def late(silence_s: float, ends: bool) -> AsyncGenerator[Reply]:
        yield Reply("", ReplyState.QUEUED)
        await asyncio.sleep(silence_s)
        if not ends:
            yield Reply("a word", ReplyState.STREAMING)
            await asyncio.sleep(60)
        yield Reply("a word" if not ends else "", ReplyState.FAILED, "it broke")

    async def main(ends: bool) -> Chat:
        chat = Chat()
        await show(late(14.0, ends), chat, Pace(1.0))
        await asyncio.sleep(60)
        return chat

    for ends in (True, False):
        chat = run_in_virtual_time(main(ends))
        assert 3 <= len(chat.typed) <= 5
        assert max(chat.typed) < 15


def test_many_who_wait_hold_up_nobody_s_answer_by_being_shown_that_it_comes() -> None:
    async def waiting() -> AsyncGenerator[Reply]:
        yield Reply("", ReplyState.QUEUED)
        await asyncio.Event().wait()

    async def main() -> tuple[float, int]:
        everybody = Pace(0.5)
        chats = [Chat() for _ in range(100)]
        waits = [asyncio.create_task(show(waiting(), chat, Pace(1.0, within=everybody))) for chat in chats]
        await asyncio.sleep(200)
        begun = asyncio.get_running_loop().time()
        await show(growing("a word", 0.0), Chat(), Pace(1.0, within=everybody))
        took = asyncio.get_running_loop().time() - begun
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        return took, sum(len(chat.typed) for chat in chats)

    took, typed = run_in_virtual_time(main())
    assert took < 10
    assert typed > 100


def test_who_asks_many_questions_in_a_row_sees_typing_for_the_first() -> None:
    async def main() -> Chat:
        chat, pace = Chat(), Pace(1.0)
        first_done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def waiting() -> AsyncGenerator[Reply]:
            yield Reply("", ReplyState.QUEUED)
            await asyncio.wait([first_done])
            await asyncio.sleep(6)
            yield Reply("an answer", ReplyState.FINAL)

        waits = [asyncio.create_task(show(waiting(), chat, pace, after=[first_done])) for _ in range(20)]
        await asyncio.sleep(100)
        assert chat.typed == []
        first_done.set_result(None)
        await asyncio.gather(*waits)
        return chat

    assert run_in_virtual_time(main()).typed


@pytest.mark.parametrize("error", [RuntimeError("a bug"), None])
def test_an_answer_that_breaks_off_is_not_delivered(error: Exception | None) -> None:
    async def breaking() -> AsyncGenerator[Reply]:
        yield Reply("so far", ReplyState.STREAMING)
        await asyncio.sleep(5)
        if error is not None:
            raise error

    with pytest.raises(BrokenOff if error is None else type(error)):
        run_in_virtual_time(show(breaking(), Chat(), Pace(1.0)))


class Panic(BaseException):
    """What a library in Rust raises is no Exception."""


@pytest.mark.parametrize("ends", [Panic, asyncio.CancelledError])
@pytest.mark.parametrize("said", [True, False])
def test_whatever_ends_an_answer_nobody_waits_for_it(ends: type[BaseException], said: bool) -> None:
    """Also a wait inside that somebody else has cancelled."""

    async def breaking() -> AsyncGenerator[Reply]:
        if said:
            yield Reply("so far", ReplyState.STREAMING)
        await asyncio.sleep(5)
        raise ends

    async def main() -> None:
        async with asyncio.timeout(3600):
            await show(breaking(), Chat(), Pace(1.0))

    with pytest.raises(BrokenOff):
        run_in_virtual_time(main())


@dataclass
class Watched(Chat):
    """Notes when each request begins. `lost_at`: another process writes from then on."""

    lost_at: float = 1e9
    begun: list[float] = field(default_factory=list)

    async def _request(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())
        await super()._request()

    def check(self) -> None:
        if asyncio.get_running_loop().time() >= self.lost_at:
            raise ClaimLost("chat")

    async def typing(self) -> None:
        self.begun.append(asyncio.get_running_loop().time())


@given(
    lost_at=st.floats(0.0, 30.0),
    told=st.sampled_from(["by the answer", "by the check"]),
    ends_at=st.floats(0.0, 30.0),
    base=st.floats(0.1, 5.0),
    latency=st.floats(0.0, 20.0),
    shared=st.floats(0.0, 5.0),
    record_s=st.floats(0.0, 5.0),
    earlier_s=st.floats(0.0, 10.0),
    outages=st.sets(st.integers(1, 12), max_size=6),
    holds=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 30)), max_size=3),
    drafts=st.booleans(),
    sends_once=st.booleans(),
    edits=st.booleans(),
    deleted=st.sets(st.integers(2, 9), max_size=2),
)
def test_nothing_is_written_once_the_claim_is_lost_whatever_was_waited_for(
    lost_at: float, told: str, ends_at: float, base: float, latency: float, shared: float, record_s: float,
    earlier_s: float, outages: set[int], holds: list[tuple[float, float]], drafts: bool, sends_once: bool,
    edits: bool, deleted: set[int],
) -> None:  # fmt: skip
    """The pace, that of all chats, a flood, an outage, an earlier answer, a record, or inside a client library."""
    chat = Watched(
        law_s=0.5, latency_s=latency, outages=outages, drafts=drafts, sends_once=sends_once, lost=deleted, lost_at=lost_at,
        edits=edits,
    )  # fmt: skip

    async def replies() -> AsyncGenerator[Reply]:
        yield Reply("", ReplyState.QUEUED)
        at = 0.0
        while at < ends_at:
            await asyncio.sleep(min(0.7, ends_at - at))
            at += 0.7
            if told == "by the answer":
                chat.check()
            yield Reply("stale\n\n" * int(30 * at), ReplyState.STREAMING)
        yield Reply("stale\n\n" * int(30 * at) + "and final " * 60, ReplyState.FINAL)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for at, length in holds:
            loop.call_at(at, lambda until: setattr(chat, "held_until", until), at + length)
        earlier: asyncio.Future[None] = loop.create_future()
        loop.call_at(earlier_s, earlier.set_result, None)

        async def on_sent(_: Sequence[str]) -> None:
            await asyncio.sleep(record_s)

        pace = Pace(base, within=Pace(shared + 0.01))
        check = chat.check if told == "by the check" else lambda: None
        once = Once(note=lambda ids, _: on_sent(ids))
        await show(replies(), chat, pace, on_sent=on_sent, after=[earlier], check=check, once=once)

    with suppress(ClaimLost):
        run_in_virtual_time(main())
    if told == "by the check":
        assert all(at < lost_at for at in chat.begun)
        # A client library may wait inside a request, which is then given up within a second.
        assert all(at <= lost_at + 1.001 for at in chat.writes)
    else:
        # The answer says so at its next word.
        assert all(at < lost_at + 0.71 for at in chat.begun) or ends_at <= lost_at + 0.71


def test_a_claim_lost_while_a_flood_is_waited_for_ends_the_answer() -> None:
    chat = Watched(held_until=60.0, lost_at=30.0)
    with pytest.raises(ClaimLost):
        run_in_virtual_time(show(growing(), chat, Pace(1.0), check=chat.check))
    assert chat.writes == []


@dataclass
class Strict(Chat):
    """Refuses what it is told to refuse: "file", "remove", "draft", "edit"; `closed` requests because it is closed,
    and a part of some `reduced`."""

    refuses: frozenset[str] = frozenset()
    closed: set[int] = field(default_factory=set)
    reduced: set[int] = field(default_factory=set)

    async def _request(self) -> None:
        await super()._request()
        if self.requests in self.closed:
            raise Closed("for now")
        if self.requests in self.reduced:
            raise Reduced("buttons")

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment) and "file" in self.refuses:
            raise Refused("no files here")
        return await super().send(item, place)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        if (isinstance(item, Attachment) and "file" in self.refuses) or "edit" in self.refuses:
            raise Refused("no")
        await super().edit(message_id, item)

    async def remove(self, message_id: str) -> None:
        if "remove" in self.refuses:
            raise Refused("can't be deleted for everyone")
        await super().remove(message_id)

    async def draft(self, piece: Piece) -> None:
        if "draft" in self.refuses:
            raise Refused("no drafts")
        await super().draft(piece)


CODE = "```python\n" + "print(1)\n" * 200 + "```"


@given(
    st.frozensets(st.sampled_from(["file", "remove", "draft"])),
    st.booleans(),
    st.booleans(),
    st.sets(st.integers(1, 20), max_size=4),
    st.sets(st.integers(1, 20), max_size=4),
)
def test_what_a_platform_refuses_a_part_of_arrives_without_it(
    refuses: frozenset[str], sends_once: bool, drafts: bool, closed: set[int], reduced: set[int]
) -> None:
    file = Attachment("a.json", b"{}", "application/json")
    old = {f"old{number}": Piece("old words") for number in range(9)}
    chat = Strict(
        messages=dict(old), refuses=refuses, sends_once=sends_once, drafts=drafts, closed=closed, reduced=reduced
    )  # fmt: skip

    async def answer() -> AsyncGenerator[Reply]:
        async for reply in growing("a few words"):
            yield replace(reply, attachment=file) if reply.state.ended else reply

    reply = run_in_virtual_time(show(answer(), chat, Pace(1.0), sent=list(old), no_file="No files here."))
    assert reply is not None
    assert chat.text == "a few words"
    assert "…" not in [item.notice for item in list(chat.messages.values())[:2] if isinstance(item, Piece)]
    assert (chat.attachments == [file]) is ("file" not in refuses)
    notices = [item.notice for item in chat.messages.values() if isinstance(item, Piece)]
    assert ("No files here." in notices) is ("file" in refuses)
    if "remove" not in refuses:
        assert len(chat.messages) == 2
    fresh = Strict(refuses=refuses, sends_once=sends_once, drafts=drafts)
    run_in_virtual_time(show(growing(CODE), fresh, Pace(1.0)))
    assert fresh.text == CODE
    assert [file.name for file in fresh.attachments] == ([] if "file" in refuses else ["code-1.py"])
    assert "remove" in refuses or "…" not in [
        item.notice for item in fresh.messages.values() if isinstance(item, Piece)
    ]


def test_a_chat_that_stays_closed_is_gone_after_a_while_and_words_that_are_refused_are_a_failure() -> None:
    async def main() -> float:
        with pytest.raises(Gone):
            await show(growing(step_s=1), Strict(closed=set(range(100))), Pace(1.0))
        return asyncio.get_running_loop().time()

    assert 30 < run_in_virtual_time(main()) < 120
    with pytest.raises(Refused):
        run_in_virtual_time(show(growing(), Strict(refuses=frozenset({"edit"})), Pace(1.0)))
