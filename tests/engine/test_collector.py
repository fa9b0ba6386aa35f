"""What the garbage collector passes over once a model is to be loaded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator

import pytest

from glmbot.engine.collector import pass_over_modules


class Knot:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def by_hand() -> Generator[None]:
    gc.collect()
    gc.disable()
    pass_over_modules.cache_clear()
    yield
    gc.enable()


@pytest.mark.usefixtures("by_hand")
def test_what_was_there_is_passed_over_and_what_comes_later_never() -> None:
    there = Knot()
    pass_over_modules()
    later = Knot()
    # A second model is loaded.
    pass_over_modules()
    gone = weakref.ref(there), weakref.ref(later)
    del there, later
    gc.collect()
    assert gone[0]() is not None
    assert gone[1]() is None
