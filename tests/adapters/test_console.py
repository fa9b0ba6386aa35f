"""What a terminal shows of one answer."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from glmbot.messages import Attachment, Reply, ReplyState
from glmbot_console.delivery import print_replies
from glmbot_console.render import Lines


async def replay(*replies: Reply) -> AsyncGenerator[Reply]:
    for reply in replies:
        yield reply


async def printed(*replies: Reply, terminal: bool) -> str:
    out = io.StringIO()
    await print_replies(
        replay(*replies), Console(file=out, force_terminal=terminal, width=60, color_system=None)
    )
    return out.getvalue()


async def test_progress_overwrites_its_own_line() -> None:
    shares = [Reply("", ReplyState.STREAMING, f"Switching: {share} %") for share in (10, 50, 90)]
    text = await printed(*shares, Reply("", ReplyState.FINAL, "Done."), terminal=True)
    lines = text.replace("\r\x1b[2K", "\n").split("\n")
    assert lines == ["", "Switching: 10 %", "Switching: 50 %", "Switching: 90 %", "Done.", ""]


async def test_a_pipe_gets_the_answer_alone() -> None:
    text = await printed(
        Reply("", ReplyState.QUEUED, "In line: 1", place=1),
        Reply("one", ReplyState.STREAMING),
        Reply("one two", ReplyState.STREAMING),
        Reply("one two three", ReplyState.FINAL),
        terminal=False,
    )
    assert text == "one two three\n"


async def test_a_file_is_its_owners_alone_and_takes_the_place_of_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (b"first", b"second"):
        export = Attachment("glmbot-export.json.gz", content, "application/gzip")
        said = await printed(Reply("", ReplyState.FINAL, "Here.", attachment=export), terminal=False)
    assert "glmbot-export-2.json.gz" in said.replace("\n", "")
    written = {file.name: (file.read_bytes(), file.stat().st_mode & 0o777) for file in tmp_path.iterdir()}
    assert written == {
        "glmbot-export.json.gz": (b"first", 0o600),
        "glmbot-export-2.json.gz": (b"second", 0o600),
    }


async def test_a_file_that_can_not_be_written_is_said_and_ends_nothing() -> None:
    export = Attachment("/gone/glmbot-export.json", b"{}", "application/json")
    said = await printed(Reply("", ReplyState.FINAL, "Here.", attachment=export), terminal=False)
    assert said.endswith("/gone/glmbot-export.json: No such file or directory\n")


WORDS = "A terminal of sixty columns shows this answer, whose words are too many for one line of it. " * 2


async def grown(text: str, *, terminal: bool) -> str:
    parts = [Reply(text[:length], ReplyState.STREAMING) for length in range(3, len(text), 3)]
    said = await printed(*parts, Reply(text, ReplyState.FINAL), terminal=terminal)
    return said.replace("\r\x1b[2K", "")


async def test_a_terminals_lines_end_between_words() -> None:
    lines = (await grown(WORDS.strip(), terminal=True)).splitlines()
    assert " ".join(lines) == WORDS.strip()
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) == 4
    assert await grown(WORDS.strip(), terminal=False) == WORDS.strip() + "\n"


async def test_chinese_lines_end_anywhere_but_before_a_closing_sign() -> None:
    text = "词" * 29 + "，" + "词" * 29 + "一，二 three 四"
    assert (await grown(text, terminal=True)).splitlines() == ["词" * 29 + "，", "词" * 29, "一，二 three 四"]


async def test_code_and_what_no_line_has_room_for_keep_their_lines() -> None:
    address = "https://example.org/" + "path/" * 18
    text = f"See this address: {address} there\n\n```sh\n{WORDS}\n```\n{WORDS}"
    said = await grown(text, terminal=True)
    assert f"\n{address} there\n\n```sh\n{WORDS}\n```\n" in said
    assert WORDS not in said.partition("```\n")[2]


@given(
    st.lists(st.sampled_from(["a", "bb", "词", "词，", "🙂", " ", "\n"]), max_size=60).map("".join),
    st.lists(st.integers(0, 80), max_size=8),
    st.integers(6, 20),
)
def test_no_word_is_lost_and_no_line_too_long_however_it_comes(
    text: str, cuts: list[int], width: int
) -> None:
    lines, whole = Lines(), Lines()
    bounds = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    said = "".join(lines.add(text[start:end], width) for start, end in pairwise(bounds)) + lines.rest(width)
    assert "".join(said.split()) == "".join(text.split())
    if all(len(word) < width for word in re.findall("[ab]+", text)):
        assert said == whole.add(text, width) + whole.rest(width)
        assert all(cell_len(line.strip()) <= width for line in said.split("\n"))
