"""Whose compiled forms are kept: what many share stays, whatever one person brings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glmbot.engine.kept_forms import KeptForms


def test_a_stranger_puts_out_neither_what_people_share_nor_what_one_other_has() -> None:
    kept = KeptForms[str, str]()
    kept.put("the bot's tools", "compiled", "ann")
    assert kept.get("the bot's tools", "bob") == "compiled"
    kept.put("ann's own", "hers", "ann")
    for number in range(100):
        kept.put(f"strange {number}", "x", "mallory")
        assert kept.get(f"strange {number}", "mallory") == "x"
    assert kept.get("the bot's tools", "carol") == "compiled"
    assert kept.get("ann's own", "ann") == "hers"
    assert kept.get("strange 0", "mallory") is None


def test_what_somebody_alone_has_asked_for_can_be_forgotten() -> None:
    kept = KeptForms[str, int]()
    kept.put("secret", 1, "ann")
    kept.put("shared", 2, "ann")
    kept.get("shared", "bob")
    kept.forget("ann")
    assert kept.get("secret", "ann") is None
    assert kept.get("shared", "ann") == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcdefghi")), max_size=80))
def test_there_are_never_many(asked: list[tuple[int, str]]) -> None:
    kept = KeptForms[int, int]()
    for key, user in asked:
        if (found := kept.get(key, user)) is None:
            kept.put(key, key, user)
            found = kept.get(key, user)
        assert found == key, "the last one asked for is there"
    assert sum(kept.get(key, "z") is not None for key in range(31)) <= 12
