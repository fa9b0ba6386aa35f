"""A model that several processes share says what one says, bit for bit; whatever becomes of them, nobody waits on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from chatglm_folder import write_chatglm_folder
from glm130b_folder import write_glm130b_folder
from glmbot.engine import loading, tensor_group
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.placement import Placement, parse_devices, shared_devices, shared_placement
from glmbot.engine.runner import ModelRunner
from glmbot.engine.scheduler import Scheduler
from glmbot.engine.spawner import Spawner, _environment
from glmbot.engine.worker import serve
from glmbot.engine.workers import WORKER, PartSource, Workers, WorkersLost
from glmbot.errors import ConfigError, EngineError, ModelFileError, PrecisionError
from glmbot.models.partition import partition
from glmbot.models.registry import load
from tiny_architectures import write_architecture
from tiny_model import write_tiny_model

CPU = torch.device("cpu")
HEADS = {"hidden_size": 192, "num_attention_heads": 12}
"""Which 2, 3 and 4 processes can share."""
NEW = 4


@pytest.fixture(scope="module")
def spawner() -> Iterator[Spawner]:
    """One process that has imported everything, for all tests."""
    made = Spawner(WORKER)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shared")
    (root / "glm130b").mkdir()
    write_glm130b_folder(root / "glm130b", ranks=2, **HEADS)
    write_chatglm_folder(root / "chatglm", "chatglm-6b", **HEADS, pre_seq_len=3)
    write_chatglm_folder(root / "chatglm3", "chatglm3-6b", num_attention_heads=8)
    return {
        "glm130b": root / "glm130b",
        "chatglm": root / "chatglm",
        "chatglm3": root / "chatglm3",
        "llama": write_tiny_model(root / "llama", heads=6, kv_heads=3, hidden=96),
        "glm4": write_architecture("glm4", root / "glm4"),
        "qwen2": write_architecture("qwen2", root / "qwen2"),
    }


def opened(
    folder: Path, spawner: Spawner, world: int, *, activations: torch.dtype | None = None, **more: Any
) -> ModelRunner:
    register_attention()
    model = load(folder, ATTENTION_NAME)
    settings: dict[str, Any] = {"precision": Precision.FP32, "cache_tokens": 512}
    if world == 1:
        return ModelRunner(model, placement=Placement(CPU, activations), **settings)
    workers = Workers(PartSource(folder, activations=activations), [CPU] * world, spawner=spawner, **more)
    place = shared_placement(model, CPU, 0, world, activations)
    return ModelRunner(model, placement=place, workers=workers, **settings)


def answers(runner: ModelRunner) -> list[tuple[list[int], Tensor]]:
    """Of two who are answered beside each other, tokens and all logits."""
    talk = runner.model.chat_format
    scheduler = Scheduler(runner.allocator, max_batch=2, prefill_tokens=8)
    sampling = Sampling(max_tokens=NEW, temperature=0)
    made = [
        runner.sequence(number, str(number), talk.encode_chat("", (), words), sampling, arrival=float(number))
        for number, words in enumerate(("The quick brown fox. 你好，世界。", "Paris?"))
    ]
    logits: list[list[Tensor]] = [[], []]
    for sequence in made:
        scheduler.add(sequence)
    while any(sequence.drawn < NEW for sequence in made):
        chunks = scheduler.schedule()
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        rows = runner.step(chunks).clone()
        for chunk in chunks:
            chunk.sequence.computed += chunk.length
        for sequence, row in zip(drawing, rows, strict=True):
            logits[sequence.id].append(row)
            sequence.tokens.append(int(row.argmax()))
            if sequence.drawn >= NEW:
                scheduler.remove(sequence)
    return [(each.tokens[each.prompt_length :], torch.stack(logits[each.id])) for each in made]


def assert_equal(
    ours: list[tuple[list[int], Tensor]], alone: list[tuple[list[int], Tensor]], *, exact: bool
) -> None:
    for (tokens, logits), (expected, reference) in zip(ours, alone, strict=True):
        assert tokens == expected
        if exact:
            assert torch.equal(logits, reference)
        else:
            torch.testing.assert_close(logits, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "worlds"),
    [
        ("glm130b", (2, 3, 4)),
        ("chatglm", (4,)),
        ("chatglm3", (4,)),
        ("llama", (3,)),
        ("glm4", (2,)),
        ("qwen2", (2,)),
    ],
)
def test_several_processes_say_what_one_says(
    kind: str, worlds: tuple[int, ...], folders: dict[str, Path], spawner: Spawner
) -> None:
    alone = opened(folders[kind], spawner, 1)
    expected: dict[Precision, tuple[bool, list[tuple[list[int], Tensor]]]] = {}
    for precision in (Precision.FP32, Precision.INT4):
        alone.set_precision(precision)
        expected[precision] = alone.native, answers(alone)
    for world in worlds:
        shared = opened(folders[kind], spawner, world)
        try:
            for precision, (native, reference) in expected.items():
                if precision is not shared.precision:
                    shared.set_precision(precision)
                assert shared.native == native
                assert_equal(answers(shared), reference, exact=native)
            assert shared.weight_bytes < 2 * alone.weight_bytes
        finally:
            shared.close()


def test_so_they_do_by_the_modules_own_code(folders: dict[str, Path], spawner: Spawner) -> None:
    alone = opened(folders["llama"], spawner, 1, activations=torch.float32)
    shared = opened(folders["llama"], spawner, 3, activations=torch.float32)
    try:
        assert not shared.native
        assert_equal(answers(shared), answers(alone), exact=False)
        for runner in (alone, shared):
            runner.set_precision(Precision.INT4)
        assert_equal(answers(shared), answers(alone), exact=False)
    finally:
        shared.close()


def test_what_goes_wrong_in_one_process_is_undone_in_all(
    folders: dict[str, Path], spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_group, "_EXCHANGE_S", 1)
    shared = opened(folders["llama"], spawner, 3)
    try:
        before = answers(shared)
        workers: Any = shared._workers
        real = workers.tell

        def tell(*message: Any) -> None:
            real(*(("fill", "nonsense") if message == ("fill", Precision.INT8) else message))

        workers.tell = tell
        with pytest.raises(PrecisionError, match=r"still at fp32: worker 1 of 2: "):
            shared.set_precision(Precision.INT8)
        assert_equal(answers(shared), before, exact=True)
        # One that stands still is given up, and all are started anew.
        os.kill(workers.pids[0], signal.SIGSTOP)
        with pytest.raises(WorkersLost, match="was lost"):
            answers(shared)
        assert not shared.whole
        shared.allocator = type(shared.allocator)(shared.allocator.capacity)
        shared.restart()
        assert_equal(answers(shared), before, exact=True)
    finally:
        shared.close()


# ---- in the engine ----------------------------------------------------------------------------------------


@pytest.fixture
async def engine(
    folders: dict[str, Path], spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[LocalEngine]:
    monkeypatch.setattr(loading, "Workers", partial(Workers, spawner=spawner))
    made = await LocalEngine.start(
        LocalEngineSettings(
            folders["llama"],
            precision=Precision.FP32,
            cache_tokens=2048,
            threads=1,
            max_batch=1,
            tensor_parallel=3,
        )
    )
    yield made
    await made.close()


async def ask(engine: LocalEngine, begun: asyncio.Event | None = None, tokens: int = 8) -> Progress:
    prompt = engine.chat_format.encode_chat("", [], "hello")
    last = Progress()
    async for last in engine.generate(prompt, Sampling(max_tokens=tokens, temperature=0), user="u"):
        if begun is not None and last.completion_tokens:
            begun.set()
    return last


async def test_a_process_killed_in_mid_answer_is_told_and_started_again(engine: LocalEngine) -> None:
    workers: Any = engine.thread.runner._workers
    assert len(workers.pids) == 2
    before = (await ask(engine)).text
    begun = asyncio.Event()
    running = asyncio.create_task(ask(engine, begun, tokens=1900))
    async with asyncio.timeout(60):
        await begun.wait()
        waiting = asyncio.create_task(ask(engine))
        killed = workers.pids[1]
        os.kill(killed, signal.SIGKILL)
        with pytest.raises(
            EngineError, match=r"a process that shares the model was lost: worker 2 of 2 was ended by SIGKILL"
        ):
            await running
        # Who was in the queue has lost nothing.
        assert (await waiting).text == before
    assert killed not in workers.pids
    assert engine.stats().alive
    # Also when nobody asks.
    os.kill(workers.pids[0], signal.SIGKILL)
    async with asyncio.timeout(60):
        assert (await _after_a_loss(engine)).text == before


async def _after_a_loss(engine: LocalEngine) -> Progress:
    while True:
        try:
            return await ask(engine)
        except EngineError:
            # Those who ask in the very moment.
            await asyncio.sleep(0)


async def test_processes_end_with_the_engine_and_leave_nothing(engine: LocalEngine) -> None:
    workers: Any = engine.thread.runner._workers
    pids, meeting = workers.pids, workers.meeting
    assert meeting.parent.stat().st_mode & 0o777 == 0o700
    await engine.close()
    assert not meeting.parent.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# ---- that do not come up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit(3)", "worker 1 of 2: the process that starts others has ended"),
        ("import time; time.sleep(60)", "worker 1 of 2: no process could be started in 1 s"),
        (
            "spawning(control, lambda pipe: time.sleep(60))",
            "worker 1 of 2: it has said nothing for 1 s while opening",
        ),
        (
            "spawning(control, lambda pipe: pipe.poll(None) and os._exit(7))",
            "worker [12] of 2 ended with status 7",
        ),
    ],
)
def test_a_process_that_does_not_come_up_is_named_and_not_waited_for(
    code: str, words: str, folders: dict[str, Path]
) -> None:
    script = (
        "import os, sys, time\nfrom multiprocessing.connection import Connection\n"
        f"from glmbot.engine.spawner import spawning\ncontrol = Connection(int(sys.argv[1]))\n{code}"
    )
    command = (sys.executable, "-c", script)
    began = time.monotonic()
    spawner = Spawner(command)
    try:
        with pytest.raises(WorkersLost, match=words):
            opened(folders["llama"], spawner, 3, silence_s=1.0)
    finally:
        spawner.close()
    assert time.monotonic() - began < 50


def test_workers_get_no_secrets() -> None:
    secret = {
        "GLMBOT_TELEGRAM__TOKEN": "1:a",
        "glmbot_web__tokens": "hush",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hush",
    }
    assert _environment({**secret, "GLMBOT_NATIVE": "0", "PATH": "/bin"}) == {
        "GLMBOT_NATIVE": "0",
        "PATH": "/bin",
    }


def test_they_import_nothing_from_the_folder_where_the_bot_was_started(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text("")
    python = WORKER[: WORKER.index("-m")]
    ended = subprocess.run(
        [*python, "-c", "import planted"], cwd=tmp_path, stderr=subprocess.PIPE, check=False
    )
    assert b"No module named 'planted'" in ended.stderr


def test_one_that_has_told_why_it_ends_shows_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    here, there = Pipe()
    here.send(("open", PartSource(Path("/no/such/folder")), 2, (CPU, CPU), "meeting", 1))
    with pytest.raises(SystemExit):
        serve(there)
    assert here.recv() == ("progress", 0.0)
    assert here.recv()[1].startswith("ModelFileError: /no/such/folder: there is no such model folder")
    script = (
        "import sys\nfrom multiprocessing.connection import Connection\n"
        "from glmbot.engine.spawner import spawning\n"
        "spawning(Connection(int(sys.argv[1])), lambda pipe: sys.exit(1))"
    )
    spawner = Spawner((sys.executable, "-c", script))
    try:
        spawned = spawner.spawn(lambda _: None, 60.0)
        assert spawned.wait(60.0)
    finally:
        spawner.close()
    assert spawned.status == 1
    assert capfd.readouterr().err == ""


# ---- who can share ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "world", "able"),
    [("llama", 4, "2, 3"), ("chatglm3", 3, "2, 4, 8"), ("glm130b", 5, "2, 3, 4, 6, 12")],
)
def test_heads_that_cant_be_shared_are_named(
    kind: str, world: int, able: str, folders: dict[str, Path]
) -> None:
    if kind == "llama":
        able = "3"
    with pytest.raises(ModelFileError, match=f"tensor_parallel can be {able}"):
        partition(load(folders[kind], "sdpa").module, 0, world)


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="can't share this architecture"):
        partition(load(write_architecture("gpt2", tmp_path / "gpt2"), "sdpa").module, 0, 2)


@pytest.mark.parametrize("kind", ["glm130b", "chatglm", "chatglm3", "llama", "glm4"])
def test_every_row_is_held_once(kind: str, folders: dict[str, Path]) -> None:
    module = load(folders[kind], "sdpa").module
    world = 2 if kind == "glm4" else 3 if kind == "llama" else 4
    shards = [partition(module, rank, world) for rank in range(world)]
    for name, parameter in module.named_parameters():
        cuts = [shard.cut(name) for shard in shards]
        if cuts[0] is None:
            assert parameter.dim() == 1 or "prefix" in name
            continue
        held = [
            row for cut in cuts if cut is not None for start, end in cut.runs for row in range(start, end)
        ]
        assert cuts[0].rows == parameter.shape[0]
        # Heads of keys and values that are fewer than processes are held by several.
        assert set(held) == set(range(parameter.shape[0]))
        if kind != "chatglm3" or "query_key_value" not in name:
            assert len(held) == parameter.shape[0]


def test_a_gpu_is_needed_for_each_process() -> None:
    cards = [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert shared_devices(cards, 2) == cards
    with pytest.raises(ConfigError, match="there are 2 GPUs"):
        shared_devices(cards, 3)
    assert shared_devices(parse_devices("cpu"), 3) == [CPU] * 3
