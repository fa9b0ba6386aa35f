"""The door: plug-ins are found by the entry-point group `glmbot.plugins`, and what each registers is kept here.

The built-in ones come in by it too. One that raises, or whose settings are wrong, is named and left out with all
that it has registered until then; the others don't notice.
"""

from __future__ import annotations

import logging
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import format_exception
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from glmbot import i18n
from glmbot.config.configuration import CORE_SECTIONS
from glmbot.config.names import LONGEST_SHOWN, nearest
from glmbot.config.people import ModerationSection
from glmbot.config.section import keys_of, rooted, secrets_of
from glmbot.errors import ConfigError
from glmbot.host import (
    Advice,
    Background,
    Command,
    Commandbox,
    EngineStart,
    ModerationSettings,
    Moderator,
    ModeratorStart,
    Panel,
    SettingsModel,
    Step,
    Tool,
    Toolbox,
    Transform,
)
from glmbot.http.routes import Route
from glmbot.logs import SecretFilter, hide
from glmbot.registered import (
    PlacedStep,
    RegisteredBackground,
    RegisteredCommand,
    RegisteredCommandbox,
    RegisteredEngine,
    RegisteredModerator,
    RegisteredPanel,
    RegisteredTool,
    RegisteredToolbox,
    RegisteredTransform,
    StartedModerator,
    Words,
)

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Plugin",
    "Plugins",
    "load_plugins",
    "log_troubles",
    "refuse_without_built_in",
    "start_moderators",
]

_log = logging.getLogger(__name__)

GROUP = "glmbot.plugins"
BUILT_IN = ("commands", "moderation")
# What chat platforms take for a command.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_LONGEST_REASON = 300
_MOST_NOTES = 32
_LONGEST_LINE = 4000
_LONGEST_PATH = 200
_LARGEST_BODY = 8 * 2**20
_LONGEST_REQUEST_S = 60.0
_FORMATTER = string.Formatter()
# What can be registered, in the order in which it is listed.
_KINDS = (
    "commands", "commandboxes", "tools", "toolboxes", "steps", "transforms", "engines", "moderators", "platforms",
    "routes", "backgrounds", "panels",
)  # fmt: skip
_ONE_OF = {"toolboxes": "toolbox", "commandboxes": "commandbox"}
# Of the chain, in order: what a plug-in's step can stand beside.
STEPS = (
    "admit", "transform", "command", "quota", "await_turn", "task", "moderate", "choose_model", "recall", "answer",
    "approve", "record",
)  # fmt: skip


@dataclass(slots=True)
class Plugin:
    """`source`: the package that it came with, and its version. `trouble`: why it was left out, "" for most.
    `notes`: what it says of parts that are not there."""

    name: str
    source: str
    trouble: str = ""
    registered: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(slots=True)
class Plugins:
    """What those of one bot have registered, by name."""

    found: list[Plugin] = field(default_factory=list[Plugin])
    commands: dict[str, RegisteredCommand] = field(default_factory=dict[str, RegisteredCommand])
    commandboxes: dict[str, RegisteredCommandbox] = field(default_factory=dict[str, RegisteredCommandbox])
    tools: dict[str, RegisteredTool] = field(default_factory=dict[str, RegisteredTool])
    toolboxes: dict[str, RegisteredToolbox] = field(default_factory=dict[str, RegisteredToolbox])
    steps: dict[str, PlacedStep] = field(default_factory=dict[str, PlacedStep])
    transforms: dict[str, RegisteredTransform] = field(default_factory=dict[str, RegisteredTransform])
    engines: dict[str, RegisteredEngine] = field(default_factory=dict[str, RegisteredEngine])
    moderators: dict[str, RegisteredModerator] = field(default_factory=dict[str, RegisteredModerator])
    platforms: dict[str, Any] = field(default_factory=dict[str, Any])
    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    backgrounds: dict[str, RegisteredBackground] = field(default_factory=dict[str, RegisteredBackground])
    panels: dict[str, RegisteredPanel] = field(default_factory=dict[str, RegisteredPanel])
    advice: list[tuple[str, Advice]] = field(default_factory=list[tuple[str, Advice]])
    secrets: list[str] = field(default_factory=list[str])

    @property
    def troubles(self) -> Sequence[tuple[str, str]]:
        return [(plugin.name, plugin.trouble) for plugin in self.found if plugin.trouble]


