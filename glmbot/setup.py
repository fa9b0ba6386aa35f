"""The questions of `glmbot init`, and the configuration that their answers make."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glmbot.messages import UserKey

__all__ = ["Answers", "ask_configuration"]

_TOKENS = {
    "telegram": ("from @BotFather", re.compile(r"\d{6,}:[A-Za-z0-9_-]{30,}")),
    "discord": (
        "from https://discord.com/developers/applications",
        re.compile(r"[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{20,}"),
    ),
}
_DEMO_MODEL = ".glmbot/models/smollm2-135m-instruct"
_STEPS = {
    "telegram": "Then send your Telegram bot /start: it tells you a code, and `glmbot pair CODE --admin` makes you"
    " its administrator.",
    "discord": "On Discord, write to the bot directly: it tells you a code for `glmbot pair CODE --admin`.",
}


@dataclass(slots=True)
class Answers:
    """`secrets`: file name beside the configuration -> content, to be readable by nobody else."""

    toml: str = ""
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    next_steps: list[str] = field(default_factory=list[str])


def ask_configuration(ask: Callable[..., Any], confirm: Callable[..., bool]) -> Answers:
    """`ask` takes a question, `default=` and `hide_input=`; `confirm` a question and `default=`."""
    answers = Answers()
    model = _ask_model(ask)
    sections = [f"[model]\npath = {_toml(model)}\n"]
    admins: list[str] = []
    platforms: list[str] = []
    if confirm("A web page on this machine?", default=True):
        port = _ask_port(ask)
        platforms.append(f"[web]\nport = {port}\nadmin = true\n")
        answers.next_steps.append(
            f"The page will be at http://127.0.0.1:{port}, the operator's at http://127.0.0.1:{port}/admin"
        )
    for name, title in (("telegram", "Telegram"), ("discord", "Discord")):
        if confirm(f"A {title} bot?", default=False):
            file = f"{name}.token"
            token = _ask_token(ask, name, title)
            if token:
                answers.secrets[file] = token
            else:
                answers.next_steps.append(f"Put the {title} token into {file} (chmod 600).")
            platforms.append(f"[{name}]\ntoken_file = {_toml(file)}\n")
            admin = _ask_admin(ask, name, title)
            admins += admin
            if not admin:
                answers.next_steps.append(_STEPS[name])
    if confirm("Keep the histories in a Redis server? (Otherwise they go into a file.)", default=False):
        url = str(ask("Its address", default="redis://127.0.0.1:6379/0"))
        sections.append(f'[store]\nkind = "redis"\nurl = {_toml(url)}\n')
    sections.append(f"[access]\nadmins = {json.dumps(admins)}\n")
    answers.toml = "\n".join([*sections, *platforms])
    return answers


def _ask_model(ask: Callable[..., Any]) -> str:
    while True:
        question = "Model folder (the default is the demo model)"
        folder = Path(str(ask(question, default=_DEMO_MODEL))).expanduser()
        if not folder.exists() or (folder / "config.json").is_file():
            return str(folder)
        ask(f"{folder} has no config.json, so it is no model folder. Enter: try again", default="")


def _ask_port(ask: Callable[..., Any]) -> int:
    while True:
        given = str(ask("Its port", default=8080))
        if given.isascii() and given.isdigit() and int(given) < 65536:
            return int(given)


def _ask_token(ask: Callable[..., Any], platform: str, title: str) -> str:
    """What has not the form of a token is asked for again; empty leaves it for later."""
    where, form = _TOKENS[platform]
    while True:
        given = str(ask(f"The {title} token, {where} (empty: later)", default="", hide_input=True)).strip()
        if not given or form.fullmatch(given):
            return given


def _ask_admin(ask: Callable[..., Any], platform: str, title: str) -> list[str]:
    while True:
        given = str(
            ask(f"Your numeric {title} id (empty: pair yourself later with a code)", default="")
        ).strip()
        if not given:
            return []
        try:
            return [str(UserKey.parse(f"{platform}:{given}"))]
        except ValueError:
            continue


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
