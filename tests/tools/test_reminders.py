"""A reminder is said once: by several processes, after a crash at any point, and whatever the clock does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from conftest import make_dialogue
from dialogue.scripted_engine import ScriptedEngine
from glmbot.bot import Bot
from glmbot.host import Call, ToolFailed
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Announce, ChatKind, Message, Role
from glmbot.notes import Note
from glmbot.store.sqlite import SqliteStore
from glmbot_tools.reminder import Reminder, id_of
from glmbot_tools.reminder_tools import reminder_tools, reminders_command
from glmbot_tools.reminders import ReminderRefused, Reminders
from glmbot_tools.times import Repeat
from glmbot_tools.words import line
from tools.fake_use import FakeUse

ANN, BOB = UserKey("telegram", "5"), UserKey("telegram", "6")
NAMES = {ANN: "Ann", BOB: "Bob"}
HERE = ConversationKey("telegram", "-100", "5")
START = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
LOG = logging.getLogger("test.reminders")


class Clock:
    now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def memory() -> AsyncGenerator[SqliteStore, None]:
    store = SqliteStore(Path(":memory:"))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def bot(memory: SqliteStore) -> Bot:
    return make_dialogue(ScriptedEngine(), memory, visited=frozenset({"web"}))._powers


def reminders(clock: Clock, per_person: int = 5, per_chat: int = 8) -> Reminders:
    return Reminders(LOG, per_person=per_person, per_chat=per_chat, clock=clock)


def one(number: int = 1, user: UserKey = ANN, **changes: Any) -> Reminder:
    due = changes.pop("due", START + timedelta(minutes=10))
    made = Reminder(
        id_of(str(number), str(user), str(HERE)), user, HERE, ChatKind.GROUP, "en", ZoneInfo("Asia/Shanghai"),
        f"tea {number}", False, due, due, name=NAMES[user],
    )  # fmt: skip
    return replace(made, **changes)


async def said(memory: SqliteStore) -> list[Message]:
    return [entry.message for entry in await memory.unfinished("telegram")]


async def texts(memory: SqliteStore) -> list[str]:
    return [message.text for message in await said(memory)]


async def test_it_is_said_when_it_is_due_and_not_before_and_once(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    ours = reminders(clock)
    await ours.add(bot, one())
    await ours.say_due(bot)
    assert await said(memory) == []
    clock.now += timedelta(minutes=10)
    for _ in range(3):
        await ours.say_due(bot)
    (told,) = await said(memory)
    assert (told.text, told.intent, told.conversation.chat) == ("⏰ For Ann: tea 1", Announce(), "-100")
    assert await ours.of(bot, ANN) == []


async def test_in_a_group_it_says_whose_it_is_and_in_private_it_need_not(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(1, name="A\u202e\nnn " * 50))
    await ours.add(bot, one(2, BOB, name=""))
    await ours.add(bot, one(3, kind=ChatKind.PRIVATE))
    clock.now += timedelta(minutes=10)
    await ours.say_due(bot)
    shown = "A nn " * 10 + "A n"
    assert sorted(await texts(memory)) == ["⏰ For 6: tea 2", f"⏰ For {shown}: tea 1", "⏰ tea 3"]


async def test_what_an_earlier_release_wrote_down_is_said_too(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    written = one(name="").note()
    assert "name" not in written.text
    await bot.book("reminders").put(written)
    clock.now += timedelta(minutes=10)
    await reminders(clock).say_due(bot)
    assert await texts(memory) == ["⏰ For 5: tea 1"]


async def test_a_question_is_announced_and_asked_for_who_planned_it(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(asks=True, text="/stop what is new?"))
    clock.now += timedelta(minutes=11)
    await ours.say_due(bot)
    asked, told = sorted(await said(memory), key=lambda message: message.text)
    assert told.text == "⏰ Asked as Ann planned: /stop what is new?"
    assert (asked.text, asked.user, asked.chat_kind) == ("/ask /stop what is new?", ANN, ChatKind.GROUP)


async def test_several_processes_say_it_once(bot: Bot, memory: SqliteStore, clock: Clock) -> None:
    await reminders(clock).add(bot, one(repeat=Repeat.DAILY, left=10))
    for day in range(3):
        clock.now = START + timedelta(days=day, minutes=10)
        await asyncio.gather(*(reminders(clock).say_due(bot) for _ in range(4)))
    assert len(await said(memory)) == 3
    (left,) = await reminders(clock).of(bot, ANN)
    assert (left.left, left.due) == (7, START + timedelta(days=3, minutes=10))


class Killed(BaseException):
    pass


class Dying:
    """The bot of a process that dies right before, or right after, its n-th act."""

    def __init__(self, bot: Bot, acts: int, after: bool) -> None:
        self._bot, self._left, self._after = bot, acts, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bot, name)

    def book(self, name: str) -> Any:
        book, dying = self._bot.book(name), self

        class Book:
            page = book.page
            of = book.of

            async def put(self, note: Note) -> Note | None:
                return await dying._act(book.put(note))

            async def remove(self, note: Note) -> bool:
                return await dying._act(book.remove(note))

        return Book()

    async def announce(self, *given: Any, **named: Any) -> bool:
        return await self._act(self._bot.announce(*given, **named))

    async def ask_in(self, *given: Any, **named: Any) -> None:
        await self._act(self._bot.ask_in(*given, **named))

    async def _act(self, work: Any) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            work.close()
            raise Killed
        came = await work
        if self._left == 0:
            raise Killed
        return came


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("acts", [1, 2, 3, 4, 5])
async def test_a_process_that_dies_at_any_point_has_it_said_once_and_it_goes_on(
    bot: Bot, memory: SqliteStore, clock: Clock, acts: int, after: bool
) -> None:
    await reminders(clock).add(bot, one(asks=True, repeat=Repeat.DAILY, left=10))
    clock.now += timedelta(minutes=10)
    with pytest.raises(Killed):
        await reminders(clock).say_due(Dying(bot, acts, after))  # pyright: ignore[reportArgumentType]
    for seconds in (10, 61, 10):
        clock.now += timedelta(seconds=seconds)
        await reminders(clock).say_due(bot)
    assert len(await said(memory)) == 2
    (left,) = await reminders(clock).of(bot, ANN)
    assert (left.left, left.due) == (9, START + timedelta(days=1, minutes=10))


async def test_what_was_missed_is_said_once_with_a_note(bot: Bot, memory: SqliteStore, clock: Clock) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(1, repeat=Repeat.HOURLY, left=366))
    await ours.add(bot, one(2, language="zh"))
    clock.now += timedelta(days=2, minutes=30)
    await ours.say_due(bot)
    await ours.say_due(bot)
    assert sorted(await texts(memory)) == [
        "⏰ For Ann: tea 1\n(This was due at 2026-11-27 20:10; the bot was not running then.)",
        "⏰ 提醒 Ann：tea 2\n（本应在 2026-11-27 20:10 提醒，当时机器人没有运行。）",
    ]
    (left,) = await ours.of(bot, ANN)
    assert left.due == START + timedelta(days=2, minutes=70)


async def test_a_clock_that_is_put_back_repeats_nothing(bot: Bot, memory: SqliteStore, clock: Clock) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(1))
    await ours.add(bot, one(2, repeat=Repeat.HOURLY, left=9))
    clock.now += timedelta(minutes=10)
    await ours.say_due(bot)
    clock.now -= timedelta(hours=5)
    await ours.say_due(bot)
    clock.now += timedelta(hours=5)
    await ours.say_due(bot)
    assert len(await said(memory)) == 2
    clock.now += timedelta(hours=1)
    await ours.say_due(bot)
    assert len(await said(memory)) == 3


async def test_one_that_repeats_ends(bot: Bot, memory: SqliteStore, clock: Clock) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(repeat=Repeat.HOURLY, left=3))
    for _ in range(6):
        clock.now += timedelta(hours=1)
        await ours.say_due(bot)
    assert len(await said(memory)) == 3


async def test_there_are_only_so_many_of_a_person_and_in_a_chat(bot: Bot, clock: Clock) -> None:
    ours = reminders(clock, per_person=3, per_chat=4)
    for number in range(3):
        await ours.add(bot, one(number))
    with pytest.raises(ReminderRefused, match="this person has 3"):
        await ours.add(bot, one(9))
    await ours.add(bot, one(2))
    await ours.add(bot, one(1, BOB))
    with pytest.raises(ReminderRefused, match="this chat has 4"):
        await ours.add(bot, one(2, BOB))
    assert len(await ours.in_chat(bot, HERE)) == 4


async def test_nothing_is_said_for_who_is_shut_out(bot: Bot, memory: SqliteStore, clock: Clock) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(repeat=Repeat.DAILY, left=9))
    await bot.set_setting(ANN, "access", "blocked")
    clock.now += timedelta(minutes=10)
    await ours.say_due(bot)
    assert await said(memory) == []
    assert await ours.of(bot, ANN) == []


async def test_what_is_forgotten_is_gone_and_what_is_no_reminder_is_left_alone(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    ours = reminders(clock)
    await bot.book("reminders").put(Note("20261127T120500Z odd", "[1]", str(BOB)))
    await bot.book("reminders").put(Note("20261127T120600Z odd", '{"id": "x"}', str(BOB)))
    await ours.add(bot, one(1))
    await ours.add(bot, one(1, BOB))
    await bot.forget(BOB)
    clock.now += timedelta(minutes=10)
    await ours.say_due(bot)
    assert await texts(memory) == ["⏰ For Ann: tea 1"]


async def test_one_that_is_cancelled_while_it_is_said_does_not_go_on(
    bot: Bot, memory: SqliteStore, clock: Clock
) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(repeat=Repeat.DAILY, left=9))
    clock.now += timedelta(minutes=10)

    class Slow(Dying):
        async def announce(self, *given: Any, **named: Any) -> bool:
            assert await ours.cancel(bot, one().id, lambda _: True) is not None
            return await bot.announce(*given, **named)

    await ours.say_due(Slow(bot, 99, False))  # pyright: ignore[reportArgumentType]
    assert await ours.of(bot, ANN) == []


# ---- what the model and people do --------------------------------------------------------------------------------


def use(
    bot: Bot, user: UserKey = ANN, call: str = "1", kind: ChatKind = ChatKind.GROUP, **arguments: Any
) -> FakeUse:
    where = ConversationKey("telegram", "-100" if kind is ChatKind.GROUP else user.id, user.id)
    return FakeUse(arguments, call, str(user), str(where), kind, bot=bot)


async def test_the_tools_set_list_and_cancel(bot: Bot, clock: Clock) -> None:
    remind, listed, cancel = reminder_tools(reminders(clock), clock)
    first = await remind.function(use(bot, text="tea", at="2026-11-28 09:00", repeat="daily"))
    number = id_of("1", str(ANN), str(HERE))
    assert first == f"Reminder {number} is set for 2026-11-28 09:00 (Asia/Shanghai), then daily."
    # The same call after a crash.
    await remind.function(use(bot, text="tea", at="2026-11-28 09:00", repeat="daily"))
    assert await listed.function(use(bot)) == f"{number}: 2026-11-28 09:00 (Asia/Shanghai), daily: tea"
    assert await listed.function(use(bot, BOB)) == "There are no reminders."
    with pytest.raises(ToolFailed, match="no reminder"):
        await cancel.function(use(bot, BOB, id=number))
    assert await cancel.function(use(bot, id=number)) == "Cancelled: tea"
    assert await listed.function(use(bot)) == "There are no reminders."


async def test_in_a_group_nothing_of_their_other_chats_is_listed_or_cancelled(bot: Bot, clock: Clock) -> None:
    remind, listed, cancel = reminder_tools(reminders(clock), clock)
    await remind.function(use(bot, kind=ChatKind.PRIVATE, text="the clinic", in_minutes=30))
    number = id_of("1", str(ANN), str(ConversationKey("telegram", "5", "5")))
    assert await listed.function(use(bot)) == "There are no reminders."
    with pytest.raises(ToolFailed, match="no reminder") as refused:
        await cancel.function(use(bot, id=number))
    assert "clinic" not in str(refused.value)
    assert await cancel.function(use(bot, kind=ChatKind.PRIVATE, id=number)) == "Cancelled: the clinic"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"text": "tea"}, "either at or in_minutes"),
        ({"text": "tea", "at": "2026-11-27 19:59"}, "this time is over"),
        ({"text": "tea", "in_minutes": 1e400}, "five years"),
        ({"text": " \0 ", "in_minutes": 5}, "nothing to be reminded of"),
        ({"text": "tea", "in_minutes": 5, "repeat": "always"}, "no time"),
    ],
)
async def test_the_model_is_told_what_is_wrong(bot: Bot, clock: Clock, arguments: Any, words: str) -> None:
    remind, *_ = reminder_tools(reminders(clock), clock)
    with pytest.raises(ToolFailed, match=words):
        await remind.function(use(bot, **arguments))


async def test_there_are_none_where_nothing_can_be_sent_later(bot: Bot, clock: Clock) -> None:
    remind, *_ = reminder_tools(reminders(clock), clock)
    elsewhere = FakeUse(
        {"text": "tea", "in_minutes": 5},
        user="web:5",
        conversation=str(ConversationKey("web", "5", "5")),
        bot=bot,
    )
    with pytest.raises(ToolFailed, match="on this platform"):
        await remind.function(elsewhere)


async def test_the_command_shows_people_their_own_and_administrators_all_of_a_group(
    bot: Bot, clock: Clock
) -> None:
    ours = reminders(clock)
    await ours.add(bot, one(1))
    await ours.add(bot, one(2, BOB))
    command = reminders_command(ours)

    async def answered(argument: str, user: UserKey, role: Role) -> str:
        message = Message("1", replace(HERE, user=user.id), user, "", chat_kind=ChatKind.GROUP)
        assert command.obey is not None
        reply = await command.obey(Call(message, argument, role, "en", bot, line))  # pyright: ignore
        return reply.notice  # pyright: ignore

    mine = await answered("", BOB, Role.USER)
    assert "tea 2" in mine
    assert "tea 1" not in mine
    assert "There is no reminder" in await answered(one(1).id, BOB, Role.USER)
    everybody = await answered("", BOB, Role.ADMIN)
    assert "Ann: tea 1" in everybody
    assert "Bob: tea 2" in everybody
    assert await answered(one(1).id, BOB, Role.ADMIN) == "Cancelled: tea 1"
    assert await answered("", ANN, Role.USER) == "There are no reminders here."
