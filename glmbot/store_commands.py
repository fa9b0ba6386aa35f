"""The commands for who has a terminal on the bot's machine: people and histories. The bot may run meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from glmbot.config.configuration import Configuration
from glmbot.errors import ConfigError
from glmbot.keys import UserKey
from glmbot.logs import STDERR
from glmbot.messages import Role
from glmbot.store.base import Store

__all__ = ["store_commands"]

_T = TypeVar("_T")

_ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file.", show_default=False)
]
_FileOption = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", help="A new file that only you can read, instead of the terminal.", show_default=False
    ),
]
_UserArgument = Annotated[str, typer.Argument(help="Whose, like telegram:123456789.")]


def store_commands(load: Callable[[Path | None], Configuration]) -> typer.Typer:
    """load: reads the configuration that was named, or the one that is there."""
    app = typer.Typer()
    stores = _Stores(load)
    _add_pairing(app, stores)
    _add_copies(app, stores)
    _add_rights_of_people(app, stores)
    return app


@dataclass(frozen=True, slots=True)
class _Stores:
    load: Callable[[Path | None], Configuration]

    def use(
        self, config: Path | None, work: Callable[[Store], Awaitable[_T]], *, makes_one: bool = False
    ) -> _T:
        """Do something with the store of a configuration, open meanwhile.

        In the wrong folder there is no store, and nothing of anybody would be found or deleted: that is said,
        unless this may make one.
        """
        from glmbot.app import open_store

        configuration = self.load(config)
        section = configuration.store
        if section.kind == "sqlite" and not makes_one and not section.path.exists():
            raise ConfigError(
                f"{section.path}: there is no such store; go to the bot's folder, or name its configuration with"
                " --config"
            )

        async def run() -> _T:
            store = open_store(configuration)
            await store.open()
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())


def _add_pairing(app: typer.Typer, stores: _Stores) -> None:
    @app.command()
    def pair(
        code: Annotated[str, typer.Argument(help="The code that the bot told somebody.")],
        admin: Annotated[bool, typer.Option("--admin", help="Let them in as an administrator.")] = False,
        config: _ConfigOption = None,
    ) -> None:
        """Let somebody in by the pairing code that the bot told them."""
        from glmbot.dialogue.people import pair as let_in

        role = Role.ADMIN if admin else Role.USER
        user = stores.use(config, lambda store: let_in(store, code, role, time.time()))
        if user is None:
            raise ConfigError("no such code is waiting; codes live for an hour, /start gives a new one")
        _say(f"{user} may talk to the bot now, as {'an administrator' if admin else 'a user'}")


def _add_copies(app: typer.Typer, stores: _Stores) -> None:
    """The whole store as a file, and the key without which it can't be read."""

    @app.command()
    def key(file: _FileOption = None) -> None:
        """Make a new key for [store] encryption_key. Without it nothing that it encrypted can be read again."""
        from glmbot.store.sealed import new_key

        _put(new_key(), file)

    @app.command()
    def backup(
        path: Annotated[Path, typer.Argument(help="File to write, such as glmbot.backup.gz.")],
        config: _ConfigOption = None,
    ) -> None:
        """Write all histories and settings to a file."""
        from glmbot.backup import back_up

        count = stores.use(config, lambda store: back_up(store, path))
        _say(f"{path} is written. Conversations: {count}. Keep it safe: it holds what people said")

    @app.command()
    def restore(
        path: Annotated[Path, typer.Argument(help="File that `glmbot backup` wrote.")],
        config: _ConfigOption = None,
    ) -> None:
        """Bring histories and settings back from a file. It may be of the other kind of store."""
        from glmbot.backup import restore as bring_back

        done = stores.use(config, lambda store: bring_back(store, path), makes_one=True)
        _say(
            f"Conversations that are back: {done.conversations}; people and chats with settings: {done.settings};"
            f" conversations that were there already, and are as they were: {done.kept}"
        )
        if done.files or done.refused:
            left_out = f"; left out: {done.refused}, see [store] blob_mb" if done.refused else ""
            _say(f"Files that are back: {done.files}{left_out}")


def _add_rights_of_people(app: typer.Typer, stores: _Stores) -> None:
    """What everybody may ask for: all that is kept of them, and that nothing is."""

    @app.command()
    def export(user: _UserArgument, file: _FileOption = None, config: _ConfigOption = None) -> None:
        """Everything kept of a person, as JSON."""
        from glmbot.dialogue.export import whole_export_of

        exported, _ = stores.use(config, lambda store: whole_export_of(store, _user(user)))
        _put(exported.decode(), file)

    @app.command()
    def toollog(file: _FileOption = None, config: _ConfigOption = None) -> None:
        """Print which tools were called. A line of JSON for each: by whom, where, and what came of it."""
        from glmbot.dialogue.tool_log import logged_calls

        async def lines(store: Store) -> list[str]:
            return [json.dumps(asdict(line), ensure_ascii=False) async for line in logged_calls(store)]

        _put("\n".join(stores.use(config, lines)), file)

    @app.command()
    def forget(
        user: _UserArgument,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        config: _ConfigOption = None,
    ) -> None:
        """Delete everything kept of a person, for good."""
        whose = _user(user)
        if not yes and not typer.confirm(f"Delete everything of {whose} for good?"):
            raise typer.Exit(1)
        turns = stores.use(config, lambda store: store.forget(whose))
        _say(f"Turns deleted: {turns}. Nothing of {whose} is kept")


def _user(text: str) -> UserKey:
    try:
        return UserKey.by_hand(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _put(text: str, file: Path | None) -> None:
    if file is None:
        sys.stdout.write(text + "\n")
        return
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name a file that is not there yet") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text + "\n")
    _say(f"{file} is written, and only you can read it")


def _say(words: str) -> None:
    STDERR.print(words, style="green", markup=False, soft_wrap=True)
