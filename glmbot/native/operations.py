"""The operations of a program, as kernels.cpp reads them, and their order."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum

from glmbot.native.weights import Weight

__all__ = ["Kind", "Operation", "drawn_early"]


class Kind(IntEnum):
    NORM = 0
    LINEAR = 1
    ROTATE = 2
    ATTEND = 3
    ACTIVATE = 4
    SCALE = 5
    GATHER = 6


class Operation(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int32), ("src", ctypes.c_int32), ("dst", ctypes.c_int32), ("src_at", ctypes.c_int32),
        ("dst_at", ctypes.c_int32), ("width", ctypes.c_int32), ("a", ctypes.c_int32), ("b", ctypes.c_int32),
        ("c", ctypes.c_int32), ("d", ctypes.c_int32), ("e", ctypes.c_int32), ("f", ctypes.c_int32),
        ("g", ctypes.c_int32), ("x", ctypes.c_float), ("y", ctypes.c_float), ("p", ctypes.c_void_p),
        ("q", ctypes.c_void_p),
    )  # fmt: skip


def drawn_early(operations: Sequence[Operation], widths: Sequence[int]) -> tuple[list[Operation], list[int]]:
    """The same program, in which the rows that draw leave the others right behind the last attention: from there
    on each row depends on itself alone. Of a prompt one row draws, and the others need no last MLP.

    widths: of the buffers. Returns the operations and the widths; buffers are added for what is gathered.
    """
    kinds = [operation.kind for operation in operations]
    if Kind.ATTEND not in kinds or Kind.GATHER not in kinds:
        return list(operations), list(widths)
    start = len(kinds) - kinds[::-1].index(Kind.ATTEND)
    end = kinds.index(Kind.GATHER)
    if end < start:
        return list(operations), list(widths)
    gather, between = operations[end], operations[start:end]
    needed = _needed([*between, gather], widths)
    of_drawn = {buffer: len(widths) + number for number, buffer in enumerate(needed)}
    gathers = [
        Operation(kind=Kind.GATHER, src=src, dst=dst, width=widths[src]) for src, dst in of_drawn.items()
    ]
    # What was gathered from here on lies where the rows that draw are already.
    renamed = {**of_drawn, int(gather.dst): of_drawn.get(int(gather.src), int(gather.src))}
    later = [_renamed(each, of_drawn) for each in between]
    last = [_renamed(each, renamed) for each in operations[end + 1 :]]
    return [*operations[:start], *gathers, *later, *last], [*widths, *(widths[buffer] for buffer in needed)]


def _needed(operations: Sequence[Operation], widths: Sequence[int]) -> list[int]:
    """The buffers that are read as they were before these operations."""
    needed: list[int] = []
    written: set[int] = set()
    for each in operations:
        reads = [each.src] if _overwrites(each, widths) else [each.src, each.dst]
        needed += [buffer for buffer in reads if buffer not in written and buffer not in needed]
        written.add(each.dst)
    return needed


def _overwrites(operation: Operation, widths: Sequence[int]) -> bool:
    """Whether all of its result's buffer is new."""
    if operation.kind == Kind.LINEAR:
        weights = (Weight * operation.a).from_address(operation.p or 0)
        return not operation.b and sum(weight.rows for weight in weights) == widths[operation.dst]
    pieces = operation.b if operation.kind == Kind.NORM else 1
    keeps = operation.kind == Kind.ROTATE or (operation.kind == Kind.SCALE and operation.y != 0)
    return not keeps and pieces * operation.width == widths[operation.dst]


def _renamed(operation: Operation, names: dict[int, int]) -> Operation:
    made = Operation.from_buffer_copy(operation)
    made.src, made.dst = names.get(operation.src, operation.src), names.get(operation.dst, operation.dst)
    return made
