"""An answer that calls tools: what the model is told, what people see, and where it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conftest import until
from dialogue.tool_world import ANN, BOB, CallingEngine, Scene, called, offered, press, said, tool
from glmbot.content import Text, ToolCall, ToolResult, parts_of
from glmbot.dialogue.access import Access
from glmbot.dialogue.tool_desk import swept
from glmbot.dialogue.tool_log import LOG, ToolLog, last_calls, logged_calls
from glmbot.dialogue.tool_rights import Right, ToolRights, decided, here, own, right_of, written
from glmbot.dialogue.tool_run import UNKNOWN
from glmbot.dialogue.tool_settings import ToolSettings
from glmbot.dialogue.tool_words import plain
from glmbot.engine.base import FinishReason, Progress
from glmbot.host import Nature, ToolFailed, ToolUse
from glmbot.keys import UserKey
from glmbot.messages import Reply, ReplyState, Role
from glmbot.notes import Note
from glmbot.store.base import Store
from glmbot.store.notes import book_in
from glmbot.tools import Choice

ADMIN = UserKey("telegram", "1")


async def outcomes(store: Store) -> list[tuple[str, str]]:
    return [(line.tool, line.outcome) async for line in logged_calls(store)]


async def test_what_comes_of_a_call_is_told_the_model_and_the_next_question(sqlite_store: Store) -> None:
    engine = CallingEngine(called(("add", {"q": "1+1"})), "It is 2.")
    scene = Scene(sqlite_store, engine)
    scene.tools = [scene.noting("add", result="2")]
    scene.dialogue = scene.bot()
    reply = await scene.ask(said("1+1?"))
    assert (reply.text, reply.state) == ("It is 2.", ReplyState.FINAL)
    assert scene.calls == [("add", str(ANN), {"q": "1+1"})]
    call, result = engine.asked[1].said
    assert isinstance(call, ToolCall)
    assert result == ToolResult(call.id, "2")
    assert [each.name for each in engine.asked[0].offer.tools] == ["add"]
    await scene.ask(said("and now?"))
    told = engine.asked[2].past[0].said
    assert told == (call, result, Text("It is 2."))
    assert ("add", "done") in await outcomes(sqlite_store)
    # Nothing is left of an answer that stands.
    assert await sqlite_store.notes("tool_calls", 10) == []


async def test_several_are_called_at_once_and_words_between_stay(sqlite_store: Store) -> None:
    both = asyncio.Barrier(2)

    async def meets(use: ToolUse) -> str:
        await both.wait()
        return f"got {use.arguments['q']}"

    engine = CallingEngine(called(("one", {"q": "a"}), ("two", {"q": "b"})), "Both.")
    scene = Scene(sqlite_store, engine, [tool("one", meets), tool("two", meets)])
    assert (await scene.ask(said("go"))).text == "Both."
    assert [part.text for part in parts_of(engine.asked[1].said, ToolResult)] == ["got a", "got b"]


async def test_an_answer_does_not_call_for_ever(sqlite_store: Store) -> None:
    engine = CallingEngine(*[called(("add", {"q": str(number)})) for number in range(30)])
    settings = ToolSettings(rounds=3, calls=16)
    scene = Scene(sqlite_store, engine, settings=settings)
    scene.tools = [scene.noting("add")]
    scene.dialogue = scene.bot()
    assert (await scene.ask(said("go"))).text == "enough"
    assert len(scene.calls) == 3
    assert engine.asked[-1].offer.choice is Choice.NONE


async def test_no_more_calls_are_made_than_an_answer_may_have(sqlite_store: Store) -> None:
    engine = CallingEngine(called(*[("add", {"q": str(number)}) for number in range(30)]), "ok")
    scene = Scene(sqlite_store, engine, settings=ToolSettings(calls=4))
    scene.tools = [scene.noting("add")]
    scene.dialogue = scene.bot()
    await scene.ask(said("go"))
    assert len(scene.calls) == 4


async def test_faults_of_tools_are_told_the_model_and_nobody_is_harmed(sqlite_store: Store) -> None:
    async def refuses(use: ToolUse) -> str:
        raise ToolFailed("no such town")

    async def breaks(use: ToolUse) -> str:
        raise SystemExit(3)

    async def hangs(use: ToolUse) -> str:
        await asyncio.Event().wait()
        return ""

    async def lies(use: ToolUse) -> Any:
        return 5

    tools = [
        tool("refuses", refuses),
        tool("breaks", breaks),
        tool("lies", lies),
        tool("hangs", hangs, timeout_s=0.05),
    ]
    engine = CallingEngine(
        called(*[(each.name, {}) for each in tools], ("nobody", {}), ("refuses", "[1")), "I see."
    )
    scene = Scene(sqlite_store, engine, tools)
    assert (await scene.ask(said("go"))).text == "I see."
    results = parts_of(engine.asked[1].said, ToolResult)
    assert len(results) == 6
    assert all(result.failed for result in results)
    assert results[0].text == "no such town"
    assert "fault" in results[1].text
    assert "too long" in results[3].text


async def test_arguments_hold_to_the_schema_before_anything_is_called(sqlite_store: Store) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    engine = CallingEngine(called(("count", {"n": "five"}), ("count", {}), ("count", {"n": 5})), "ok")
    scene = Scene(sqlite_store, engine)
    scene.tools = [scene.noting("count", parameters=schema)]
    scene.dialogue = scene.bot()
    await scene.ask(said("go"))
    assert scene.calls == [("count", str(ANN), {"n": 5})]
    assert "n: 'five'" in parts_of(engine.asked[1].said, ToolResult)[0].text


async def test_long_results_are_cut_to_their_share(sqlite_store: Store) -> None:
    engine = CallingEngine(called(("read", {}), ("small", {})), "ok", context_length=3000)
    scene = Scene(sqlite_store, engine, settings=ToolSettings(share=0.3))
    scene.tools = [scene.noting("read", result="x" * 100_000), scene.noting("small", result="y" * 100)]
    scene.dialogue = scene.bot()
    assert (await scene.ask(said("go"))).text == "ok"
    long, small = parts_of(engine.asked[1].said, ToolResult)
    assert len(long.text) + len(small.text) < 0.3 * 3000
    assert "left out" in long.text
    assert small.text == "y" * 100


async def test_what_it_does_is_seen_meanwhile_in_ones_own_language(sqlite_store: Store) -> None:
    async def works(use: ToolUse) -> str:
        use.progress("page 1 of\n3")
        await asyncio.sleep(0)
        return "done"

    title = {"en": "Web page", "zh": "网页"}
    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"), [tool("read", works, title=title)])
    await scene.ask(said("go"))
    assert any("Web page" in reply.notice for reply in scene.seen)
    assert any("page 1 of\ufffd3" in reply.notice for reply in scene.seen)


async def test_a_stop_ends_what_is_called(sqlite_store: Store) -> None:
    ended = asyncio.Event()
    message = said("go")

    async def hangs(use: ToolUse) -> str:
        scene.dialogue._lanes.stop(message.conversation)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return ""

    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"), [tool("read", hangs)])
    reply = await scene.ask(message)
    assert reply.state is ReplyState.STOPPED
    assert ended.is_set()


async def test_a_model_that_was_not_taught_is_told_of_no_tools(sqlite_store: Store) -> None:
    for told, seen in (("taught", 0), ("all", 1), ("none", 0)):
        engine = CallingEngine("ok")
        engine.abilities = engine.abilities - {max(engine.abilities, key=len)}
        scene = Scene(sqlite_store, engine, settings=ToolSettings(told=told))
        scene.tools = [scene.noting("add")]
        scene.dialogue = scene.bot()
        await scene.ask(said("go"))
        assert len(engine.asked[0].offer.tools) == seen


# ---- asking ---------------------------------------------------------------------------------------------------------


def presses(scene: Scene, message: Any, label: str, **changes: Any) -> Any:
    """Press the button with that label as soon as it is there; once."""
    pressed: list[str] = []

    def on_reply(reply: Reply) -> Any:
        found = [action.command for action in reply.actions if label in action.label]
        if not found or pressed:
            return None
        pressed.extend(found)
        return press_it(found[0])

    async def press_it(command: str) -> None:
        button = press(message, command, **changes)
        answers = asyncio.ensure_future(Scene.ask(scene, button))
        on_reply.answer = await answers  # type: ignore[attr-defined]

    return on_reply


async def test_what_reads_is_called_when_the_asker_allows_it(store: Store) -> None:
    for label, runs in (("Once", 1), ("No", 0), ("In this chat", 1)):
        scene = Scene(store, CallingEngine(called(("read", {"q": "x"})), "ok"))
        scene.tools = [scene.noting("read", Nature.READS)]
        scene.dialogue = scene.bot()
        message = said("go")
        await scene.ask(message, presses(scene, message, label))
        assert len(scene.calls) == runs, label
        shown = next(reply for reply in scene.seen if len(reply.actions) == 4)
        assert '{"q": "x"}' in shown.notice
        assert await store.notes("tool_asks", 10) == []
    # In this chat they are not asked again, and in another one they are.
    await scene.ask(said("again"))
    assert len(scene.calls) == 2
    elsewhere = said("and here?", chat="-100")
    await scene.ask(elsewhere, presses(scene, elsewhere, "No"))
    assert len(scene.calls) == 2


async def test_what_is_closed_to_a_person_in_a_chat_stays_closed_when_the_chat_moves(store: Store) -> None:
    before, after = said("x", chat="-7").chat, said("x", chat="-1007").chat
    engine = CallingEngine(called(("clock", {})), "ok")
    scene = Scene(store, engine, changes={"access": Access(admins={ADMIN}, users={ANN})})
    scene.tools = [scene.noting("clock")]
    scene.dialogue = scene.bot()
    await scene.ask(said("what time is it?", chat="-7"))
    assert len(scene.calls) == 1
    decided = await scene.ask(said(f"/tools never clock {ANN}", user=ADMIN, chat="-7"))
    assert "never" in decided.notice
    await scene.ask(said("what time is it?", chat="-7"))
    await store.move(before, after, 1.0)
    await scene.ask(said("and now?", chat="-1007"))
    assert len(scene.calls) == 1


async def test_an_ask_survives_the_process_and_is_pressed_in_another(sqlite_store: Store) -> None:
    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"))
    scene.tools = [scene.noting("read", Nature.READS)]
    scene.dialogue = scene.bot()
    message = said("go")
    await scene.dialogue.accept(message)
    replies, reply = scene.dialogue.respond(message), Reply("", ReplyState.QUEUED)
    async for reply in replies:
        if len(reply.actions) == 4:
            break
    await replies.aclose()  # type: ignore[attr-defined]
    assert scene.calls == []
    second = scene.bot()
    done = await scene.ask(press(message, reply.actions[0].command), dialogue=second)
    assert done.notice == "Done."
    assert (await scene.answer(message, None, second)).text == "ok"
    assert len(scene.calls) == 1


async def test_nobody_presses_in_time(sqlite_store: Store) -> None:
    now = [1000.0]
    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"), changes={"clock": lambda: now[0]})
    scene.tools = [scene.noting("read", Nature.READS)]
    scene.dialogue = scene.bot()

    def on_reply(reply: Reply) -> None:
        if len(reply.actions) == 4:
            now[0] += 1000

    assert (await scene.ask(said("go"), on_reply)).text == "ok"
    assert scene.calls == []


async def test_a_tool_asks_the_person(sqlite_store: Store) -> None:
    async def asks(use: ToolUse) -> str:
        return f"{await use.ask('Which one?', ['red', 'blue'])}"

    engine = CallingEngine(called(("paint", {})), "ok")
    scene = Scene(sqlite_store, engine, [tool("paint", asks, timeout_s=0.5)])
    message = said("go")
    await scene.ask(message, presses(scene, message, "blue"))
    assert parts_of(engine.asked[1].said, ToolResult)[0].text == "blue"


async def test_it_is_closed_meanwhile(sqlite_store: Store) -> None:
    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"))
    scene.tools = [scene.noting("read", Nature.READS)]
    scene.dialogue = scene.bot()
    message = said("go")
    on_reply = presses(scene, message, "Once")

    async def closes_too(waits: Any) -> None:
        await sqlite_store.set_setting(message.chat, decided("read"), "never")
        await waits

    def both(reply: Reply) -> Any:
        waits = on_reply(reply)
        return None if waits is None else closes_too(waits)

    assert (await scene.ask(message, both)).text == "ok"
    assert scene.calls == []


async def test_what_a_tool_asks_for_is_typed_by_the_asker_alone(sqlite_store: Store) -> None:
    async def asks(use: ToolUse) -> str:
        return f"{await use.ask('How many?', ['none'], typed=True)}"

    engine = CallingEngine(called(("count", {})), "ok")
    scene = Scene(sqlite_store, engine, [tool("count", asks, timeout_s=5)])
    told: list[str] = []

    async def types() -> None:
        other = asyncio.create_task(scene.ask(said("666", user=BOB, chat="-1")))
        # Bob's is a question, and so are words of others that Ann hands on.
        answer = await scene.ask(said("42", chat="-1"))
        told.append(answer.notice)
        other.cancel()

    def on_reply(reply: Reply) -> Any:
        return types() if "your next message here" in reply.notice and not told else None

    await scene.ask(said("go", chat="-1"), on_reply)
    assert told == ["Passed on."]
    assert parts_of(engine.asked[-1].said, ToolResult)[0].text == "42"
    # What she says next is a question again.
    assert (await scene.ask(said("/tools say 43", chat="-1"))).notice == "That is not asked here (any more)."


async def test_who_is_asked_to_type_may_press_instead(sqlite_store: Store) -> None:
    async def asks(use: ToolUse) -> str:
        return f"{await use.ask('How many?', ['none'], typed=True)}"

    engine = CallingEngine(called(("count", {})), "ok")
    scene = Scene(sqlite_store, engine, [tool("count", asks, timeout_s=5)])
    message = said("go")
    await scene.ask(message, presses(scene, message, "none"))
    assert parts_of(engine.asked[1].said, ToolResult)[0].text == "none"
    assert any(each.command.startswith("tooltype") for reply in scene.seen for each in reply.actions)


class _Sampled(CallingEngine):
    async def generate(self, prepared: Any, sampling: Any, **more: Any) -> AsyncGenerator[Progress, None]:
        if prepared.conversation.offer.tools:
            async for each in super().generate(prepared, sampling, **more):
                yield each
        else:
            self.asked.append(prepared.conversation)
            yield Progress("it is 7", FinishReason.STOP, completion_tokens=2)


async def test_the_model_is_asked_for_a_tool_by_the_askers_limits_and_in_the_log(sqlite_store: Store) -> None:
    async def asks(use: ToolUse) -> str:
        return await use.sample([("user", "3 + 4?")], system="Be short.", max_tokens=5)

    engine = _Sampled(called(("think", {})), "ok")
    scene = Scene(sqlite_store, engine, [tool("think", asks)], changes={"user_per_hour": 3})
    assert (await scene.ask(said("secret question"))).text == "ok"
    sampled = engine.asked[1]
    assert (sampled.system, sampled.past, sampled.said) == ("Be short.", [], ())
    assert "secret" not in str(sampled.question)
    assert parts_of(engine.asked[-1].said, ToolResult)[0].text == "it is 7"
    # The question and what was asked for it are two of three; the third is the next question.
    await scene.ask(said("again"))
    assert "may ask again in" in parts_of(engine.asked[-1].said, ToolResult)[0].text
    logged = await outcomes(sqlite_store)
    assert logged.count(("think (sampling)", "done")) == 1
    assert logged.count(("think (sampling)", "refused")) == 1


# ---- at most once ---------------------------------------------------------------------------------------------------


async def test_what_acts_is_not_done_again_by_the_next_process(store: Store) -> None:
    message = said("send it")
    engine = CallingEngine(called(("send", {"q": "hi"})), called(("send", {"q": "hi"})), "I don't know.")
    done: list[str] = []

    async def sends(use: ToolUse) -> str:
        done.append(use.id)
        await asyncio.Event().wait()
        return "sent"

    rights = ToolRights({"send": Right.ALLOW})
    scene = Scene(store, engine, [tool("send", sends, Nature.ACTS)], ToolSettings(rights=rights))
    await scene.dialogue.accept(message)

    async def dies() -> None:
        async for _ in scene.dialogue.respond(message):
            if done:
                return

    dying = asyncio.create_task(dies())
    await until(lambda: done)
    dying.cancel()
    await asyncio.wait({dying})
    second = scene.bot()
    reply = await scene.answer(message, None, second)
    assert reply.text == "I don't know."
    assert len(done) == 1
    assert [part.text for part in parts_of(engine.asked[-1].said, ToolResult)] == [UNKNOWN, UNKNOWN]
    assert ("send", "unknown") in await outcomes(store)


async def test_what_acts_and_breaks_may_have_acted_and_is_not_done_again(sqlite_store: Store) -> None:
    tries = 0

    async def breaks(use: ToolUse) -> str:
        nonlocal tries
        tries += 1
        raise RuntimeError("after it was sent")

    send = called(("send", {"q": "hi"}))
    engine = CallingEngine(send, send, "I don't know.")
    rights = ToolRights({"send": Right.ALLOW})
    scene = Scene(sqlite_store, engine, [tool("send", breaks, Nature.ACTS)], ToolSettings(rights=rights))
    assert (await scene.ask(said("send it"))).text == "I don't know."
    assert tries == 1
    assert [part.text for part in parts_of(engine.asked[-1].said, ToolResult)] == [UNKNOWN, UNKNOWN]


async def test_what_has_come_is_not_called_again_by_the_next_process(sqlite_store: Store) -> None:
    message = said("send it")
    engine = CallingEngine(called(("send", {"q": "hi"})), "Sent.")
    rights = ToolRights({"send": Right.ALLOW})
    scene = Scene(sqlite_store, engine, settings=ToolSettings(rights=rights))
    scene.tools = [scene.noting("send", Nature.ACTS, result="it is on its way")]
    scene.dialogue = scene.bot()
    await scene.dialogue.accept(message)
    replies = scene.dialogue.respond(message)
    async for _ in replies:
        if len(engine.asked) == 2:
            break
    await replies.aclose()  # type: ignore[attr-defined]
    reply = await scene.answer(message, None, scene.bot())
    assert reply.text == "Sent."
    assert len(scene.calls) == 1
    assert parts_of(engine.asked[-1].said, ToolResult)[0].text == "it is on its way"


async def test_what_nobody_comes_back_for_is_swept_out(sqlite_store: Store) -> None:
    book = book_in(sqlite_store, "tool_calls")
    for name, text in (("old", '{"at": 5}'), ("new", '{"at": 50}'), ("broken", "{"), ("odd", '{"at": "x"}')):
        await book.put(Note(name, text))
    assert await swept(book, "at", 10) == 3
    assert [note.name for note in await book.page()] == ["new"]


async def test_the_log_is_read_in_pages_from_the_newest_on(sqlite_store: Store) -> None:
    times = iter(range(1_000_000))
    log, message = ToolLog(sqlite_store, lambda: 1e9 + next(times)), said("x")
    await sqlite_store.accept(message, 1e9)
    for number in range(120):
        await log.add(message, f"call {number}", f"tool{number}", "{}", "done" if number % 2 else "failed")
    await sqlite_store.put_note(LOG, Note("99999999999999999 damaged", "{"), 1)
    shown: list[str] = []
    page = await last_calls(sqlite_store)
    while True:
        shown += [call.tool for call in page.calls]
        if not page.before:
            break
        page = await last_calls(sqlite_store, page.before)
    assert shown == [f"tool{number}" for number in reversed(range(120))]
    failed = await last_calls(sqlite_store, matching="FAIL")
    assert [call.tool for call in failed.calls][:2] == ["tool118", "tool116"]
    assert [call.tool async for call in logged_calls(sqlite_store, "tool77")] == ["tool77"]


# ---- rights ---------------------------------------------------------------------------------------------------------


async def _nothing(use: ToolUse) -> str:
    return ""


RIGHTS = st.sampled_from(list(Right))


@given(
    st.sampled_from(list(Nature)),
    st.none() | RIGHTS,
    st.none() | RIGHTS,
    st.none() | RIGHTS,
    st.none() | RIGHTS,
    st.booleans(),
)
def test_the_nearest_decision_holds_and_never_of_the_configuration_stays(
    nature: Nature,
    configured: Right | None,
    of_chat: Right | None,
    of_person: Right | None,
    in_chat: Right | None,
    mine: bool,
) -> None:
    one, message = offered(tool("t", _nothing, nature)), said("x", chat="-1")
    everything = {
        decided("t"): of_chat,
        decided("t", str(message.user)): in_chat,
        # Of nobody here.
        decided("t2"): Right.NEVER,
        decided("t", "telegram:chat:5"): Right.NEVER,
    }
    person = {decided("t"): written(of_person, one)} if of_person else {}
    if mine:
        person[own("t", here(message))] = written(Right.ALLOW, one)
    rights = ToolRights({} if configured is None else {"t*": configured})
    found = right_of(
        one,
        Role.USER,
        rights,
        person=person,
        chat={name: written(right, one) for name, right in everything.items() if right},
        who=str(message.user),
        where=here(message),
    )
    by_nature = {Nature.PURE: Right.ALLOW, Nature.READS: Right.ASK, Nature.ACTS: Right.NEVER}[nature]
    expected = in_chat or of_person or of_chat or configured or by_nature
    if configured is Right.NEVER:
        assert found is Right.NEVER
    elif expected is Right.ASK and mine:
        assert found is Right.ALLOW
    else:
        assert found is expected
    assert right_of(one, None, rights, person=person, chat={}, who="", where=here(message)) is Right.NEVER


async def test_a_tool_that_is_described_otherwise_is_asked_about_anew(sqlite_store: Store) -> None:
    scene = Scene(sqlite_store, CallingEngine(called(("read", {})), "ok"))

    async def asked(description: str, button: str = "In this chat", title: str = "Read") -> bool:
        noting = scene.noting("read", Nature.READS)
        one = replace(noting, description=description, title={"en": title})
        scene.tools = [one]
        scene.dialogue, scene.seen, message = scene.bot(), [], said("go")
        assert (await scene.ask(message, presses(scene, message, button))).text == "ok"
        shown = [action.command for reply in scene.seen for action in reply.actions]
        return any(command.startswith("tool") for command in shown)

    assert await asked("Reads a page.")
    assert not await asked("Reads a page.")
    assert await asked("Reads a page, and sends it to all.", "No")
    assert not await asked("Reads a page.")
    # What people are asked about is called by its title.
    assert await asked("Reads a page.", "No", title="Look at the weather")
    assert len(scene.calls) == 3


async def test_what_was_allowed_before_a_restart_and_has_changed_since_is_asked_about(
    sqlite_store: Store,
) -> None:
    began: list[str] = []

    async def reads(use: ToolUse) -> str:
        began.append(use.id)
        await (asyncio.Event().wait() if len(began) == 1 else asyncio.sleep(0))
        return "done"

    scene = Scene(
        sqlite_store, CallingEngine(called(("read", {})), "ok"), [tool("read", reads, Nature.READS)]
    )
    message = said("go")
    dying = asyncio.create_task(scene.ask(message, presses(scene, message, "Once")))
    await until(lambda: began)
    dying.cancel()
    await asyncio.wait({dying})
    scene.seen = []
    scene.tools = [replace(scene.tools[0], description="reads it, and sends it to all")]
    scene.dialogue = scene.bot()
    assert (await scene.answer(message, presses(scene, message, "No"), scene.dialogue)).text == "ok"
    assert len(began) == 1


async def test_what_an_administrator_opened_is_asked_about_once_it_changed(sqlite_store: Store) -> None:
    one = tool("send", _nothing, Nature.ACTS)
    chat = {decided("send"): written(Right.ALLOW, offered(replace(one, parameters={"type": "object"})))}
    facts: Any = {"person": {}, "chat": chat, "who": "telegram:5", "where": "telegram:5"}
    assert right_of(offered(one), Role.USER, ToolRights(), **facts) is Right.ASK


async def test_of_what_two_administrators_decide_at_once_nothing_is_lost(sqlite_store: Store) -> None:
    other = UserKey("telegram", "2")
    scene = Scene(sqlite_store, CallingEngine("ok"), changes={"access": Access(admins={ADMIN, other})})
    names = [f"t{number}" for number in range(6)]
    scene.tools = [scene.noting(name, Nature.READS) for name in names]
    scene.dialogue = scene.bot()
    await asyncio.gather(
        *(
            scene.ask(said(f"/tools never {name}", user=(ADMIN, other)[number % 2], chat="-1"))
            for number, name in enumerate(names)
        )
    )
    shown = await scene.ask(said("/tools", user=ADMIN, chat="-1"))
    assert shown.notice.count(": never\n") + shown.notice.endswith(": never") == 6


@given(st.text(max_size=400), st.integers(min_value=40, max_value=200))
def test_what_is_shown_of_a_call_is_one_line_of_letters_that_are_seen(text: str, most: int) -> None:
    shown = plain(json.dumps({"a": text}, ensure_ascii=False), most)
    assert len(shown) <= most
    assert not set(shown) & set("\n\r\u2028\u2029\u202e\u200b\u2066\u0007")
