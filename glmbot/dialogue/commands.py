"""The commands that were registered, and who may use which of them where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from glmbot.host import Command
from glmbot.messages import ChatKind, CommandInfo, Role, Visibility
from glmbot.registered import RegisteredCommand

__all__ = ["Commands", "obstacle"]


class Commands:
    def __init__(self, registered: Mapping[str, RegisteredCommand]) -> None:
        self._registered = dict(sorted(registered.items(), key=lambda each: (each[1].command.rank, each[0])))
        self.acting: Collection[str] = frozenset(
            name for name, each in self._registered.items() if not each.command.says
        )
        """Names of those that are obeyed as they were given, whatever is said in their place afterwards."""

    def __contains__(self, name: str) -> bool:
        return name in self._registered

    def registered(self, name: str) -> RegisteredCommand | None:
        return self._registered.get(name)

    def asks(self, name: str) -> str:
        """What it asks the model for ("ask", "retry", "continue"); "" for what is an action, or no command."""
        found = self._registered.get(name)
        return "" if found is None else found.command.asks

    def listing(
        self, language: str, role: Role, chat_kind: ChatKind = ChatKind.PRIVATE
    ) -> Sequence[CommandInfo]:
        """What a person of this role can use there, for /help and the platforms' menus."""
        return [
            CommandInfo(name, each.words.text(language, f"command.{name}"), each.command.argument)
            for name, each in self._registered.items()
            if (role is Role.ADMIN or each.command.role is Role.USER)
            and not (chat_kind is ChatKind.GROUP and each.command.private)
        ]


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
