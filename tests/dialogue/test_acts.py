"""Which messages are one act, and what an act says as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialogue.told import LONGEST, cut, said
from glmbot.dialogue import acts
from glmbot.dialogue.commands import Commands
from glmbot.dialogue.gathering import Gathering
from glmbot.keys import UserKey
from glmbot.messages import MOST_PIECES, Act, Message, Press, Unfinished
from glmbot.plugins import load_plugins
from glmbot.store.message_json import message_from_json, message_to_json

COMMANDS = Commands(load_plugins().commands)


def together(*messages: Message) -> list[list[str]]:
    groups = acts.grouped([Unfinished(message, {}) for message in messages], COMMANDS)
    return [[entry.message.update_id for entry in group] for group in groups]


@pytest.mark.parametrize(
    "messages",
    [
        [said(1, album="a"), said(2, "what is this?", album="a"), said(3, album="a")],
        [cut(1, "one"), cut(2, "two"), said(3, "three", at=1002)],
        [cut(1, "/ask one"), said(2, "two")],
        [said(1, "look at these"), said(2, "x", forwarded=True), said(3, "y", forwarded=True, at=1001)],
        [said(1, "/ask look at these"), said(2, "x", forwarded=True)],
        [said(1, "x", forwarded=True), said(2, "y", forwarded=True)],
        [said(1, "x", album="a", forwarded=True), said(2, "y", forwarded=True)],
        [said(1, "question"), said(1, "qestion", edits=True, at=1000)],
        [cut(1, "one"), said(2, "two"), said(2, "2", edits=True), said(1, "1", edits=True)],
        [said(1, "newer words", edits=True), said(1, "older words")],
    ],
)
def test_what_is_sent_at_once_is_one_act(messages: Sequence[Message]) -> None:
    assert len(together(*messages)) == 1
    # Somebody else in between changes nothing.
    other = replace(said(9, "hello"), user=UserKey("telegram", "8"))
    assert sorted(map(len, together(messages[0], other, *messages[1:]))) == [1, len(messages)]
    # What a platform without times says, or an earlier release stored, stands alone.
    bare = [replace(message, act=Act()) for message in messages]
    assert len(together(*bare)) == len(messages)


@pytest.mark.parametrize(
    "messages",
    [
        [said(1, "one"), said(2, "two")],
        [said(1, album="a"), said(2, album="b")],
        [cut(1, "one"), said(2, "two"), said(3, "three")],
        [cut(1, "one"), said(2, "much later", at=1060)],
        [cut(1, "one", at=1060), said(2, "before", at=1000)],
        [cut(1, "one"), said(2, "/stop")],
        [cut(1, "one"), replace(said(2, "caption"), media="photo")],
        [said(1, "x", forwarded=True), said(2, "what do you think?")],
        [said(1, "/whoami"), said(2, "x", forwarded=True)],
        [said(1, "question"), said(2, "x", forwarded=True, at=1060)],
        [said(1, "question"), said(2, "another", edits=True)],
        [cut(1, "one"), replace(said(2, "/stop"), intent=Press("a1"))],
    ],
)
def test_what_is_not_sent_at_once_is_not(messages: Sequence[Message]) -> None:
    assert together(*messages) == [
        *([[messages[0].update_id, messages[1].update_id]] if len(messages) == 3 else []),
        *([each.update_id] for each in (messages[2:] if len(messages) == 3 else messages)),
    ]


def test_words_that_come_after_their_edit_are_old() -> None:
    later = [said(1, "newer words", edits=True), said(2, "another question"), said(1, "older words")]
    assert together(*later) == [["1 edited newer words", "1"], ["2"]]
    assert acts.whole([later[0], later[2]]).text == "newer words"


def test_forwarded_words_are_a_question_and_never_a_command() -> None:
    first, second = (said(number, text, forwarded=True) for number, text in ((1, "/forget yes"), (2, "why?")))
    whole = acts.whole([replace(first, quoted_from="Ann"), second])
    assert (whole.text, whole.quoted, whole.quoted_from) == ("", "Ann:\n/forget yes\n\nwhy?", "")
    assert acts.whole([whole, said(3, "so", forwarded=True)]).quoted == "Ann:\n/forget yes\n\nwhy?\n\nso"
    commented = acts.whole([said(0, "look"), replace(first, quoted_from="Ann"), second])
    assert (commented.text, commented.quoted) == ("look\n\nAnn:\n/forget yes\n\nwhy?", "")
    # Nor is what was asked with /ask, when a later piece of it is edited.
    edit = acts.edited(said(2, "no", edits=True), "/forget yes", "1", {"2": 4})
    assert edit.text == "/ask /forget no"


def test_an_act_has_only_so_many_pieces() -> None:
    pieces = [cut(number, "x") for number in range(MOST_PIECES + 5)]
    assert [len(group) for group in together(*pieces)] == [MOST_PIECES, 5]
    assert acts.whole(pieces[:MOST_PIECES]).text == "x" * MOST_PIECES
    assert not acts.awaits_more(pieces[:MOST_PIECES])


@pytest.mark.parametrize(
    ("first", "units", "second", "whole"),
    [
        ("wor", LONGEST, "ld", "world"),
        ("a word", LONGEST - 2, "longer than that", "a word longer than that"),
        ("a line", 3000, "and another", "a line\nand another"),
        ("space kept ", LONGEST, "here", "space kept here"),
        ("😀", LONGEST - 2, "😀 twice", "😀 😀 twice"),
    ],
)
def test_a_cut_text_is_put_together_as_it_was(first: str, units: int, second: str, whole: str) -> None:
    assert acts.whole([said(1, first, cut=units), said(2, second)]).text == whole


WORDS = st.text(alphabet="abc 字\n", max_size=12).map(str.strip)


@settings(max_examples=200)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=6),
    kind=st.sampled_from(["cut", "album"]),
    data=st.data(),
)
def test_an_edit_changes_its_own_piece_and_no_other(texts: list[str], kind: str, data: st.DataObject) -> None:
    facts: dict[str, Any] = {"cut": {"cut": LONGEST - 5}, "album": {"album": "a"}}[kind]
    pieces = [said(number, text, **facts) for number, text in enumerate(texts)]
    whole = acts.whole(pieces)
    assert [word for text in texts for word in text.split()] == whole.text.split()
    number = data.draw(st.integers(0, len(texts) - 1))
    words = data.draw(WORDS)
    changed = said(number, words, edits=True)
    expected = [word for text in [*texts[:number], words, *texts[number + 1 :]] for word in text.split()]
    for before in (pieces, [whole]):
        assert acts.whole([*before, changed]).text.split() == expected
    # The same of what was answered, whether a quotation stands in front of it or not.
    if texts[0]:
        assert acts.edited(changed, whole.text, whole.ref, whole.act.pieces).text.split() == expected
    if number:
        quoting = acts.edited(changed, f"> quoted\n\n{whole.text}", whole.ref, whole.act.pieces)
        assert quoting.text.split() == [">", "quoted", *expected]
    assert message_from_json(message_to_json(whole)) == whole


@given(pauses=st.lists(st.floats(0.0, 3.0), max_size=30))
def test_an_act_is_given_out_a_second_after_its_last_piece_and_ten_after_its_first(
    pauses: list[float],
) -> None:
    gathering, now, pieces = Gathering(), 0.0, list[Message]()
    arrived: list[float] = []
    for number, pause in enumerate([0.0, *pauses]):
        end = min(arrived[-1] + 1.0, 10.0) if arrived else now
        if arrived and now + pause >= end:
            assert gathering.wait_for(pieces, end) == 0
            return
        now += pause
        pieces.append(cut(number, "x"))
        arrived.append(now)
        assert gathering.wait_for(pieces, now) == pytest.approx(min(now + 1.0, 10.0) - now)
    assert gathering.wait_for([*pieces, said(99, "the end")], now) == 0
