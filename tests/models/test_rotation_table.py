"""Rotary positions from a table: each has the angles that it would have by itself, in any order and company."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glmbot.models import rotation_table
from glmbot.models.rotation_table import RotationTable

MOST = rotation_table._MOST
positions = st.integers(0, MOST + 40) | st.integers(0, 600)


class Turning:
    """Two tables of four angles each. Counts the positions that it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        self.asked += positions.shape[1]
        angles = (
            positions[0, None, :, None] * torch.tensor([[1.0, 0.5, 0.1, 0.01], [2.0, 0.3, 0.2, 0.1]])[:, None]
        )
        return angles.cos(), angles.sin()


@given(st.lists(st.lists(positions, min_size=1, max_size=20), min_size=1, max_size=6))
def test_every_position_has_its_own_angles(steps: list[list[int]]) -> None:
    table = RotationTable(Turning())
    for step in steps:
        wanted = Turning()(torch.tensor([step]))
        for found, right in zip(table(torch.tensor([step])), wanted, strict=True):
            assert found.shape == right.shape == (2, len(step), 4)
            assert found.is_contiguous()
            assert torch.allclose(found, right, atol=1e-6)


def test_rows_of_positions_have_the_one_table() -> None:
    def turning(positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = positions[:, :, None] * torch.tensor([1.0, 0.25])
        return angles.cos(), angles.sin()

    rows = torch.tensor([[5, 0, 300], [1, 2, 2]])
    for found, right in zip(RotationTable(turning)(rows), turning(rows), strict=True):
        assert torch.allclose(found, right, atol=1e-6)


def test_a_step_of_known_positions_computes_none() -> None:
    turning = Turning()
    table = RotationTable(turning)
    table(torch.tensor([[700]]))
    before = turning.asked
    for position in range(701):
        table(torch.tensor([[position, 0]]))
    assert turning.asked == before


def test_what_is_kept_has_a_bound() -> None:
    turning = Turning()
    table = RotationTable(turning)
    for position in (MOST - 1, MOST, 3 * MOST):
        table(torch.tensor([[position]]))
    assert turning.asked == MOST + 2
