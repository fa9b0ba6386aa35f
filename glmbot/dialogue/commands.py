"""The commands: their names, who may use them, and how a text is read as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmbot.i18n import text
from glmbot.messages import ChatKind, CommandInfo, Role, Visibility
from glmbot.openings import slash_command

__all__ = ["Command", "listing", "obstacle", "parse"]

# name -> (role needed, name of its argument); descriptions are in i18n/*.toml as "command.NAME".
_COMMANDS: dict[str, tuple[Role, str]] = {
    "start": (Role.USER, ""),
    "help": (Role.USER, ""),
    "ask": (Role.USER, "QUESTION"),
    "new": (Role.USER, ""),
    "reset": (Role.USER, ""),
    "stop": (Role.USER, ""),
    "retry": (Role.USER, ""),
    "continue": (Role.USER, ""),
    "context": (Role.USER, ""),
    "lang": (Role.USER, "en|zh|auto"),
    "status": (Role.USER, ""),
    "whoami": (Role.USER, ""),
    "export": (Role.USER, ""),
    "forget": (Role.USER, "yes"),
    "prompt": (Role.USER, "TEXT|off"),
    "precision": (Role.ADMIN, "fp32|fp16|bf16|int8|int4"),
    "queue": (Role.ADMIN, ""),
    "mode": (Role.ADMIN, "mention|all|command"),
    "pair": (Role.ADMIN, "CODE"),
    "allow": (Role.ADMIN, "USER|here"),
    "block": (Role.ADMIN, "USER|here"),
    "limit": (Role.ADMIN, "USER|here N|none|off"),
    "broadcast": (Role.ADMIN, "TEXT"),
    "reload": (Role.ADMIN, ""),
    "dead": (Role.ADMIN, "replay|drop N|all"),
}

# What they answer with is nobody else's business.
_PRIVATE = frozenset({"export"})


@dataclass(frozen=True, slots=True)
class Command:
    """`to`: the bot that it names ("/help@OurBot"), "" where it names none."""

    name: str
    argument: str
    to: str = ""

    @property
    def known(self) -> bool:
        return self.name in _COMMANDS


def parse(message_text: str) -> Command | None:
    """ "/reset@OurBot now" -> Command("reset", "now", "OurBot"); None for everything that is a question
    ("/usr/bin?")."""
    found = slash_command(message_text)
    return None if found is None else Command(found.name, found.argument, found.to)


def obstacle(
    command: Command, role: Role, chat_kind: ChatKind, visibility: Visibility = Visibility.EVERYONE
) -> str | None:
    """Why this person can't use the command here, as the name of a line; None when they can.

    What is nobody else's business needs an answer that nobody else sees. `/reset` of somebody else needs an
    administrator, like the commands of administrators; so does changing the system prompt of a group.
    """
    seen_by_others = chat_kind is ChatKind.GROUP and visibility is Visibility.EVERYONE
    if seen_by_others and command.name in _PRIVATE:
        return "command.private_only"
    needed, _ = _COMMANDS[command.name]
    if command.argument and (
        command.name == "reset" or (command.name == "prompt" and chat_kind is ChatKind.GROUP)
    ):
        needed = Role.ADMIN
    return None if role is Role.ADMIN or needed is Role.USER else "command.admin_only"


def listing(language: str, role: Role, chat_kind: ChatKind = ChatKind.PRIVATE) -> Sequence[CommandInfo]:
    """What a person of this role can use there, for /help and the platforms' menus."""
    return [
        CommandInfo(name, text(language, f"command.{name}"), argument)
        for name, (needed, argument) in _COMMANDS.items()
        if (role is Role.ADMIN or needed is Role.USER)
        and not (chat_kind is ChatKind.GROUP and name in _PRIVATE)
    ]