def load_plugins(
    tables: Mapping[str, Any] | None = None, folder: Path = Path(), *, quiet: bool = False
) -> Plugins:
    """Have all that are installed register, each with its table of [plugins]; relative paths count from `folder`.

    Nothing here raises; who is left out has a `trouble`. quiet: that is not logged.
    """
    tables = tables or {}
    plugins = Plugins()
    for name, entry in _entries():
        plugin = Plugin(name, _source(entry))
        plugins.found.append(plugin)
        draft = _Draft(plugins, name, tables.get(name, {}), folder)
        try:
            if name in {each.name for each in plugins.found[:-1]}:
                raise ValueError("there is another plug-in of this name")
            entry.load()(draft)
            plugin.registered = draft.settle()
            plugin.notes = draft.notes
        except (Exception, SystemExit) as error:
            plugin.trouble = draft.without_secrets(_reason(error))[:_LONGEST_REASON]
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug(
                    "the plug-in %s: %s", name, draft.without_secrets("".join(format_exception(error)))
                )
        finally:
            # Of one that is left out, too: what it has started may still write them.
            plugins.secrets += draft.secrets
    found = {plugin.name for plugin in plugins.found}
    for name in BUILT_IN:
        if name not in found:
            trouble = "it is a part of the bot, and is not installed with it; install glmbot anew"
            plugins.found.append(Plugin(name, "", trouble))
    for name in sorted(tables.keys() - found):
        trouble = f"[plugins.{name}] is in the configuration, and no plug-in of this name is installed"
        plugins.found.append(Plugin(name, "", trouble))
    if not quiet:
        log_troubles(plugins)
    return plugins


def log_troubles(plugins: Plugins) -> None:
    for name, trouble in plugins.troubles:
        _log.error("the plug-in %s is left out: %s", name, trouble)


def refuse_without_built_in(plugins: Plugins) -> None:
    """Raises ConfigError where a part of the bot's own is missing: nobody is to be answered unmoderated."""
    for name, trouble in plugins.troubles:
        if name in BUILT_IN:
            raise ConfigError(f"the plug-in {name}: {trouble}")


def start_moderators(
    plugins: Plugins, settings: ModerationSettings | None = None
) -> Sequence[StartedModerator]:
    """In the order in which they are asked. settings: by default those of an empty [moderation].

    Raises ConfigError for one that can't be started.
    """
    settings = settings or ModerationSection()
    started: list[StartedModerator] = []
    for name, registered in plugins.moderators.items():
        try:
            moderator = cast(object, registered.start(settings))
            if moderator is None:
                continue
            if not isinstance(moderator, Moderator):
                raise TypeError(f"its start returned {type(moderator).__name__}, and no Moderator")
            if not (0 < moderator.timeout_s < float("inf") and moderator.at_once >= 1):
                raise ValueError("a moderator has some time for a text, and is asked about one at least")
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            where = f"the moderator {name} of the plug-in {registered.plugin} can't be started"
            raise ConfigError(f"{where}: {_reason(error)[:_LONGEST_REASON]}") from error
        started.append(StartedModerator(name, registered.log, moderator))
    return started


def _entries() -> Iterator[tuple[str, EntryPoint]]:
    """The built-in ones first, so that nobody else takes their names."""
    found = sorted(entry_points(group=GROUP), key=lambda entry: (entry.name not in BUILT_IN, entry.name))
    # An install for editing and its source folder may both be on the path.
    seen: set[tuple[str, str]] = set()
    for entry in found:
        if (entry.name, entry.value) not in seen:
            seen.add((entry.name, entry.value))
            yield entry.name, entry


