"""The demo model's file, as others' programs read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmbot.models import demo


def test_the_file_is_got_once_also_where_there_was_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Path] = []

    def get(scratch: Path, *_: object) -> Path:
        got.append(scratch / "model.gguf")
        got[-1].write_bytes(b"GGUF")
        return got[-1]

    monkeypatch.setattr(demo, "_get_gguf", get)
    folder = tmp_path / "not" / "yet"
    first, second = demo.fetch_gguf(folder), demo.fetch_gguf(folder)
    assert first == second
    assert first.read_bytes() == b"GGUF"
    assert len(got) == 1
    assert [path.name for path in folder.iterdir()] == [first.name]
