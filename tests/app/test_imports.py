"""What the documentation says of who imports whom is what import-linter holds, of every module that there is."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from conftest import REPOSITORY

CORE = REPOSITORY / "glmbot"


def test_adapters_may_import_what_the_decisions_name_and_nothing_else() -> None:
    said = (REPOSITORY / "docs" / "decisions.md").read_text("utf-8").partition("Adapters import ")[2]
    named = set(re.findall(r"`(?:glmbot\.)?(\w+)`", said.partition(". All other")[0].partition(" closed")[0]))
    modules = {
        path.stem
        for path in CORE.iterdir()
        if path.stem != "__init__" and (path.suffix == ".py" or (path / "__init__.py").is_file())
    }
    contracts: list[Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    adapters = {path.name for path in (REPOSITORY / "adapters").iterdir() if (path / "__init__.py").is_file()}
    forbidden = {
        module.removeprefix("glmbot.")
        for contract in contracts
        if contract["type"] == "forbidden" and set(contract["source_modules"]) == adapters
        for module in contract["forbidden_modules"]
    }
    words = "a module of the core is closed to adapters in pyproject.toml, or named in docs/decisions.md"
    assert named == modules - forbidden, words
    assert named & forbidden == set()
