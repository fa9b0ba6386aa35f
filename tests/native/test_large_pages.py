"""Weights on large pages: the same numbers, and memory that goes back."""

from __future__ import annotations

import gc
import mmap
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmbot.native.large_pages import on_large_pages

MIB = 1 << 20
ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
linux = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no such pages")


def large_page_kb() -> int:
    """Of this process, in use."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages"))


def mapped_mb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE // MIB


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(7, dtype=torch.uint8),
        torch.randn(3, 5, 2).to(torch.bfloat16),
        torch.randn(33, 16).half(),
        torch.randn(2, 600, 700).transpose(1, 2),
        torch.zeros(0, 4),
        torch.zeros(2, 3, device="meta"),
    ],
    ids=["bytes", "bfloat16", "float16", "not in order", "nothing", "no memory"],
)
def test_numbers_stay_the_same(tensor: Tensor) -> None:
    moved = on_large_pages(tensor)
    assert (moved.shape, moved.dtype, moved.device) == (tensor.shape, tensor.dtype, tensor.device)
    assert moved.is_contiguous()
    assert tensor.device.type == "meta" or torch.equal(moved, tensor)


def test_tensors_beside_each_other_do_not_share_a_number() -> None:
    moved = [on_large_pages(torch.full((size,), size, dtype=torch.int32)) for size in (1, 40, 17, 3 * MIB, 5)]
    moved[1].zero_()
    assert [int(each.sum()) for each in moved] == [1, 0, 17 * 17, (3 * MIB) ** 2, 25]
    assert all(each.data_ptr() % 64 == 0 for each in moved)


@linux
@pytest.mark.skipif(
    sys.platform != "linux" or not ENABLED.exists() or "[never]" in ENABLED.read_text(),
    reason="this system gives no large pages",
)
def test_the_system_gives_large_pages() -> None:
    size = 64 * MIB
    before = large_page_kb()
    plain = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    plain.madvise(mmap.MADV_HUGEPAGE)
    plain[::4096] = bytes(size // 4096)
    free = large_page_kb() - before
    plain.close()
    if free < size // 1024 // 2:
        pytest.skip("few large pages are free")
    before = large_page_kb()
    kept = on_large_pages(torch.ones(size, dtype=torch.uint8))
    assert large_page_kb() > before
    assert kept.numel() == size


@linux
def test_memory_goes_back_with_the_last_tensor() -> None:
    before = mapped_mb()
    kept = [on_large_pages(torch.ones(40 * MIB, dtype=torch.uint8)) for _ in range(5)]
    assert mapped_mb() > before + 150
    kept.clear()
    gc.collect()
    assert mapped_mb() < before + 50


@linux
def test_without_large_pages_a_tensor_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(mmap.mmap):
        def madvise(self, *_: object) -> None:
            raise OSError(22, "Invalid argument")

    tensor = torch.ones(40 * MIB, dtype=torch.uint8)
    monkeypatch.setattr(mmap, "mmap", Refused)
    assert on_large_pages(tensor) is tensor
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    assert on_large_pages(tensor) is tensor
