"""The commands that were registered, and who may use which of them where."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from glmbot.host import Command
from glmbot.messages import ChatKind, CommandInfo, Role, Visibility
from glmbot.registered import RegisteredCommand, RegisteredCommandbox

__all__ = ["Commands", "obstacle"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_MOST_OF_A_BOX = 200
# As many as Telegram's and Discord's menus take; whoever knows a further one can say it all the same.
_MOST_LISTED = 100


class Commands:
    def __init__(
        self,
        registered: Mapping[str, RegisteredCommand],
        boxes: Mapping[str, RegisteredCommandbox] | None = None,
    ) -> None:
        self._registered = dict(sorted(registered.items(), key=lambda each: (each[1].command.rank, each[0])))
        self._boxes = dict(boxes or {})
        self._failed: set[str] = set()
        self.acting: Collection[str] = frozenset(
            name for name, each in self._registered.items() if not each.command.says
        )
        """Names of those that are obeyed as they were given, whatever is said in their place afterwards."""

    def __contains__(self, name: str) -> bool:
        return self.registered(name) is not None

    def registered(self, name: str) -> RegisteredCommand | None:
        found = self._registered.get(name)
        return found if found is not None or not self._boxes else self._in_boxes().get(name)

    def asks(self, name: str) -> str:
        """What it asks the model for ("ask", "retry", "continue"); "" for what is an action, or no command."""
        found = self.registered(name)
        return "" if found is None else found.command.asks

    def listing(
        self, language: str, role: Role, chat_kind: ChatKind = ChatKind.PRIVATE
    ) -> Sequence[CommandInfo]:
        """What a person of this role can use there, for /help and the platforms' menus."""
        listed = [
            CommandInfo(name, _title(each, name, language), each.command.argument)
            for name, each in {**self._registered, **self._in_boxes()}.items()
            if (role is Role.ADMIN or each.command.role is Role.USER)
            and not (chat_kind is ChatKind.GROUP and each.command.private)
        ]
        return listed[:_MOST_LISTED]

    def _in_boxes(self) -> Mapping[str, RegisteredCommand]:
        """Those of now, without any whose name is taken or none."""
        found: dict[str, RegisteredCommand] = {}
        for name, box in self._boxes.items():
            try:
                for command in list(box.box.commands())[:_MOST_OF_A_BOX]:
                    if _NAME.fullmatch(command.name) and command.name not in self._registered:
                        found.setdefault(
                            command.name, RegisteredCommand(command, box.plugin, box.log, box.words)
                        )
            except (Exception, SystemExit) as error:
                if name not in self._failed:
                    self._failed.add(name)
                    box.log.error("the commandbox %s failed: %s: %s", name, type(error).__name__, error)
        return found


def _title(registered: RegisteredCommand, name: str, language: str) -> str:
    titles = registered.command.title
    return titles.get(language) or titles.get("en") or registered.words.text(language, f"command.{name}")


def obstacle(
    command: Command,
    argument: str,
    role: Role,
    chat_kind: ChatKind,
    visibility: Visibility = Visibility.EVERYONE,
) -> str | None:
    """Why this person can't use the command here, as the name of a line; None when they can.

    What is nobody else's business needs an answer that nobody else sees.
    """
    if command.private and chat_kind is ChatKind.GROUP and visibility is Visibility.EVERYONE:
        return "command.private_only"
    if role is Role.ADMIN or command.needs(argument, chat_kind) is Role.USER:
        return None
    return "command.admin_only"
