"""The threads of the kernels: whoever calls, and whatever became of the process, a step ends and says the same."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmbot.native.compiling import compiler
from glmbot.native.library import kernels
from glmbot.native.linear import NativeLinear
from glmbot.native.program import ProgramBuilder, Rows
from glmbot.quantization.native import native_float

NONE = torch.zeros(0, dtype=torch.int32)
WIDTH = 64


class Small:
    """Some products, each of several pieces, with operations on rows between them."""

    def __init__(self) -> None:
        library = kernels()
        if library is None:
            pytest.skip("no kernels here")
        generator = torch.Generator().manual_seed(0)
        builder = ProgramBuilder(WIDTH)
        out = builder.buffer(WIDTH)
        self.layers: list[NativeLinear] = []
        for _ in range(6):
            layer = native_float(torch.randn(WIDTH, WIDTH, generator=generator) / 8, None)
            assert layer is not None
            self.layers.append(layer)
            builder.norm(builder.hidden, builder.hidden, torch.ones(WIDTH), 1e-5)
            builder.linear(builder.hidden, out, [layer])
            builder.scale(out, builder.hidden, 0.5, keeps=1.0)
        self._program = builder.build(library, out)

    def run(self, tokens: int, threads: int) -> Tensor:
        x = torch.arange(tokens * WIDTH).reshape(tokens, WIDTH).sin()
        drawn = torch.zeros(tokens, dtype=torch.int32)
        return self._program.run(Rows(x, NONE, NONE, NONE, drawn, None), (), (), threads).clone()


def test_steps_of_all_sizes_end_with_any_number_of_threads() -> None:
    made = Small()
    for tokens in (1, 2, 5, 40):
        alone = made.run(tokens, 1)
        for round_ in range(60):
            assert torch.equal(made.run(tokens, 1 + round_ % 5), alone)


def test_callers_at_once_do_not_disturb_each_other() -> None:
    expected = Small().run(7, 1)

    def work(number: int) -> bool:
        made = Small()
        return all(torch.equal(made.run(7, 1 + number % 3), expected) for _ in range(80))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(6))) == [True] * 6


FORKS = """
import os, signal, torch
from native.test_threads import Small

torch.set_num_threads(1)  # torch's own threads do not survive a fork
made = Small()
expected = made.run(5, 3)
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(0 if torch.equal(made.run(5, 3), expected) else 1)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
assert torch.equal(made.run(5, 3), expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_was_forked_has_threads_of_its_own() -> None:
    Small()  # skips where there are no kernels
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    subprocess.run([sys.executable, "-c", FORKS], env=environment, check=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems don't say where a thread runs")
def test_two_threads_do_not_share_a_core_while_another_has_none(tmp_path: Path) -> None:
    passes("check_cores.cpp", tmp_path)


def test_every_piece_is_computed_once_and_nobody_waits_for_the_share_of_one_that_is_held_up(
    tmp_path: Path,
) -> None:
    passes("check_crew.cpp", tmp_path)


def passes(check: str, folder: Path) -> None:
    found = compiler()
    if found is None:
        pytest.skip("needs a compiler of C++")
    made = folder / "check"
    source = Path(__file__).with_name(check)
    subprocess.run([found, "-O1", "-std=c++17", "-pthread", source, "-o", made], check=True, timeout=300)
    ended = subprocess.run([made], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout
