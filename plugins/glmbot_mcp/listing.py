"""What a server offers, as far as it is taken: names, bounds and natures. Pure.

Nothing that a server says of itself makes a tool less guarded, unless the operator trusts its hints.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from mcp_types import Prompt, Resource, ResourceTemplate, Tool

from glmbot.host import Nature
from glmbot.tools import ToolDescription
from glmbot_mcp.settings import ServerSettings

__all__ = [
    "MOST_PAGES",
    "Listing",
    "ServerPrompt",
    "ServerTool",
    "in_one_line",
    "nature_of",
    "prompts_of",
    "public_name",
    "resources_of",
    "templates_of",
    "tools_of",
]

MOST_PAGES = 20
_MOST_TOOLS, _MOST_RESOURCES, _MOST_PROMPTS = 64, 200, 64
_LONGEST_NAME = 128
_LONGEST_DESCRIPTION, _LONGEST_SCHEMA, _DEEPEST_SCHEMA = 4_000, 16_000, 12
# Values in all schemas of a server: to check one takes up to a fifth of a millisecond.
_MOST_PARTS = 5_000
_LONGEST_URI = 512
_LONGEST_TITLE = 64
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_STRICTNESS = (Nature.PURE, Nature.READS, Nature.ACTS)


@dataclass(frozen=True, slots=True)
class ServerTool:
    """`name` is the server's, `public` ours. `digest`: of all that a person is told who allows it."""

    name: str
    public: str
    title: str
    description: str
    schema: Mapping[str, Any]
    nature: Nature
    digest: str


@dataclass(frozen=True, slots=True)
class ServerPrompt:
    """`arguments`: each with whether it is required."""

    name: str
    description: str
    arguments: Sequence[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Listing:
    """`templates`: what the addresses of further resources begin with. `left_out`: why something is not there, in
    words for the operator."""

    tools: Sequence[ServerTool] = ()
    resources: Sequence[tuple[str, str]] = ()
    templates: Sequence[str] = ()
    prompts: Sequence[ServerPrompt] = ()
    left_out: Sequence[str] = ()


def tools_of(
    server: str, settings: ServerSettings, given: Iterable[Tool], before: Iterable[ServerTool] = ()
) -> tuple[Sequence[ServerTool], Sequence[str]]:
    """Those that are taken, and why others are not; `before`: what was taken then is not looked at so closely
    again. It takes a second at most, so it is not for the event loop."""
    known = {each.digest: each for each in before}
    room = _MOST_PARTS
    taken: dict[str, ServerTool] = {}
    left_out: list[str] = []
    seen: set[str] = set()
    for tool in given:
        if settings.tools is not None and tool.name not in settings.tools:
            continue
        shown = in_one_line(tool.name, 40)
        if len(taken) >= _MOST_TOOLS:
            left_out.append(f"there are more than {_MOST_TOOLS} tools; say which in `tools`")
            break
        if why_not := _unfit(tool, seen):
            left_out.append(f"{shown}: {why_not}")
            continue
        seen.add(tool.name)
        public = public_name(server, tool.name)
        title = in_one_line(tool.title or (tool.annotations and tool.annotations.title) or "", _LONGEST_TITLE)
        description = (tool.description or "")[:_LONGEST_DESCRIPTION]
        schema = {**tool.input_schema, "type": "object"}
        nature = nature_of(settings, tool)
        room -= _parts(schema)
        if room < 0:
            left_out.append(
                f"{shown}: the schemas of its tools have more than {_MOST_PARTS} parts; say which in `tools`"
            )
            break
        digest = _digest(tool.name, title, description, schema, nature)
        if digest not in known:
            try:
                ToolDescription(public, description, schema)
                Draft202012Validator.check_schema(schema)
            except (ValueError, SchemaError, RecursionError) as error:
                left_out.append(f"{shown}: {in_one_line(str(error), 200)}")
                continue
        made = ServerTool(tool.name, public, title, description, schema, nature, digest)
        taken[public] = known.get(digest, made)
    return list(taken.values()), left_out[:20]


def public_name(server: str, name: str) -> str:
    """`server_tool`, in the letters that models may use. Where something had to be changed, its digest is added:
    look-alikes and long names stay apart."""
    plain = _OTHER.sub("_", name)
    whole = f"{server}_{plain}"
    if plain == name and len(whole) <= 64:
        return whole
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{whole[:55]}_{digest}"


def nature_of(settings: ServerSettings, tool: Tool) -> Nature:
    """What the operator says of this very tool holds. What is said of the server is made stricter by the tool's
    hints; where nothing is said, it acts, or is as its hints say if they are trusted."""
    if (said := settings.natures.get(tool.name)) is not None:
        return said
    hints = tool.annotations
    reads = hints is not None and hints.read_only_hint is True and hints.destructive_hint is not True
    hinted = Nature.READS if reads else Nature.ACTS
    if settings.trust_hints:
        return hinted
    if settings.nature is None:
        return Nature.ACTS
    acts = hints is not None and (hints.read_only_hint is False or hints.destructive_hint is True)
    return _stricter(settings.nature, Nature.ACTS if acts else Nature.PURE)


def resources_of(given: Iterable[Resource]) -> Sequence[tuple[str, str]]:
    """Addresses, each with what it is called."""
    found: dict[str, str] = {}
    for each in given:
        if len(found) >= _MOST_RESOURCES:
            break
        if _is_address(each.uri):
            found.setdefault(each.uri, in_one_line(each.title or each.name, _LONGEST_TITLE))
    return list(found.items())


def templates_of(given: Iterable[ResourceTemplate]) -> Sequence[str]:
    """What they begin with, up to their first variable; one that begins with a variable is none."""
    found: dict[str, None] = {}
    for each in given:
        begin = each.uri_template.partition("{")[0]
        if len(found) < _MOST_RESOURCES and _is_address(begin) and ":" in begin:
            found[begin] = None
    return list(found)


def prompts_of(given: Iterable[Prompt]) -> Sequence[ServerPrompt]:
    found: dict[str, ServerPrompt] = {}
    for each in given:
        if len(found) >= _MOST_PROMPTS:
            break
        arguments = [(argument.name, bool(argument.required)) for argument in (each.arguments or [])[:16]]
        names = [each.name, *(name for name, _ in arguments)]
        if all(_is_word(name) for name in names):
            described = in_one_line(each.description or each.title or "", 120)
            found.setdefault(each.name, ServerPrompt(each.name, described, arguments))
    return list(found.values())


def in_one_line(text: str, longest: int) -> str:
    """As it can stand in a list or a sentence: no control and no format characters, which hide or turn what
    follows."""
    plain = "".join(
        " " if char.isspace() else char
        for char in text[: 4 * longest]
        if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
    plain = " ".join(plain.split())
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def _unfit(tool: Tool, seen: set[str]) -> str:
    if not tool.name or len(tool.name) > _LONGEST_NAME:
        return f"a name has 1 to {_LONGEST_NAME} characters"
    if tool.name in seen:
        return "there are two of this name"
    if tool.input_schema.get("type", "object") != "object":
        return 'its schema is not of type "object"'
    if _depth(tool.input_schema) > _DEEPEST_SCHEMA:
        return f"its schema is more than {_DEEPEST_SCHEMA} deep"
    try:
        size = len(json.dumps(tool.input_schema, ensure_ascii=False, allow_nan=False))
    except ValueError:
        return "its schema is none"
    if size > _LONGEST_SCHEMA:
        return f"its schema has {size:,} characters, and at most {_LONGEST_SCHEMA:,} are taken"
    if refers := _foreign_reference(tool.input_schema):
        return f"its schema refers to {in_one_line(refers, 40)}, and only to itself it may"
    return ""


def _depth(value: Any) -> int:
    """Counted in rounds, for no depth is too much for it."""
    layer: list[Any] = [value]
    depth = 0
    while layer and depth <= _DEEPEST_SCHEMA:
        layer = [child for each in layer for child in _children(each) if isinstance(child, dict | list)]
        depth += 1
    return depth


def _parts(value: Any) -> int:
    found, waiting = 0, [value]
    while waiting:
        found += 1
        waiting += _children(waiting.pop())
    return found


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else ()


def _foreign_reference(schema: Any) -> str:
    """Whoever checks arguments by it must fetch nothing."""
    waiting: list[Any] = [schema]
    while waiting:
        each = waiting.pop()
        for key in ("$ref", "$dynamicRef", "$recursiveRef"):
            to = each.get(key) if isinstance(each, dict) else None
            if isinstance(to, str) and not to.startswith("#"):
                return to
        waiting += [child for child in _children(each) if isinstance(child, dict | list)]
    return ""


def _stricter(one: Nature, other: Nature) -> Nature:
    return max(one, other, key=_STRICTNESS.index)


def _is_address(uri: str) -> bool:
    return 0 < len(uri) <= _LONGEST_URI and uri.isprintable() and not any(char.isspace() for char in uri)


def _is_word(name: str) -> bool:
    """What a person can type as one word."""
    return (
        0 < len(name) <= 64 and name.isprintable() and not any(char.isspace() or char == "=" for char in name)
    )


def _digest(*said: object) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
