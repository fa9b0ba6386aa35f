"""What the garbage collector passes over while a model is loaded, and what it finds all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Generator

import pytest

from glmbot.engine.collector import collect, passed_over


class Knot:
    """Only a collection frees it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def by_hand() -> Generator[None]:
    gc.disable()
    yield
    gc.enable()


def test_what_was_there_is_passed_over_and_what_comes_later_is_not() -> None:
    there = Knot()
    with passed_over():
        later = Knot()
        gone = weakref.ref(there), weakref.ref(later)
        del there, later
        gc.collect()
        assert gone[0]() is not None
        assert gone[1]() is None
    gc.collect()
    assert gone[0]() is None


def test_what_was_lost_just_before_is_freed_first() -> None:
    lost = Knot()
    gone = weakref.ref(lost)
    del lost
    with passed_over():
        assert gone() is None


def test_a_collection_that_is_asked_for_finds_all_and_the_rest_stays_passed_over() -> None:
    with passed_over():
        there, kept = Knot(), Knot()
        with passed_over():
            gone = weakref.ref(there)
            del there
            collect()
            assert gone() is None
            gone = weakref.ref(kept)
            del kept
            gc.collect()
            assert gone() is not None
    assert gc.get_freeze_count() == 0
    collect()
    assert gc.get_freeze_count() == 0
