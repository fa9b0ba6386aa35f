"""A refusal of Discord's ends what it is about, and nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import discord
import pytest
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.discord_bot import IN_CHANNEL, MENTION, USER, answered, bot
from adapters.scripted import ScriptedEngine
from adapters.waiting import until_async
from conftest import until
from glmbot.delivery.outlet import Flooded, Gone, Missing, Piece, Refused, Unreachable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind, Message
from glmbot.store.base import Store
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.refusals import MEANINGS, Expired, Meaning, Partly, ThreadClosed, ask, code_of, reason_of
from platforms.discord_server import CHANNEL_ID, DiscordServer, page, refusal

WORDS = "one two three four five"
RAISED = {
    Meaning.GONE: Gone,
    Meaning.MISSING: Missing,
    Meaning.EXPIRED: Expired,
    Meaning.CLOSED: ThreadClosed,
    Meaning.PASSES: Unreachable,
    Meaning.SLOWER: Flooded,
    Meaning.PARTLY: Partly,
    Meaning.REFUSED: Refused,
}
# What is said of each in Discord's documentation, once more, so that no line of the table changes unnoticed.
GONE = {10003, 10004, 10013, 50001, 50007, 50008, 50013, 50278}
EXPIRED = {10015, 10062, 50027}
STATUSES = (400, 401, 403, 404, 405, 409, 410, 413, 422)


async def refused(status: int, body: Any, kind: str = "application/json", **headers: str) -> BaseException:
    """What `ask` makes of such an answer."""
    response: Any = SimpleNamespace(status=status, reason="no", headers={"Content-Type": kind, **headers})
    given: Any = body

    async def request() -> None:
        raise {403: discord.Forbidden, 404: discord.NotFound}.get(status, discord.HTTPException)(
            response, given
        )

    try:
        await ask(request())
    except Exception as error:
        return error
    raise AssertionError("a refusal raises")


@pytest.mark.parametrize("code", sorted(MEANINGS))
async def test_each_known_code_means_one_thing_with_whatever_status_it_comes(code: int) -> None:
    for status in STATUSES:
        error = await refused(status, {"message": "no", "code": code})
        assert type(error) is RAISED[MEANINGS[code]], status
        assert (type(error) is Gone) == (code in GONE)
        assert (type(error) is Expired) == (code in EXPIRED)
        if type(error) is not Flooded:
            assert code_of(error.__cause__) == code
        # A proxy that adds a charset keeps the library from reading the object.
        as_text = await refused(
            status, json.dumps({"message": "no", "code": code}), "application/json; charset=utf-8"
        )
        assert type(as_text) is type(error)


@given(
    st.sampled_from((*STATUSES, 408, 429, 451, 500, 502, 503, 520, 599)),
    st.one_of(
        st.integers().filter(lambda code: code not in MEANINGS),
        st.none(), st.text(), st.floats(), st.booleans(), st.lists(st.integers()), st.dictionaries(st.text(), st.text()),
    ),
)  # fmt: skip
async def test_nothing_unknown_ends_a_chat_or_is_given_a_reason(status: int, code: Any) -> None:
    error = await refused(status, {"message": "no", "code": code})
    assert type(error) in (Refused, Unreachable, Flooded)
    assert reason_of(error) is None


@example(400, "{", "text/html")
@given(
    st.sampled_from((*STATUSES, 429, 500, 503)),
    st.text(max_size=2000),
    st.sampled_from(["text/html", "", "text/plain"]),
)
async def test_a_page_of_a_proxys_passes_unless_too_much_was_sent(status: int, text: str, kind: str) -> None:
    error = await refused(status, text, kind)
    assert type(error) is {413: Refused, 429: Flooded}.get(status, Unreachable)
    assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("told", "wait"),
    [("7", 7), ("0", 1), ("-5", 1), ("1e99", 3600), ("inf", 3600), ("nan", 5), ("soon", 5), ("", 5)],
)
async def test_no_wait_is_without_bounds(told: str, wait: float) -> None:
    error = await refused(429, "banned", "text/html", **{"Retry-After": told})
    assert isinstance(error, Flooded)
    assert error.retry_after == wait

    async def held() -> None:
        raise discord.RateLimited(float("inf"))

    with pytest.raises(Flooded) as caught:
        await ask(held())
    assert caught.value.retry_after == 3600


def some_times(method: str, times: range, answer: Any) -> Any:
    """Refuses those of the requests with this method, the first is 1."""
    seen = 0

    def refuse(asked: str, channel: int, fields: dict[str, Any], file: bool) -> web.Response | None:
        nonlocal seen
        seen += asked == method
        return answer() if asked == method and seen in times else None

    return refuse


def whenever(holds: Any, answer: Any) -> Any:
    def refuse(asked: str, channel: int, fields: dict[str, Any], file: bool) -> web.Response | None:
        return answer() if holds(asked, fields, file) else None

    return refuse


async def given_up(store: Store) -> None:
    """Nothing is to be delivered any more."""
    await until_async(lambda: store.unfinished("discord"), lambda left: not left)


ONCE, FOR_EVER = range(1, 2), range(1, 100)


@pytest.mark.parametrize(
    "refuse",
    [
        some_times("POST", ONCE, lambda: page(403)),
        some_times("POST", ONCE, lambda: page(404)),
        some_times("PATCH", ONCE, lambda: page(403)),
        some_times("PATCH", ONCE, lambda: page(405)),
        some_times("POST", ONCE, lambda: refusal(403, 40333)),
        some_times("PATCH", ONCE, lambda: refusal(403, 40333)),
        some_times("POST", ONCE, lambda: refusal(403, 777_001)),
        some_times("PATCH", FOR_EVER, lambda: refusal(400, 50083)),
        whenever(lambda asked, fields, file: "message_reference" in fields, lambda: refusal(403, 160002)),
        whenever(lambda asked, fields, file: "message_reference" in fields, lambda: refusal(400, 50035)),
        whenever(lambda asked, fields, file: "message_reference" in fields, lambda: refusal(403, 777_002)),
        whenever(lambda asked, fields, file: asked == "PATCH" and bool(fields.get("components")), lambda: refusal(400, 50035)),
    ],
)  # fmt: skip
async def test_the_whole_answer_comes_though_one_request_was_refused(
    discord: DiscordServer, sqlite_store: Store, refuse: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot.delivery.requests._FIRST_PAUSE_S", 0.05)
    discord.answers_instead = refuse
    async with bot(discord, ScriptedEngine(WORDS, steps=4, step_s=0.1), sqlite_store):
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
        await until(lambda: discord.texts() == [WORDS])
    assert discord.direct_texts(USER) == [], "nobody is told a wrong reason"
    assert await sqlite_store.dead_letters() == []


@pytest.mark.parametrize("code", [50013, 50045, 400001, 777_003])
async def test_an_answer_is_whole_where_its_file_is_refused(
    discord: DiscordServer, sqlite_store: Store, code: int
) -> None:
    discord.answers_instead = whenever(lambda asked, fields, file: file, lambda: refusal(403, code))
    script = "Here:\n\n```python\n" + "print('x')\n" * 140 + "```\nBye."
    async with bot(discord, ScriptedEngine(script), sqlite_store):
        await discord.say(f"{MENTION} hello")
        await answered(sqlite_store, 1)
    texts = discord.texts()
    assert texts[0].endswith("Bye.")
    assert "Attach Files" in texts[1]
    assert discord.direct_texts(USER) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [(50013, "Send Messages"), (50001, "View Channel"), (10003, ""), (10004, ""), (50008, "")],
)
async def test_where_nothing_can_be_written_the_true_reason_is_told_or_none(
    discord: DiscordServer, sqlite_store: Store, code: int, reason: str
) -> None:
    tried: list[int] = []

    def refuse(asked: str, channel: int, fields: dict[str, Any], file: bool) -> web.Response | None:
        tried.append(channel)
        return refusal(403, code) if channel == CHANNEL_ID else None

    discord.answers_instead = refuse
    async with bot(discord, ScriptedEngine(WORDS), sqlite_store):
        await discord.say(f"{MENTION} hello")
        await until(lambda: tried)
        await given_up(sqlite_store)
        if reason:
            await until(lambda: discord.direct_texts(USER))
    assert [reason in text for text in discord.direct_texts(USER)] == ([True] if reason else [])


@pytest.mark.parametrize("locked", [False, True])
async def test_a_thread_that_was_archived_is_opened_again_unless_a_moderator_locked_it(
    discord: DiscordServer, sqlite_store: Store, locked: bool
) -> None:
    engine = ScriptedEngine(WORDS, steps=3, step_s=0.1)
    engine.goes_on.clear()
    async with bot(discord, engine, sqlite_store, settings={"threads": True}):
        asked = await discord.say(f"{MENTION} hello")
        await until(lambda: "".join(discord.texts(asked)).startswith("one"))
        discord.archived.add(asked)
        if locked:
            discord.locked.add(asked)
        engine.goes_on.set()
        if locked:
            await until(lambda: discord.direct_texts(USER))
            await given_up(sqlite_store)
            assert "closed by a moderator" in discord.direct_texts(USER)[0]
        else:
            await until(lambda: discord.texts(asked) == [WORDS])
            assert discord.direct_texts(USER) == []
    assert await sqlite_store.dead_letters() == []


async def test_an_answer_that_could_not_have_its_thread_goes_on_in_the_channel_after_a_restart(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    discord.no_threads_in.add(CHANNEL_ID)
    discord.answers_instead = lambda asked, channel, fields, file: (
        None if channel == CHANNEL_ID else refusal(404, 10003)
    )
    engine = ScriptedEngine(WORDS, steps=3, step_s=0.1)
    engine.goes_on.clear()
    async with bot(discord, engine, sqlite_store, settings={"threads": True}) as first:
        asked = await discord.say(f"{MENTION} hello")
        await until(lambda: "".join(discord.texts()).startswith("one"))
        await first._deliveries.drain(0)
    engine.goes_on.set()
    async with bot(discord, engine, sqlite_store, settings={"threads": True}):
        await answered(sqlite_store, 1, ConversationKey("discord", str(CHANNEL_ID), str(USER), str(asked)))
        await until(lambda: discord.texts() == [WORDS])


async def test_an_acknowledgement_that_was_deleted_is_answered_by_a_message(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    engine = ScriptedEngine(WORDS)
    async with bot(discord, engine, sqlite_store):
        discord.dismissed = True
        token = await discord.use("ask", question="hello")
        await until_async(lambda: sqlite_store.last_turns(IN_CHANNEL, 5), lambda turns: len(turns) == 1)
        await until(lambda: discord.replies_to(token) == [WORDS])
    assert await sqlite_store.dead_letters() == []


async def test_what_is_sent_again_with_more_words_has_them_all(
    discord: DiscordServer, sqlite_store: Store
) -> None:
    """Discord drops a send that it took before, when its answer was lost or a process died: what stands there are
    the words of that time."""
    asked = Message("message 5", IN_CHANNEL, UserKey("discord", str(USER)), "hello", chat_kind=ChatKind.GROUP)
    async with bot(discord, ScriptedEngine(WORDS), sqlite_store) as adapter:
        sent = [
            await ChannelOutlet(adapter._client, asked, str).send(Piece(words), "0")
            for words in ("one", WORDS, WORDS)
        ]
    assert len({*sent}) == 1
    assert discord.texts() == [WORDS]
    assert len(discord.versions[int(sent[0])]) == 2, "nothing is edited that stands there already"
