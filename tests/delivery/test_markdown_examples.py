"""CommonMark's and GFM's own examples through every renderer: no word is lost, none makes anything fail."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from delivery.shown import SHOWN, is_within, letters

EXAMPLES = Path(__file__).with_name("examples")

_LANGUAGE = "the language of code is said by the platform's own label, not by the text"
_SOURCE = "the terminal shows the answer as it was written, entities included"
# What the specification's own reading shows and ours does not, on purpose.
EXCEPTIONS: dict[tuple[str, str], dict[int, str]] = {
    ("telegram", "commonmark"): {161: _LANGUAGE},
    ("discord", "commonmark"): {161: _LANGUAGE},
    ("terminal", "commonmark"): dict.fromkeys((25, 26, 27), _SOURCE),
}


def examples(name: str) -> list[dict[str, Any]]:
    return json.loads((EXAMPLES / f"{name}.json").read_text())


def visible(example: dict[str, Any]) -> str:
    """The words of the specification's HTML."""
    without_tags = re.sub(r"<!--.*?-->|<[^>]*>", " ", example["html"], flags=re.DOTALL)
    return html.unescape(without_tags)


@pytest.mark.parametrize("name", ["commonmark", "gfm"])
@pytest.mark.parametrize("platform", SHOWN)
def test_every_word_of_the_specifications_examples_is_shown(name: str, platform: str) -> None:
    lost: dict[int, tuple[str, str]] = {}
    for example in examples(name):
        shown = SHOWN[platform](example["markdown"])
        if not is_within(letters(visible(example)), letters(shown)):
            lost[example["example"]] = (example["markdown"], shown)
    assert lost.keys() == EXCEPTIONS.get((platform, name), {}).keys(), lost


def test_the_examples_are_all_there() -> None:
    assert len(examples("commonmark")) == 652
    assert len(examples("gfm")) == 24
