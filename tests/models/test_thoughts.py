"""What a model thinks is told from what it answers, however the text was cut on its way."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmbot.models.thoughts import Thoughts, answer_of, split

WHOLE = [
    # text, thought, answer
    ("Paris.", "", "Paris."),
    ("<think>\nhm\n</think>\n\nHi", "hm", "Hi"),
    ("<think></think>Hi", "", "Hi"),
    ("<think>\n\n</think>\n\nHi", "", "Hi"),
    ("\n<think>hm</think>Hi", "hm", "Hi"),
    ("<think>a</think><think>b</think>Hi", "a\n\nb", "Hi"),
    ("<think>a</think>\n<think>b</think>\nHi", "a\n\nb", "Hi"),
    ("<think>a</think>One.\n<think>b</think>\nTwo.", "a\n\nb", "One.\n\nTwo."),
    ("<think>a</think>One.<think>b</think>Two.", "a\n\nb", "One.Two."),
    ("One <think>b</think> two", "b", "One  two"),
    ("Sure.<think>\nb\n</think>\nTwo", "b", "Sure.\nTwo"),
    ("<think>a <think> b</think>Hi", "a <think> b", "Hi"),
    ("<think>a</think>b</think>c", "a", "bc"),
    ("<think>`</think>` ends it</think>Hi", "`</think>` ends it", "Hi"),
    ("<think>never ended", "never ended", ""),
    ("Hi\n<think>never ended", "never ended", "Hi\n"),
    # A template has opened it, and nobody knew.
    ("hm\n</think>\n\nHi", "hm", "Hi"),
    ("hm</think>\nHi", "hm", "Hi"),
]
WORDS = [
    "`<think>` opens it",
    "``<think>`` and `</think>` are tags.",
    "```xml\n<think>\na\n</think>\n```\nThat is all.",
    "~~~\n<think>a</think>\n~~~",
    "- so:\n  ```\n  <think>a</think>\n  ```\n- done",
    'It is called "<think>" there.',
    "“<think>” 和 “</think>”",
    "「<think>」是标签",
    '"<think>a</think>" is what it writes.',
    "> <think>a</think>\n\nsays the log.",
    "Text:\n\n    <think>a</think>\n\nand more",
    "the tags <think> and </think> mark it",
    "<b>so <think>…</think> it is</b>",
    "The <think> tag opens it.",
    "标签<think>表示思考",
    "a < b, <t, </th and <thin",
    "\\<think>a\\</think>",
    "",
    "  \n",
    "`",
    "a <",
]


@pytest.mark.parametrize(("text", "thought", "answer"), WHOLE)
def test_a_thought_is_told_from_the_answer(text: str, thought: str, answer: str) -> None:
    assert split(text) == (thought, answer)


@pytest.mark.parametrize("text", WORDS)
def test_an_answer_that_speaks_about_the_tags_is_left_as_it_is(text: str) -> None:
    assert split(text) == ("", text)
    assert answer_of(text) == text
    _grows_only(text, inside=False)


@pytest.mark.parametrize(
    ("text", "cut", "thought", "answer"),
    [
        ("hm\n</think>\n\nHi", False, "hm", "Hi"),
        ("hm", False, "hm", ""),
        ("hm</thi", True, "hm", ""),
        ("<think>\nhm</think>Hi", False, "hm", "Hi"),
        ("</think>Hi", False, "", "Hi"),
    ],
)
def test_a_prompt_may_have_opened_the_thought(text: str, cut: bool, thought: str, answer: str) -> None:
    assert split(text, inside=True, cut=cut) == (thought, answer)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>hm</th", "hm", ""),
        ("One <think>hm", "hm", "One "),
        ("One\n<thi", "", "One\n"),
        ("One <think>", "", "One "),
        ("One <", "", "One "),
        ("```\na", "", "```\na"),
        ("a `", "", "a `"),
        ("<think>hm</think>", "hm", ""),
        ("hm\n</think>", "hm", ""),
    ],
)
def test_what_was_cut_in_the_middle_shows_no_piece_of_a_tag(text: str, thought: str, answer: str) -> None:
    assert split(text, cut=True) == (thought, answer)


def _grows_only(text: str, *, inside: bool, cuts: list[int] | None = None) -> list[tuple[str, str]]:
    """Every snapshot is the beginning of the later ones."""
    thoughts = Thoughts(inside)
    seen = [thoughts.read(text[:end]) for end in (range(len(text) + 1) if cuts is None else sorted(cuts))]
    seen.append(thoughts.end(text))
    for earlier, later in zip(seen, seen[1:], strict=False):
        assert later[0].startswith(earlier[0])
        assert later[1].startswith(earlier[1])
    assert seen[-1] == split(text, inside=inside)
    return seen


_SECRETS = st.text("SECRT \n`\"'<>/x", max_size=12).map(lambda text: f"SECRET{text.replace('<', '')}")
_SAYS = st.text("abc .\n", max_size=12).map(lambda text: f"says{text}")


@given(st.data(), st.booleans(), st.booleans(), st.lists(st.tuples(_SECRETS, _SAYS), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_however_it_is_cut_nothing_of_a_thought_is_in_an_answer(
    data: st.DataObject, inside: bool, lines: bool, told: list[tuple[str, str]]
) -> None:
    end = "\n" if lines else ""
    text = "".join(f"<think>{end}{thought}{end}</think>{end}{answer}" for thought, answer in told)
    text = text.removeprefix("<think>") if inside else text
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=20))
    for thought, answer in _grows_only(text, inside=inside, cuts=cuts):
        assert not set("SECRT<>/") & set(answer)
        assert "</" not in thought
    at = data.draw(st.integers(0, len(text)))
    thought, answer = split(text[:at], inside=inside, cut=True)
    assert not set("SECRT<>/") & set(answer)
    thought, answer = split(text, inside=inside)
    assert "".join(answer.split()) == "".join("".join(said for _, said in told).split())
    assert "".join(thought.split()) == "".join("".join(secret for secret, _ in told).split())


@given(
    st.lists(
        st.sampled_from(["<think>", "</think>", "<thi", "`", "```", "\n", " ", "a", '"', "> ", "    ", "<"])
    )
)
@settings(max_examples=300, deadline=None)
def test_any_text_grows_only_and_is_never_refused(pieces: list[str]) -> None:
    text = "".join(pieces)
    thoughts = Thoughts()
    orphan = False
    seen = ("", "")
    for end in range(len(text) + 1):
        now = thoughts.read(text[:end])
        orphan = orphan or not now[1].startswith(seen[1])
        assert now[0].startswith(seen[0])
        seen = now
    # Only a closing tag that nothing opened takes back what was an answer.
    assert not orphan or "</think>" in text
    split(text, cut=True)
    assert answer_of(answer_of(text)) == answer_of(answer_of(answer_of(text)))


def test_a_long_text_is_read_once() -> None:
    """A token costs the same however long the answer is: 20,000 of them take no time."""
    thoughts = Thoughts()
    text = "<think>" + "so it is <b> " * 2000 + "</think>" + "a `b` < c\n" * 2000
    looked = 0
    for end in range(0, len(text), 9):
        thoughts.read(text[:end])
        looked += 1
    assert thoughts.end(text)[1] == "a `b` < c\n" * 2000
    assert looked > 5000
