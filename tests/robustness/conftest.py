"""What the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmbot.engine.base import Precision
from glmbot.engine.local import LocalEngineSettings


@pytest.fixture
def engine_settings(tiny_model: Path) -> LocalEngineSettings:
    """One thread, which leaves the other processor to the loop that is watched."""
    return LocalEngineSettings(tiny_model, precision=Precision.FP32, cache_tokens=16384, threads=1)
