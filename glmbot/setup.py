"""The questions of `glmbot init`, and the configuration that their answers make.

Nothing is taken that could not be run: what is wrong with an answer is said, and it is asked for again. What only
a network can tell (a token, a server) may be kept although nobody answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from glmbot import i18n
from glmbot.errors import AdapterError, ConfigError, GlmbotError, PlatformRefused
from glmbot.introduction import Introduction, Question, introductions
from glmbot.keys import UserKey, is_bot_name, kind_of

__all__ = ["Answers", "Outside", "Terminal", "ask_configuration"]

_DEMO_MODEL = Path(".glmbot/models/smollm2-135m-instruct")
_LONGEST_SHOWN = 200
_REDIS = "redis://127.0.0.1:6379/0"


class Terminal(Protocol):
    def ask(self, question: str, default: str = "", *, hidden: bool = False) -> str: ...

    def confirm(self, question: str, *, default: bool) -> bool: ...

    def say(self, words: str) -> None: ...


class Outside(Protocol):
    """What the answers are held against."""

    def taken(self, port: int) -> str:
        """Why this port can't be listened on; "" when it can."""
        ...

    def servers(self) -> Sequence[str]:
        """Addresses of model servers that answer on this machine."""
        ...

    def model(self, path: Path) -> str:
        """Why the model there can't be run; "" when its files look well."""
        ...

    def served(self, server: str, key: str) -> Sequence[str]:
        """Names of the server's models. Raises ConfigError."""
        ...

    def bot(self, platform: str, settings: Mapping[str, str]) -> str:
        """Who the bot is by these settings of its section, "" where that is not known before it runs. Raises
        PlatformRefused for wrong ones, AdapterError when nobody answers."""
        ...

    def store(self, url: str) -> None:
        """Raises ConfigError for what is no address, StoreError when nobody answers."""
        ...


@dataclass(slots=True)
class Answers:
    """`secrets`: file name beside the configuration -> content, to be readable by nobody else."""

    toml: str = ""
    secrets: dict[str, str] = field(default_factory=dict[str, str])
    next_steps: list[str] = field(default_factory=list[str])


def ask_configuration(terminal: Terminal, outside: Outside, file: Path, language: str) -> Answers:
    """`file` is where the configuration will stand. Raises whatever the terminal raises when it ends."""
    return _Asking(terminal, outside, file, language).ask()


