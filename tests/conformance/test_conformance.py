"""The vectors of the published code: ours agrees, and the check sees it when something does not."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from check import check, main
from vectors_file import Runs, Tally

HERE = Path(__file__).parent
FILES = sorted((HERE / "vectors").glob("*.json"))
_WAYS = ["transformers", "left", "right", "alone", "batched", "native alone", "native batched"]


@pytest.fixture(scope="module")
def runs() -> defaultdict[Path, Runs]:
    """What our classes make of the prompts of each file, once: no expectation has a part in it."""
    return defaultdict(Runs)


def test_there_is_a_file_of_each_generation() -> None:
    assert [file.stem for file in FILES] == ["glm130b", "v1", "v2", "v3"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_case_of_the_published_vectors_passes_in_every_way(
    file: Path, runs: defaultdict[Path, Runs], capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()
    check(file, tally, runs[file])
    assert tally.failed == 0, capsys.readouterr().out
    assert tally.passed >= (200 if file.stem == "glm130b" else 50)


@pytest.mark.parametrize(
    ("damage", "found_by"),
    [
        ("greedy", _WAYS),
        ("first_logits", _WAYS),
        ("last_logits", _WAYS),
        ("position_ids", ["positions"]),
        ("quantized", ["int4 alone", "int4 batched"]),
    ],
)
def test_a_wrong_vector_is_found_in_every_way_that_it_is_of(
    damage: str,
    found_by: list[str],
    tmp_path: Path,
    runs: defaultdict[Path, Runs],
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = HERE / "vectors" / "v1.json"
    fields = json.loads(sound.read_text("utf-8"))
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
    tally = Tally()
    check(file, tally, runs[sound])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == tally.failed > 0
    name = "int4" if damage == "quantized" else "case 1"
    assert all(line.startswith(f"FAILED damaged.json {name} ") for line in lines), lines
    for way in found_by:
        assert any(line.startswith(f"FAILED damaged.json {name} {way}") for line in lines), way


def test_what_is_wrong_in_vectors_of_blanks_and_ranks_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    assert main([str(file)]) == 1
    found = capsys.readouterr().out
    for part in ("case 0 positions", "case 0 prompt", "case 0 transformers", "fill 0", "filter 0", "2 ranks",
                 "4/4 crc", "4/4 example", "4/4 case quantised while loading alone",
                 "4/4 case quantised before alone", "float16 table"):  # fmt: skip
        assert f"FAILED damaged.json {part}: " in found, part


def test_a_file_that_is_no_vectors_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.json").write_text("{", "utf-8")
    assert main([str(tmp_path / "broken.json")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"
