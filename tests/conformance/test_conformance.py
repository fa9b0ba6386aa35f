"""The vectors of the published code: ours agrees, and the check sees it when something does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted((HERE / "vectors").glob("*.json"))


def check(*files: Path) -> tuple[int, list[str]]:
    command = [sys.executable, str(HERE / "check.py"), *map(str, files)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    return outcome.returncode, outcome.stdout.splitlines()


def test_every_case_of_the_published_vectors_passes_in_every_way() -> None:
    assert len(FILES) == 3
    status, lines = check(*FILES)
    assert lines[-1].endswith(" passed, 0 failed"), "\n".join(lines)
    assert int(lines[-1].split()[0]) >= 100
    assert status == 0


@pytest.mark.parametrize("damage", ["greedy", "first_logits", "last_logits", "position_ids", "quantized"])
def test_a_wrong_vector_is_found(damage: str, tmp_path: Path) -> None:
    fields = json.loads(FILES[0].read_text("utf-8"))
    case = fields["cases"][1]
    if damage == "greedy":
        case["greedy"][3] += 1
    elif damage == "position_ids":
        case["position_ids"][0][-1] += 1
    elif damage == "quantized":
        fields["quantized"]["4"]["case"]["last_logits"][0] += 0.01
    else:
        case[damage][0] += 0.001
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps(fields), "utf-8")
    status, lines = check(file)
    assert status == 1
    assert not lines[-1].endswith(" 0 failed")
    assert any(line.startswith("FAILED damaged.json") for line in lines)


def test_a_file_that_is_no_vectors_file_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    status, lines = check(tmp_path / "broken.json")
    assert (status, lines[-1]) == (1, "0 passed, 1 failed")
