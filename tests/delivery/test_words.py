"""No word of an answer is lost or changed by rendering, cutting or streaming, on any platform."""

from __future__ import annotations

import os
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.answers import AS_WRITTEN, Written, answers
from delivery.shown import SHOWN, cut_for, is_within, letters
from glmbot_discord.delivery import ChannelOutlet
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_web.render import Growing, to_blocks

thorough = settings(max_examples=int(os.environ.get("GLMBOT_FUZZ", "60")), deadline=None, print_blob=True)


def check(answer: Written, shown: str) -> None:
    said, seen = letters("".join(answer.words)), letters(shown)
    assert Counter(said) <= Counter(seen), (Counter(said) - Counter(seen), shown)
    # A wide table is told row by row, with its head in each.
    assert answer.table or is_within(said, seen), shown


@thorough
@given(answer=answers)
def test_no_word_is_lost_by_rendering(answer: Written) -> None:
    for show in SHOWN.values():
        check(answer, show(answer.markdown))


@pytest.mark.parametrize("platform", SHOWN)
@pytest.mark.parametrize(
    "form", ["{0}", "- {0}", "> {0}", "1. a\n   - {0}", "## {0}", "**b** {0} *i* {0}", "前{0}后", "{0}, {0}"]
)
def test_what_only_looks_like_markdown_is_shown_as_it_stands(platform: str, form: str) -> None:
    for word in AS_WRITTEN:
        seen = SHOWN[platform](form.format(word))
        assert seen.count(word) == form.count("{0}"), seen


@thorough
@given(answer=answers, times=st.integers(1, 4))
def test_no_word_is_lost_by_cutting(answer: Written, times: int) -> None:
    long = Written(("\n\n".join([answer.markdown] * times),), answer.words * times, answer.table)
    for outlet, platform in ((TelegramOutlet, "telegram"), (ChannelOutlet, "discord")):
        check(long, "".join(SHOWN[platform](piece) for piece in cut_for(outlet, long.markdown)))


@thorough
@given(answer=answers, cuts=st.lists(st.integers(0, 2000), max_size=6))
def test_a_growing_page_shows_at_each_moment_what_its_text_says(answer: Written, cuts: list[int]) -> None:
    growing = Growing()
    for length in [*sorted(cuts), 10**6, *cuts[:2]]:
        text = answer.markdown[:length]
        assert growing.blocks(text) == to_blocks(text)
