"""Markdown as plain text: what it means, and no word of it lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.waiting import letters
from glmbot.delivery.plain import plain_text

MARKDOWN = """\
# Title

Some **bold**, `code`, $x^2$ and [a link](https://example.org/a).

- one
- two
  1. inner

> quoted

```python
if x:
    pass
```

| a | b |
| - | - |
| 1 | 2 |
"""

PLAIN = """\
Title

Some bold, code, $x^2$ and a link (https://example.org/a).

• one
• two
  1. inner

> quoted

if x:
    pass

a | b
--+--
1 | 2"""


def test_it_reads_as_what_it_means() -> None:
    assert plain_text(MARKDOWN) == PLAIN
    assert plain_text("") == plain_text("\n") == "…"
    assert plain_text("<https://example.org> and ![](https://example.org/a.png)") == (
        "https://example.org and https://example.org/a.png"
    )


BLOCK = st.sampled_from(
    [
        "# Head{}",
        "word{} **b{}** *c*",
        "- item{}\n- more",
        "1. one{}",
        "> said{}",
        "```py\ncode{}\n```",
        "***",
        "a{}\\",
    ]
)


@given(st.lists(BLOCK, max_size=8))
def test_no_word_is_lost_or_said_twice(blocks: list[str]) -> None:
    written = "\n\n".join(block.replace("{}", f"x{index}y") for index, block in enumerate(blocks))
    shown = plain_text(written)
    for index, block in enumerate(blocks):
        assert letters(shown).count(f"x{index}y") == block.count("{}")


@pytest.mark.parametrize(
    "worst", ["> " * 5000, "- " * 5000, "[a](<" * 5000, "*a **b _c " * 3000, "|a" * 3000]
)
def test_it_takes_no_more_than_its_length(worst: str) -> None:
    begun = time.perf_counter()
    plain_text(worst)
    assert time.perf_counter() - begun < 5
