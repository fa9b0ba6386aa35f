"""Threads by default: of the cores that are really there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glmbot.engine.cores import quota, usable_cores


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("150000 100000\n", 1.5),
        ("max 100000\n", None),
        ("50000 100000\n", 0.5),
        ("", None),
        ("0 0\n", None),
        ("² 100000\n", None),
        ("nonsense\n", None),
    ],
)
def test_a_group_of_version_2(tmp_path: Path, text: str, cores: float | None) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    group(tmp_path / "fs", cpu__max=text)
    assert quota(tmp_path / "membership", tmp_path / "fs") == cores


def test_the_tightest_of_a_group_and_those_around_it_counts(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/machine/bot/inner\n")
    group(tmp_path / "fs/machine", cpu__max="400000 100000\n")
    group(tmp_path / "fs/machine/bot", cpu__max="200000 100000\n")
    group(tmp_path / "fs/machine/bot/inner", cpu__max="max 100000\n")
    assert quota(tmp_path / "membership", tmp_path / "fs") == 2.0


def test_a_group_of_version_1_as_containers_see_it(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("7:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    group(tmp_path / "fs/cpu,cpuacct", cpu__cfs_quota_us="300000\n", cpu__cfs_period_us="100000\n")
    assert quota(tmp_path / "membership", tmp_path / "fs") == 3.0
    group(tmp_path / "fs/cpu,cpuacct", cpu__cfs_quota_us="-1\n")
    assert quota(tmp_path / "membership", tmp_path / "fs") is None


def test_a_system_without_groups_has_no_limit(tmp_path: Path) -> None:
    assert quota(tmp_path / "none", tmp_path) is None


def test_cores_that_the_process_may_not_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmbot.engine.cores.quota", lambda *_: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 8}, raising=False)
    assert usable_cores() == 3
    for paid, cores in ((2.9, 2), (0.2, 1), (64.0, 3)):
        monkeypatch.setattr("glmbot.engine.cores.quota", lambda *_, paid=paid: paid)
        assert usable_cores() == cores
