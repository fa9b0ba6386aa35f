"""The store's protocols stay small, and whoever needs one names that one."""

from __future__ import annotations

import ast
from inspect import getmro
from pathlib import Path

import pytest

from glmbot.store import base
from glmbot.store.blobs import Blobs

_MOST = 7
# Who makes a store, hands it out, or wraps it.
_WHOLE = {"app.py", "bot.py", "cli.py", "manager.py", "store_commands.py", "base.py", "sealed.py"}
PROTOCOLS = [each for each in getmro(base.Store)[1:] if each.__module__ in (base.__name__, Blobs.__module__)]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_a_protocol_has_few_methods(protocol: type) -> None:
    assert len(PROTOCOLS) > 12
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    assert 0 < len(methods) <= _MOST
    assert protocol.__doc__


def test_nobody_asks_for_the_whole_store_who_needs_a_part_of_it() -> None:
    greedy = [
        path.name
        for path in Path(str(base.__file__)).parents[1].rglob("*.py")
        if path.name not in _WHOLE
        and any(
            isinstance(node, ast.ImportFrom)
            and node.module == "glmbot.store.base"
            and any(each.name == "Store" for each in node.names)
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
        )
    ]
    assert greedy == []
