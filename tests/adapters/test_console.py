"""What a terminal shows of one answer."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from rich.console import Console

from glmbot.messages import Attachment, Reply, ReplyState
from glmbot_console.delivery import print_replies


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
