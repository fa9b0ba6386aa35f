"""The bot's own commands, each a file with a `COMMAND`. Their lines are in `glmbot/i18n`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from glmbot.host import Host

__all__ = ["register"]


def register(host: Host) -> None:
    for module in iter_modules(__path__):
        command = getattr(import_module(f"{__name__}.{module.name}"), "COMMAND", None)
        if command is not None:
            host.command(command)
