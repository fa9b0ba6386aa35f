"""What `glmbot doctor` tries on a card, with the kernels compiled for the host."""

from __future__ import annotations

import torch

from cuda.host_kernels import HostKernels
from glmbot.engine.card.tried import tried


def test_kernels_that_are_right_are_found_so() -> None:
    assert tried(torch.device("cpu"), HostKernels(torch.float16)).given_up == {}
