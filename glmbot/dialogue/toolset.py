"""The tools that there are now: those that plug-ins registered, and those of their toolboxes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from jsonschema import Draft202012Validator

from glmbot.dialogue.schema_check import first_error
from glmbot.host import Tool
from glmbot.plugins import Plugins
from glmbot.registered import RegisteredTool
from glmbot.tools import MOST_TOOLS, NO_TOOLS, Offer, ToolDescription

__all__ = ["Offered", "Offering", "Toolset", "unfit"]

_log = logging.getLogger(__name__)

_MOST = 1000
_LONGEST_COMPLAINT = 300


@dataclass(frozen=True, slots=True)
class Offered:
    """`plugin`: whose it is. `digest`: of what whoever allows it goes by."""

    tool: Tool
    plugin: str
    log: logging.Logger
    description: ToolDescription
    digest: str


@dataclass(frozen=True, slots=True)
class Offering:
    """`tools` by name, and as a model is told of them."""

    tools: Mapping[str, Offered] = field(default_factory=dict[str, Offered])
    offer: Offer = NO_TOOLS

    @classmethod
    def of(cls, tools: Mapping[str, Offered]) -> Offering:
        first = dict(list(tools.items())[:MOST_TOOLS])
        return cls(first, Offer([each.description for each in first.values()]) if first else NO_TOOLS)


class Toolset:
    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._known: dict[str, Offered] = {}
        self._told: set[str] = set()

    def now(self) -> Mapping[str, Offered]:
        """By name, in its order, so that the same tools make the same prompt. One that can't be described is left
        out, and so is one that is called like another in letters of another size."""
        found: dict[str, Offered] = {}
        taken: set[str] = set()
        for registered in self._all():
            offered = self._offered(registered)
            if offered is None or offered.tool.name.casefold() in taken:
                continue
            taken.add(offered.tool.name.casefold())
            found[offered.tool.name] = offered
        self._known = found
        return dict(sorted(found.items()))

    def _all(self) -> Sequence[RegisteredTool]:
        found = list(self._plugins.tools.values())
        for name, box in self._plugins.toolboxes.items():
            try:
                tools = list(box.toolbox.tools())[:_MOST]
            except (Exception, SystemExit) as error:
                self._complain(f"the toolbox {name} failed: {type(error).__name__}: {error}", box.log)
                continue
            found += [RegisteredTool(box.plugin, box.log, tool) for tool in tools]
        return found[:_MOST]

    def _offered(self, registered: RegisteredTool) -> Offered | None:
        tool = registered.tool
        known = self._known.get(tool.name)
        if known is not None and known.tool is tool:
            return known
        try:
            description = ToolDescription(tool.name, tool.description, tool.parameters)
            if not tool.checked:
                Draft202012Validator.check_schema(dict(tool.parameters))
            digest = _digest(tool)
        except Exception as error:
            words = str(error).partition("\n")[0][:_LONGEST_COMPLAINT]
            self._complain(f"the tool {tool.name!r:.80} is left out: {words}", registered.log)
            return None
        return Offered(tool, registered.plugin, registered.log, description, digest)

    def _complain(self, words: str, log: logging.Logger) -> None:
        """Once, since it is looked at before each answer."""
        if words not in self._told and len(self._told) < _MOST:
            self._told.add(words)
            log.error("%s", words)


def _digest(tool: Tool) -> str:
    # The title is what people see of it.
    said = (tool.name, dict(tool.title), tool.description, tool.parameters, tool.nature)
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def unfit(tool: Tool, arguments: Mapping[str, Any]) -> str:
    """What is wrong with the arguments, in words for a model; "" where they hold to the schema. Takes seconds at
    most, and belongs into a thread."""
    try:
        error = first_error(tool.parameters, dict(arguments))
    except Exception as failure:
        return f"the schema of {tool.name} can't be checked: {type(failure).__name__}"
    if error is None:
        return ""
    where = ".".join(str(each) for each in error.absolute_path)
    return f"{where or 'the arguments'}: {error.message}"[:_LONGEST_COMPLAINT]