def _source(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""


def _reason(error: BaseException) -> str:
    """Without any value of the configuration, which may be secret."""
    return str(error) if isinstance(error, ConfigError | ValueError) else f"{type(error).__name__}: {error}"


class _Draft:
    """See `glmbot.host.Host`. What is registered here holds once all of it has been."""

    def __init__(self, plugins: Plugins, name: str, table: Any, folder: Path) -> None:
        self.name = name
        self.log = logging.getLogger(f"{GROUP}.{name}")
        self._plugins = plugins
        self._table = table
        self._folder = folder
        self._unread = bool(table)
        self._words = Words()
        self._new = Plugins()
        self.secrets: list[str] = []
        self.notes: list[str] = []

    def without_secrets(self, text: str) -> str:
        """It is told before any log knows them."""
        return SecretFilter(self.secrets).mask(text)

    def settle(self) -> Sequence[str]:
        """Returns what was registered, in words. Raises ValueError."""
        new = self._new
        if self._unread:
            instead = f"; what it does stands in [{self.name}]" if self.name in CORE_SECTIONS else ""
            raise ValueError(
                f"[plugins.{self.name}] is in the configuration, and this plug-in has no settings{instead}"
            )
        for name in new.commands:
            for language in i18n.LANGUAGES:
                try:
                    self._words.text(language, f"command.{name}")
                except KeyError:
                    raise ValueError(f'/{name} has no line "command.{name}" in {language}') from None
        known = {*STEPS, *self._plugins.steps, *new.steps}
        for step in new.steps.values():
            if (beside := step.before or step.after) not in known:
                raise ValueError(f"the step {step.name} stands beside {beside!r}, and there is no such step")
        steps = (*self._plugins.steps.values(), *new.steps.values())
        placed(
            [(name, None) for name in STEPS], [(each.name, each.before, each.after, None) for each in steps]
        )
        self._plugins.advice += new.advice
        listed: list[str] = []
        for kind in _KINDS:
            mine: dict[str, Any] = getattr(new, kind)
            getattr(self._plugins, kind).update(mine)
            listed += [_described(kind, name, each) for name, each in mine.items()]
        return listed

    def settings(self, model: type[SettingsModel]) -> SettingsModel:
        if not isinstance(self._table, Mapping):
            raise ConfigError(f"plugins.{self.name} must be a section: [plugins.{self.name}]")
        self._unread = False
        for key in self._table:
            if key not in (known := keys_of(model)) and model.model_config.get("extra") != "allow":
                hint = nearest(key, known)
                raise ConfigError(f"[plugins.{self.name}] has no key {key[:LONGEST_SHOWN]!r}{hint}")
        try:
            settings = model.model_validate(self._table)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems[:5]]
            raise ConfigError(f"[plugins.{self.name}] {'; '.join(lines)}") from None
        settings = rooted(settings, self._folder)
        self.secrets += secrets_of(settings)
        return settings

    def words(self, *, en: Mapping[str, str], zh: Mapping[str, str]) -> None:
        if en.keys() != zh.keys():
            odd = ", ".join(sorted(en.keys() ^ zh.keys())[:5])
            raise ValueError(f"these lines are there in one language only: {odd}")
        for key in en:
            if _fields(en[key]) != _fields(zh[key]):
                raise ValueError(f"the line {key} has other {{fields}} in one language than in the other")
        both = {"en": en, "zh": zh}
        self._words.lines = {
            language: {**self._words.lines.get(language, {}), **lines} for language, lines in both.items()
        }

    def note(self, words: str) -> None:
        if len(self.notes) < _MOST_NOTES:
            self.notes.append(words[:_LONGEST_REASON])

    def command(self, command: Command) -> None:
        name = self._free("commands", command.name)
        if command.obey is None and not command.asks:
            raise ValueError(f"/{name} does nothing")
        self._new.commands[name] = RegisteredCommand(command, self.name, self.log, self._words)

    def commandbox(self, name: str, box: Commandbox) -> None:
        registered = RegisteredCommandbox(self.name, self.log, self._words, box)
        self._new.commandboxes[self._free("commandboxes", name)] = registered

    def tool(self, tool: Tool) -> None:
        if tool.parameters.get("type") != "object":
            raise ValueError(f'the tool {tool.name}: its parameters are no JSON schema of type "object"')
        self._new.tools[self._free("tools", tool.name)] = RegisteredTool(self.name, self.log, tool)

    def toolbox(self, name: str, toolbox: Toolbox) -> None:
        self._new.toolboxes[self._free("toolboxes", name)] = RegisteredToolbox(self.name, self.log, toolbox)

    def background(self, name: str, work: Background) -> None:
        self._new.backgrounds[self._free("backgrounds", name)] = RegisteredBackground(
            self.name, self.log, work
        )

    def panel(self, name: str, panel: Panel) -> None:
        self._new.panels[self._free("panels", name)] = RegisteredPanel(self.name, self.log, panel)

    def hide(self, secrets: Sequence[str]) -> None:
        # Each set-up of the log begins with them.
        self._plugins.secrets += hide(secrets)

    def advice(self, say: Advice) -> None:
        self._new.advice.append((self.name, say))

    def step(self, name: str, step: Step, *, before: str = "", after: str = "") -> None:
        if bool(before) == bool(after):
            raise ValueError(f"the step {name} stands before or after one other step; say which")
        if name in STEPS:
            raise ValueError(f"there is a step {name} already")
        self._new.steps[self._free("steps", name)] = PlacedStep(
            name, self.name, self.log, step, before, after
        )

    def transform(self, media: str, transform: Transform) -> None:
        registered = RegisteredTransform(self.log, transform)
        self._new.transforms[self._free("transforms", media)] = registered

    def engine(self, kind: str, settings: Any, start: EngineStart) -> None:
        if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
            raise ValueError(f"the settings of the engine {kind} are no pydantic model")
        registered = RegisteredEngine(self.name, self.log, settings, start)
        self._new.engines[self._free("engines", kind)] = registered

    def moderator(self, name: str, start: ModeratorStart) -> None:
        registered = RegisteredModerator(self.name, self.log, start)
        self._new.moderators[self._free("moderators", name)] = registered

    def platform(self, name: str, adapter: Any) -> None:
        if not (isinstance(adapter, type) and issubclass(getattr(adapter, "Settings", object), BaseModel)):
            raise ValueError(f"the platform {name} has no Settings model")
        self._new.platforms[self._free("platforms", name)] = adapter

    def route(self, route: Route) -> None:
        place = f"/plugins/{self.name}/"
        if not route.path.startswith(place) or len(route.path) > _LONGEST_PATH or route.door is not None:
            raise ValueError(f"the path of a route begins with {place}, and it has no door")
        if not (0 < route.most_bytes <= _LARGEST_BODY and 0 < route.most_s <= _LONGEST_REQUEST_S):
            raise ValueError(
                f"the route {route.path} takes at most {_LARGEST_BODY} bytes and {_LONGEST_REQUEST_S:g} s"
            )
        if route.path in self._new.routes:
            raise ValueError(f"there is a route {route.path} already")
        self._new.routes[route.path] = route

    def _free(self, kind: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no name: small letters, digits and _, at most 32")
        if name in getattr(self._plugins, kind) or name in getattr(self._new, kind):
            raise ValueError(f"there is {name!r} among the {kind} already")
        return name


def _fields(line: str) -> list[str]:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"a line has more than {_LONGEST_LINE} characters")
    return sorted(name for _, name, _, _ in _FORMATTER.parse(line) if name is not None)


def _described(kind: str, name: str, registered: Any) -> str:
    if isinstance(registered, PlacedStep):
        place = f"before {registered.before}" if registered.before else f"after {registered.after}"
        return f"step {name} ({place})"
    return f"command /{name}" if kind == "commands" else f"{_ONE_OF.get(kind, kind.removesuffix('s'))} {name}"


def placed(
    steps: Sequence[tuple[str, Any]], own: Iterable[tuple[str, str, str, Any]]
) -> list[tuple[str, Any]]:
    """The chain with further steps in their places: (name, before, after, step) each, the other name is "".

    What stands beside a step that is not there yet waits for it; several beside one are in the order in which they
    came.
    """
    chain, waiting = list(steps), list(own)
    while waiting:
        names = [name for name, _ in chain]
        ready = [each for each in waiting if (each[1] or each[2]) in names]
        if not ready:
            raise ValueError(f"no place for the steps {', '.join(each[0] for each in waiting)}")
        for name, before, after, step in ready:
            names = [each for each, _ in chain]
            at = names.index(before) if before else names.index(after) + 1
            chain.insert(at, (name, step))
        waiting = [each for each in waiting if each not in ready]
    return chain
