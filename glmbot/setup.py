"""The questions of `glmbot init`, and the configuration that their answers make."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from glmbot.messages import UserKey

__all__ = ["ask_configuration"]


def ask_configuration(ask: Callable[..., Any], confirm: Callable[..., bool]) -> str:
    """TOML text. `ask` and `confirm` take a question, and `default=`."""
    model = str(ask("Model folder", default=".glmbot/models/smollm2-135m-instruct"))
    sections = [f"[model]\npath = {json.dumps(model, ensure_ascii=False)}\n"]
    admins: list[str] = []
    platforms: list[str] = []
    if confirm("A web page on this machine?", default=True):
        port = int(ask("Its port", default=8080))
        platforms.append(f"[web]\nport = {port}\nadmin = true\n")
    for name, title in (("telegram", "Telegram"), ("discord", "Discord")):
        if confirm(f"A {title} bot?", default=False):
            file = str(ask(f"File that holds the {title} token", default=f"{name}.token"))
            platforms.append(f"[{name}]\ntoken_file = {json.dumps(file, ensure_ascii=False)}\n")
            admins += _ask_admin(ask, name, title)
    sections.append(f"[access]\nadmins = {json.dumps(admins)}\n")
    return "\n".join([*sections, *platforms])


def _ask_admin(ask: Callable[..., Any], platform: str, title: str) -> list[str]:
    while True:
        given = str(
            ask(f"Your numeric {title} id (empty: send the bot /start, and it tells you)", default="")
        ).strip()
        if not given:
            return []
        try:
            return [str(UserKey.parse(f"{platform}:{given}"))]
        except ValueError:
            continue