class _Asking:
    def __init__(self, terminal: Terminal, outside: Outside, file: Path, language: str) -> None:
        self._terminal = terminal
        self._outside = outside
        self._folder = file.absolute().parent
        self._language = language
        self._answers = Answers()
        # Another bot's configuration in the same folder has its secrets in files of its own.
        self._beside = "" if file.stem == "config" else f"{file.stem}-"
        self._option = "" if file == Path("config.toml") else f" --config {file}"

    def ask(self) -> Answers:
        self._say("setup.intro")
        sections = [self._model()]
        platforms: list[str] = []
        admins: list[str] = []
        self._next("setup.then_run", option=self._option)
        if self._confirm("setup.web", default=True):
            port = self._port()
            platforms.append(f"[web]\nport = {port}\nadmin = true\n")
            self._next("setup.then_page", port=port)
        for platform, introduction in self._chosen().items():
            self._say("setup.section", platform=self._in(introduction.title), section=platform)
            platforms.append(self._platform(platform, introduction))
            admin = self._admin(platform, introduction)
            admins += admin
            if not admin:
                self._answers.next_steps.append(self._in(introduction.then).format(option=self._option))
        if self._confirm("setup.redis", default=False):
            sections.append(f'[store]\nkind = "redis"\nurl = {_toml(self._redis())}\n')
        sections.append(f"[access]\nadmins = {json.dumps(admins)}\n")
        self._answers.toml = "\n".join([*sections, *platforms])
        return self._answers

    # ---- the model ---------------------------------------------------------------------------------------------

    def _model(self) -> str:
        found = self._outside.servers()
        if found:
            self._say("setup.servers_found", servers=", ".join(found))
        if self._confirm("setup.remote", default=False):
            return self._remote(found[0] if found else "http://127.0.0.1:11434/v1")
        folder = self._model_folder()
        return f"[model]\npath = {_toml(str(folder))}\n"

    def _model_folder(self) -> Path:
        while True:
            given = Path(self._ask("setup.model", str(_DEMO_MODEL)))
            # Of somebody whom this machine does not know.
            with suppress(RuntimeError):
                given = given.expanduser()
            there = _is_there(given)
            if given == _DEMO_MODEL and not there:
                self._answers.next_steps.append(self._text("setup.then_pull"))
                break
            if not there:
                self._say("setup.no_folder", folder=given)
            elif words := self._outside.model(given):
                self._say("setup.no_model", words=words)
            else:
                break
        # A relative path in the file counts from its folder, not from where this is asked.
        return given if self._folder == Path.cwd() else given.absolute()

    def _remote(self, proposed: str) -> str:
        while True:
            server = self._ask("setup.server", proposed).rstrip("/")
            if not re.fullmatch(r"https?://[^\s/@]+(/\S*)?", server):
                self._say("setup.no_server", given=server)
                continue
            key = self._ask("setup.key", "", hidden=True)
            try:
                names = self._outside.served(server, key)
            except ConfigError as error:
                self._say("setup.no_answer", words=error)
                if not self._confirm("setup.keep", default=False):
                    continue
                names = []
            break
        if names:
            self._say("setup.served", models=", ".join(names))
        model = self._ask("setup.which", names[0] if names else "")
        lines = ["[remote]", f"servers = [{_toml(server)}]", 'interface = "chat"', f"model = {_toml(model)}"]
        if key:
            name = f"{self._beside}remote.key"
            self._answers.secrets[name] = key
            lines.append(f"api_key_file = {_toml(name)}")
        return "\n".join(lines) + "\n"

    # ---- the platforms -----------------------------------------------------------------------------------------

    def _port(self) -> int:
        while True:
            given = self._ask("setup.port", "8080")
            if not (re.fullmatch(r"[0-9]{1,5}", given) and 0 < int(given) < 65536):
                self._say("setup.no_port", given=given)
            elif words := self._outside.taken(int(given)):
                self._say("setup.taken", port=given, words=words)
            else:
                return int(given)

    def _chosen(self) -> Mapping[str, Introduction]:
        """By the names of their sections, in the order in which they are named."""
        known = {name: each for name, each in introductions().items() if each.questions}
        listed = [
            f"{number:4} {self._in(known[name].title)} ({name})" for number, name in enumerate(known, 1)
        ]
        self._say("setup.known", platforms="\n".join(listed))
        while True:
            given = [each for each in re.split(r"[\s,，、]+", self._ask("setup.platforms", "")) if each]
            named = [_platform_named(each, list(known)) for each in given]
            wrong = [each for each, name in zip(given, named, strict=True) if not name]
            if not wrong:
                return {name: known[kind_of(name)] for name in named}
            self._say("setup.no_such_platform", given=", ".join(wrong)[:_LONGEST_SHOWN])

    def _platform(self, platform: str, introduction: Introduction) -> str:
        given, proxy = self._settings(platform, introduction)
        lines = [f"[{platform}]"]
        for question in introduction.questions:
            answer = given.get(question.key, "")
            if question.secret:
                name = f"{self._beside}{platform}.{question.key}"
                lines.append(f"{question.key}_file = {_toml(name)}")
                if answer:
                    self._answers.secrets[name] = answer
                else:
                    title = self._in(introduction.title)
                    self._next("setup.then_token", platform=title, file=self._folder / name)
            elif answer:
                lines.append(f"{question.key} = {_toml(answer)}")
        if proxy:
            lines.append(f"proxy = {_toml(proxy)}")
        return "\n".join(lines) + "\n"

    def _settings(self, platform: str, introduction: Introduction) -> tuple[Mapping[str, str], str]:
        """The answers, and the proxy that they are used through. An empty secret leaves it for later."""
        proxy = ""
        while True:
            given = {each.key: self._answer(introduction, each) for each in introduction.questions}
            if not all(given[each.key] for each in introduction.questions if each.secret):
                return given, proxy
            while True:
                known = {key: answer for key, answer in {**given, "proxy": proxy}.items() if answer}
                try:
                    if name := self._outside.bot(platform, known):
                        self._say("setup.bot", name=name)
                    return given, proxy
                except PlatformRefused as error:
                    self._say("setup.refused", words=error)
                    break
                except AdapterError as error:
                    self._say("setup.no_answer", words=error)
                    further = self._proxy()
                    if not further:
                        return given, proxy
                    proxy = further

    def _answer(self, introduction: Introduction, question: Question) -> str:
        while True:
            answer = self._terminal.ask(self._in(question.words), "", hidden=question.secret).strip()
            if not answer or re.fullmatch(question.form, answer):
                return answer
            if question.wrong:
                self._terminal.say(self._in(question.wrong))
            else:
                self._say("setup.no_token", platform=self._in(introduction.title))

    def _proxy(self) -> str:
        while True:
            given = self._ask("setup.proxy", "")
            if not given or re.fullmatch(r"https?://[^\s/@]+/?", given):
                return given
            self._say("setup.no_proxy", given=given)

    def _admin(self, platform: str, introduction: Introduction) -> list[str]:
        while True:
            given = self._ask("setup.admin", "", platform=self._in(introduction.title))
            if not given:
                return []
            try:
                if introduction.id_form and not re.fullmatch(introduction.id_form, given):
                    raise ValueError
                return [str(UserKey.by_hand(f"{platform}:{given}"))]
            except ValueError:
                self._say("setup.no_id", given=given, platform=self._in(introduction.title))

    def _redis(self) -> str:
        while True:
            url = self._ask("setup.redis_url", _REDIS)
            try:
                self._outside.store(url)
                return url
            except ConfigError as error:
                self._say("setup.no_answer", words=error)
            except GlmbotError as error:
                self._say("setup.no_answer", words=error)
                if self._confirm("setup.keep", default=False):
                    return url

    # ---- words -------------------------------------------------------------------------------------------------

    def _ask(self, key: str, default: str, *, hidden: bool = False, **values: object) -> str:
        return self._terminal.ask(self._text(key, **values), default, hidden=hidden).strip()

    def _confirm(self, key: str, *, default: bool, **values: object) -> bool:
        return self._terminal.confirm(self._text(key, **values), default=default)

    def _say(self, key: str, **values: object) -> None:
        self._terminal.say(self._text(key, **values))

    def _next(self, key: str, **values: object) -> None:
        self._answers.next_steps.append(self._text(key, **values))

    def _in(self, words: Mapping[str, str]) -> str:
        return words[self._language]

    def _text(self, key: str, **values: object) -> str:
        return i18n.text(self._language, key, **values)


def _platform_named(given: str, known: Sequence[str]) -> str:
    """The section that a number of the list, a platform's name, or that and a further bot's name, mean; "" for
    none."""
    if re.fullmatch(r"[0-9]{1,3}", given):
        return known[int(given) - 1] if 0 < int(given) <= len(known) else ""
    kind, point, bot = given.partition(".")
    wrong = kind.lower() not in known or (point and not is_bot_name(bot))
    return "" if wrong else f"{kind.lower()}{point}{bot}"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # Too long for a path, or in a folder that may not be looked into.
        return False
