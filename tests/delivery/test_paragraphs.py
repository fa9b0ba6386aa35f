"""Whole paragraphs of a growing text, and answers in them where nothing that was sent can be changed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from delivery.answers import Written, answers
from glmbot.delivery.abilities import Ability
from glmbot.delivery.blocks import Place, step
from glmbot.delivery.once import Once
from glmbot.delivery.outlet import Flooded, Outlet, Piece, Refused, Unreachable
from glmbot.delivery.pace import Pace
from glmbot.delivery.paragraphs import Paragraphs
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.stream import show
from glmbot.messages import Action, Attachment, Reply, ReplyState
from virtual_time import run_in_virtual_time

ANEW, TWICE, STOPPED = "begun anew", "perhaps twice", "stopped"
LIMIT = 200

# ---- where paragraphs end ----------------------------------------------------------------------------------------

WHOLE = [
    ("one\n\ntwo", "one\n\n"),
    ("one\n\n", ""),
    ("one\ntwo\n\n1", ""),
    ("one\n\n1. two", ""),
    ("- a\n- b\n\n- c", ""),
    ("- a\n\n  more\n\nend", "- a\n\n  more\n\n"),
    ("- a\nlazy\n", ""),
    ("> a\n>\n> b\n\nend", "> a\n>\n> b\n\n"),
    ("```\na\n\nb\n", ""),
    ("```\na\n\nb\n```\nend\n", "```\na\n\nb\n```\n"),
    ("```\n# no heading\n\nx", ""),
    ("$$\na\n\nb\n$$\n\nend", "$$\na\n\nb\n$$\n\n"),
    ("| a | b |\n|---|---|\n| c | d |\n\nend", "| a | b |\n|---|---|\n| c | d |\n\n"),
    ("| a | b |\n|---|---|\n| c | d |\n", ""),
    ("# head\n\ntext\n\nend", "# head\n\ntext\n\n"),
    ("text\n# head\n\nmore", "text\n"),
    ("Title\n---\n\nmore", "Title\n---\n\n"),
    ("    code\n\n    code\n\nend", "    code\n\n    code\n\n"),
    ("这是第一段。\n\n第二段", "这是第一段。\n\n"),
    ("1. a\n\n```\nx\n```\n\n2. b\n", "1. a\n\n```\nx\n```\n\n"),
    ("These:\n\n- a\n- b\n", "These:\n\n"),
    ("These:\n- a\n- b\n", "These:\n"),
    ("- a\n  - b\n\n  - c\n", ""),
    ("# head\n\n- a\n- b\n", ""),
    ("> a\n\n- b\n", "> a\n\n"),
]


@pytest.mark.parametrize(("text", "whole"), WHOLE)
def test_what_is_whole_ends_where_another_paragraph_begins(text: str, whole: str) -> None:
    assert text[: Paragraphs().end(text)] == whole


@settings(max_examples=30)
@given(answers, st.randoms(use_true_random=False))
def test_what_was_whole_stays_so_and_nothing_is_cut_in_code_lists_or_tables(
    written: Written, dice: random.Random
) -> None:
    text, reader, ends = written.markdown, Paragraphs(), [0]
    for at in sorted(dice.choices(range(len(text) + 1), k=20)):
        ends.append(reader.end(text[:at]))
        assert ends[-1] == Paragraphs().end(text[:at]), "however it was cut before"
    assert ends == sorted(ends)
    place = Place()
    at = 0
    for line in text.split("\n"):
        if at in ends and at:
            assert place.block.kind not in ("fence", "math")
        before = place
        place, _, _ = step(place, line)
        if at in ends and at:
            assert not (before.containers and place.containers)
            assert place.block.kind != "blank"
        at += len(line) + 1


# ---- a platform that can't edit ----------------------------------------------------------------------------------


@dataclass
class Toy(Outlet):
    """It takes a message, or says that it does not, and shows it for ever. `lost`: requests whose answer does not
    come though they were taken; `outages`: those that are not taken."""

    once: bool = False
    more: frozenset[Ability] = frozenset()
    latency_s: float = 0.1
    law_s: float = 0.5
    lost: set[int] = field(default_factory=set[int])
    outages: set[int] = field(default_factory=set[int])
    refuses_files: bool = False
    shown: list[Piece | Attachment] = field(default_factory=list[Piece | Attachment])
    places: dict[str, str] = field(default_factory=dict[str, str])
    writes: list[float] = field(default_factory=list[float])
    typed: list[float] = field(default_factory=list[float])
    requests: int = 0
    held_until: float = 0.0

    @property
    def abilities(self) -> frozenset[Ability]:
        return self.more | {Ability.TYPING} | ({Ability.ONCE} if self.once else set[Ability]())

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(
            reply,
            LIMIT,
            notice_room=100,
            measure=len,
            accepts=lambda _: True,
            fits_folded=lambda each: len(each) <= LIMIT,
        )

    async def send(self, item: Piece | Attachment, place: str) -> str:
        self.requests += 1
        number = self.requests
        await asyncio.sleep(self.latency_s / 2)
        now = asyncio.get_running_loop().time()
        if number in self.outages:
            raise Unreachable("no network")
        if self.refuses_files and isinstance(item, Attachment):
            raise Refused("no files")
        wait = max(self.held_until - now, self.writes[-1] + self.law_s - now if self.writes else 0.0)
        if wait > 1e-9:
            raise Flooded(wait)
        self.writes.append(now)
        if self.once and place in self.places:
            return self.places[place]
        self.shown.append(item)
        self.places[place] = f"m{len(self.shown)}"
        await asyncio.sleep(self.latency_s / 2)
        if number in self.lost:
            raise Unreachable("no answer")
        return self.places[place]

    async def typing(self) -> None:
        self.typed.append(asyncio.get_running_loop().time())

    @property
    def pieces(self) -> list[Piece]:
        return [each for each in self.shown if isinstance(each, Piece)]

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.pieces if each.text]


def words_of(texts: Sequence[str]) -> list[str]:
    return " ".join(texts).split()


async def growing(
    text: str, *, by: int = 7, step_s: float = 0.05, ends: ReplyState = ReplyState.FINAL, **more: object
) -> AsyncGenerator[Reply]:
    for end in range(0, len(text), by):
        yield Reply(text[:end], ReplyState.STREAMING)
        await asyncio.sleep(step_s)
    yield Reply(text, ends, **more)  # pyright: ignore[reportArgumentType]


def told(**changes: object) -> Once:
    return Once(begun_anew=ANEW, maybe_repeated=TWICE, key="5", **changes)  # pyright: ignore[reportArgumentType]


PARAGRAPHS = "\n\n".join(
    f"Paragraph {number}: " + " ".join(f"w{number}.{each}" for each in range(12)) for number in range(8)
)


def test_paragraphs_are_sent_as_they_end_and_the_sign_of_typing_goes_on() -> None:
    toy = Toy()
    run_in_virtual_time(show(growing(PARAGRAPHS, step_s=0.2), toy, Pace(0.5), once=told()))
    assert words_of(toy.texts) == PARAGRAPHS.split()
    assert len(toy.texts) == 8
    assert all(text.startswith("Paragraph") for text in toy.texts)
    assert len(toy.typed) >= 4
    assert toy.typed[0] < toy.writes[0]


def test_at_a_slow_pace_paragraphs_come_together() -> None:
    toy = Toy(law_s=5.0)
    run_in_virtual_time(show(growing(PARAGRAPHS), toy, Pace(5.0), once=told()))
    assert words_of(toy.texts) == PARAGRAPHS.split()
    assert len(toy.texts) < 8


def test_as_a_whole_an_answer_comes_at_its_end() -> None:
    toy = Toy()

    async def main() -> float:
        await show(growing(PARAGRAPHS, step_s=0.1), toy, Pace(0.5), once=told(whole=True))
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) > 8
    assert words_of(toy.texts) == PARAGRAPHS.split()
    assert toy.writes[0] > 8


def test_a_stop_sends_what_was_said_with_its_line_and_buttons_only_where_there_are_some() -> None:
    stop = Action("/retry", "Retry")
    for more in (frozenset[Ability](), frozenset({Ability.BUTTONS})):
        toy = Toy(more=more)
        replies = growing(PARAGRAPHS[:150], ends=ReplyState.STOPPED, notice=STOPPED, actions=(stop,))
        run_in_virtual_time(show(replies, toy, Pace(0.1), once=told()))
        assert words_of(toy.texts) == PARAGRAPHS[:150].split()
        assert [each.notice for each in toy.pieces][-1] == STOPPED
        assert toy.pieces[-1].actions == ((stop,) if more else ())


def test_a_line_of_the_bots_own_is_sent_once_and_what_passes_is_not_sent() -> None:
    async def switching() -> AsyncGenerator[Reply]:
        for share in range(10):
            yield Reply("", ReplyState.QUEUED, f"{share}0 %")
            await asyncio.sleep(1)
        yield Reply("", ReplyState.FINAL, "done")

    toy = Toy()
    run_in_virtual_time(show(switching(), toy, Pace(0.1), once=told()))
    assert toy.pieces == [Piece("", "done")]


def test_files_come_where_there_are_some_and_else_a_line() -> None:
    file = Attachment("a.json", b"{}", "application/json")
    files = frozenset({Ability.FILE})
    for more, refuses, shown in (
        (files, False, file),
        (files, True, None),
        (frozenset[Ability](), False, None),
    ):
        toy = Toy(more=more, refuses_files=refuses)
        replies = growing("here it is", attachment=file)
        run_in_virtual_time(show(replies, toy, Pace(0.1), once=told(), no_file="no file"))
        assert toy.shown == [Piece("here it is"), shown or Piece("", "no file")]


def test_a_file_that_may_stand_there_already_comes_behind_a_line_that_says_so() -> None:
    file = Attachment("a.json", b"{}", "application/json")
    # The answer to the file's own request does not come.
    toy = Toy(more=frozenset({Ability.FILE}), lost={2})
    run_in_virtual_time(show(growing("here it is", attachment=file), toy, Pace(1.0), once=told()))
    assert toy.shown == [Piece("here it is"), file, Piece("", TWICE), file]


def test_when_an_answer_begins_again_with_other_words_that_is_said() -> None:
    """A model server died, and another one began again; in the end a moderator refused."""

    async def twice() -> AsyncGenerator[Reply]:
        yield Reply("One.\n\nTwo", ReplyState.STREAMING)
        await asyncio.sleep(5)
        yield Reply("On", ReplyState.STREAMING)
        await asyncio.sleep(5)
        yield Reply("Other.\n\nWords", ReplyState.FINAL)

    toy = Toy()
    run_in_virtual_time(show(twice(), toy, Pace(0.1), once=told()))
    assert [each.text or each.notice for each in toy.pieces] == ["One.", ANEW, "Other.\n\nWords"]

    async def refused() -> AsyncGenerator[Reply]:
        yield Reply("One.\n\nTwo", ReplyState.STREAMING)
        await asyncio.sleep(5)
        yield Reply("", ReplyState.FAILED, "refused")

    toy = Toy()
    run_in_virtual_time(show(refused(), toy, Pace(0.1), once=told()))
    assert [each.text or each.notice for each in toy.pieces] == ["One.", "refused"]


@pytest.mark.parametrize("dies", [0.7, 2.0, 1e9])
@pytest.mark.parametrize("whole", [True, False])
def test_what_the_model_thought_stands_once_before_its_first_words(dies: float, whole: bool) -> None:
    world = Lives(Toy())

    async def thinking() -> AsyncGenerator[Reply]:
        yield Reply("", ReplyState.STREAMING, thought="hm")
        async for reply in growing(PARAGRAPHS):
            yield replace(reply, thought="hm, so")

    async def main() -> None:
        for life in (dies, 1e9):
            await world.live(thinking(), Pace(0.5), whole=whole, dies=life)

    run_in_virtual_time(main())
    assert [piece.thought for piece in world.toy.pieces if piece.thought] == ["hm, so"]
    assert world.toy.pieces[0].thought
    assert words_of(world.toy.texts) == PARAGRAPHS.split()


def test_an_answer_that_another_process_goes_on_with_has_no_end_here() -> None:
    toy = Toy()
    replies = growing(PARAGRAPHS[:120], ends=ReplyState.FAILED, notice="stopping", resumes=True)
    run_in_virtual_time(show(replies, toy, Pace(0.1), once=told()))
    assert "stopping" not in [each.notice for each in toy.pieces]
    assert words_of(toy.texts) == PARAGRAPHS.split()[: len(words_of(toy.texts))]
    assert len(toy.texts) == 1


@dataclass
class Lives:
    """Processes that die one after the other and know what the one before had noted."""

    toy: Toy
    ids: list[str] = field(default_factory=list[str])
    said: str = ""
    noted: int = 0

    async def note(self, ids: Sequence[str], said: str) -> None:
        self.ids[:], self.said, self.noted = ids, said, self.noted + 1

    async def live(
        self, replies: AsyncGenerator[Reply], pace: Pace, *, whole: bool = False, dies: float = 1e9
    ) -> None:
        once = told(said=self.said, note=self.note, whole=whole)
        process = asyncio.ensure_future(show(replies, self.toy, pace, sent=list(self.ids), once=once))
        await asyncio.wait({process}, timeout=dies)
        if process.done():
            process.result()
            return
        process.cancel()
        await asyncio.wait({process})


@given(
    text=answers.map(lambda written: written.markdown),
    seed=st.integers(0, 10**6),
    lives=st.lists(st.floats(0.05, 9.0), max_size=4),
    holds=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), max_size=2),
    outages=st.sets(st.integers(1, 9), max_size=3),
    lost=st.sets(st.integers(1, 9), max_size=3),
    once=st.booleans(),
    whole=st.booleans(),
    latency=st.floats(0.0, 1.0),
)
@example(PARAGRAPHS, 1, [3.0, 3.0], [], set(), {2}, False, False, 0.3)
@example(
    "> **water** $x$\n>\n> **water**\n\n> **water** $x$\n>\n> **water**",
    0,
    [],
    [],
    {2},
    set(),
    False,
    False,
    0.0,
)
def test_whatever_restarts_floods_and_outages_come_each_paragraph_is_sent_once(
    text: str, seed: int, lives: list[float], holds: list[tuple[float, float]], outages: set[int],
    lost: set[int], once: bool, whole: bool, latency: float,
) -> None:  # fmt: skip
    """The answer is the same each time (it was recorded, or nothing is drawn)."""
    dice = random.Random(seed)
    whole_life = Lives(Toy(once=once, latency_s=latency, outages=outages, lost=lost))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for at, length in holds:
            loop.call_at(at, lambda until: setattr(whole_life.toy, "held_until", until), at + length)
        for life in [*lives, 1e9]:
            replies = growing(text, step_s=dice.random() / 4)
            await whole_life.live(replies, Pace(0.5), whole=whole, dies=life)

    run_in_virtual_time(main())
    toy = whole_life.toy
    said = [(each.text, TWICE in each.notice) for each in toy.pieces]
    # What may stand there twice follows right behind what it repeats, and says so.
    once_each = [each for number, each in enumerate(said) if not _repeats(said, number)]
    if once:
        assert not any(twice for _, twice in said)
        assert len(once_each) == len(said)
    assert ANEW not in [each.notice for each in toy.pieces]
    # All of them: a paragraph may well say what the one before it says.
    assert _same("".join(piece for piece, _ in said), text), said


def _repeats(said: list[tuple[str, bool]], number: int) -> bool:
    return number > 0 and said[number][1] and said[number][0] == said[number - 1][0]


def _same(shown: str, text: str) -> bool:
    """But for what is closed, reopened and said again of heads at cuts: letters in order, none lost."""
    rest = iter(shown)
    return all(char in rest for char in text if char.isalnum())


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    lives=st.lists(st.floats(0.05, 6.0), min_size=1, max_size=3),
    once=st.booleans(),
    latency=st.floats(0.0, 1.0),
)
def test_an_answer_that_comes_out_differently_after_a_restart_is_whole_below_a_line_that_says_so(
    seed: int, lives: list[float], once: bool, latency: float
) -> None:
    dice = random.Random(seed)
    world = Lives(Toy(once=once, latency_s=latency))
    answers_of = [PARAGRAPHS.replace("w", f"life{number}.") for number in range(len(lives) + 1)]

    async def main() -> None:
        for text, life in zip(answers_of, [*lives, 1e9], strict=True):
            await world.live(growing(text, step_s=dice.random() / 4), Pace(0.5), dies=life)

    run_in_virtual_time(main())
    shown = [each.text or each.notice for each in world.toy.pieces]
    lines = [number for number, each in enumerate(shown) if each.startswith(ANEW)]
    below = shown[lines[-1] + 1 :] if lines else shown
    assert words_of(below) == answers_of[-1].split()


def test_a_note_of_what_was_said_tells_no_word_of_it_and_a_broken_one_is_none() -> None:
    world = Lives(Toy())
    run_in_virtual_time(world.live(growing(PARAGRAPHS), Pace(0.5), dies=4.0))
    assert world.said
    assert "Paragraph" not in world.said
    for broken in (
        "[]",
        "{",
        "[1, 2]",
        '["a", 1, "", 0, false, false, 0]',
        '[9, 1, "", 0, false, false, 0]',
        "null",
    ):
        toy = Toy()
        run_in_virtual_time(show(growing("hello"), toy, Pace(0.1), once=told(said=broken)))
        assert toy.texts == ["hello"]
