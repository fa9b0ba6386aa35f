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
    assert len(FILES) == 4
    status, lines = check(*FILES)
    assert lines[-1].endswith(" passed, 0 failed"), "\n".join(lines)
    assert int(lines[-1].split()[0]) >= 400
    assert status == 0


@pytest.mark.parametrize("damage", ["greedy", "first_logits", "last_logits", "position_ids", "quantized"])
def test_a_wrong_vector_is_found(damage: str, tmp_path: Path) -> None:
    fields = json.loads((HERE / "vectors" / "v1.json").read_text("utf-8"))
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


def test_what_is_wrong_in_vectors_of_blanks_and_ranks_is_found(tmp_path: Path) -> None:
    fields = json.loads((HERE / "vectors" / "glm130b.json").read_text("utf-8"))
    fields["cases"] = fields["cases"][4:5]
    fields["fills"] = fields["fills"][:1]
    fields["partitions"] = {"2": fields["partitions"]["2"]}
    fields["quantized"] = {"4/4": fields["quantized"]["4/4"]}
    fields["cases"][0]["position_ids"][-1] += 1
    fields["cases"][0]["input_ids"][-2] += 1
    fields["fills"][0]["result_ids"][3] += 1
    fields["filters"][0]["kept"].pop()
    fields["partitions"]["2"][1]["transformer.layers.0.mlp.dense_4h_to_h.weight"]["crc32"] = "00000000"
    fields["quantized"]["4/4"]["crc32"][3]["transformer.layers.2.attention.dense.weight_scale"] = "00000000"
    fields["quantized"]["4/4"]["example"]["first_row"][0] += 1
    fields["quantized"]["4/4"]["case"]["last_logits"][0] += 0.01
    fields["rotary_float16"]["positions"]["500"]["sin"][0] += 0.001
    file = tmp_path / "damaged.json"
    file.write_text(json.dumps(fields), "utf-8")
    status, lines = check(file)
    assert status == 1
    found = "\n".join(lines)
    for part in ("case 0 positions", "case 0 prompt", "case 0 transformers", "fill 0", "filter 0", "2 ranks",
                 "4/4 crc", "4/4 example", "4/4 case quantised while loading alone",
                 "4/4 case quantised before alone", "float16 table"):  # fmt: skip
        assert f"FAILED damaged.json {part}: " in found, part


def test_a_file_that_is_no_vectors_file_fails(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    status, lines = check(tmp_path / "broken.json")
    assert (status, lines[-1]) == (1, "0 passed, 1 failed")
