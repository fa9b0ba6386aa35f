"""The commands: their names, who may use them, and how a text is read as one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.i18n import text
from glmbot.messages import CommandInfo, Role

__all__ = ["Command", "allowed", "listing", "parse"]

# name -> (role needed, name of its argument); descriptions are in i18n/*.toml as "command.NAME".
_COMMANDS: dict[str, tuple[Role, str]] = {
    "start": (Role.USER, ""),
    "help": (Role.USER, ""),
    "new": (Role.USER, ""),
    "reset": (Role.USER, ""),
    "stop": (Role.USER, ""),
    "retry": (Role.USER, ""),
    "context": (Role.USER, ""),
    "lang": (Role.USER, "en|zh|auto"),
    "status": (Role.USER, ""),
    "whoami": (Role.USER, ""),
    "export": (Role.USER, ""),
    "forget": (Role.USER, "yes"),
    "precision": (Role.ADMIN, "fp32|fp16|bf16|int8|int4"),
    "queue": (Role.ADMIN, ""),
}

_FORM = re.compile(r"/(?P<name>[a-z_]{1,32})(?:@\w+)?(?:\s+(?P<argument>.*))?", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    argument: str

    @property
    def known(self) -> bool:
        return self.name in _COMMANDS


def parse(message_text: str) -> Command | None:
    """ "/reset@OurBot now" -> Command("reset", "now"); None for everything that is a question ("/usr/bin?")."""
    match = _FORM.fullmatch(message_text.strip())
    if match is None:
        return None
    return Command(match["name"].lower(), (match["argument"] or "").strip())


def allowed(command: Command, role: Role) -> bool:
    """`/reset` of somebody else needs an administrator, like the commands of administrators."""
    needed, _ = _COMMANDS[command.name]
    if command.name == "reset" and command.argument:
        needed = Role.ADMIN
    return role is Role.ADMIN or needed is Role.USER


def listing(language: str, role: Role) -> Sequence[CommandInfo]:
    """What a person of this role can use, for /help and the platforms' menus."""
    return [
        CommandInfo(name, text(language, f"command.{name}"), argument)
        for name, (needed, argument) in _COMMANDS.items()
        if role is Role.ADMIN or needed is Role.USER
    ]
