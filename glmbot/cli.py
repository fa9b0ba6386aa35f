"""The command line."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from glmbot import __version__
from glmbot.config.configuration import Configuration, secrets_in
from glmbot.config.operation import StoreSection
from glmbot.errors import ConfigError, GlmbotError
from glmbot.logs import STDERR, for_terminal, set_up_logging
from glmbot.store_commands import store_commands

__all__ = ["main"]

# What stands in brackets in a help is a section of the configuration, and no markup.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

_CONFIG = Path("config.toml")
_ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file.", show_default=False)
]


def main() -> None:
    """An error of ours is one clear paragraph on stderr and exit status 1, never a traceback."""
    # Models are read from folders only; nothing of the libraries may reach for a network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        app()
    except GlmbotError as error:
        STDERR.print(f"glmbot: {for_terminal(str(error))}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)


def _import(module: str) -> None:
    """An exception in the middle of torch's own import, such as that of Ctrl-C, would abort the process."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(import_module, module).result()


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """A chat model that you run yourself, on Telegram, Discord, a web page and in a terminal."""
    if version:
        typer.echo(f"glmbot {__version__}")
        raise typer.Exit


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port of the web page.")] = 8080,
    home: Annotated[Path, typer.Option(help="Where the model and the histories go.")] = Path(".glmbot"),
) -> None:
    """Get the demo model and serve it. There is a web page, and a chat here when this is a terminal."""
    overrides: dict[str, Any] = {
        "model": {"path": _demo_model(home)},
        "store": {"path": home.resolve() / "glmbot.sqlite3"},
        "web": {"port": port, "admin": True},
    }
    if sys.stdin.isatty() and sys.stdout.isatty():
        overrides["console"] = {}
    configuration = _load(None, overrides)
    _run(configuration)


@app.command()
def run(
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file.")] = _CONFIG,
) -> None:
    """Run the bot as the configuration says. SIGHUP, like /reload, reads the configuration again."""
    _run(_load(config), lambda: _read(config))


@app.command()
def serve(
    config: _ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder.")] = None,
) -> None:
    """Serve the web page and the HTTP interfaces alone."""
    web = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    overrides: dict[str, Any] = {"web": web}
    if model is not None:
        overrides["model"] = {"path": model.absolute()}
    _run(_only(_load(_existing(config), overrides, demo_model=model is None), "web"))


@app.command()
def chat(
    once: Annotated[str, typer.Option(help="Ask this, print the answer, end.")] = "",
    config: _ConfigOption = None,
    model: Annotated[Path | None, typer.Option(help="Model folder.")] = None,
) -> None:
    """Chat in this terminal."""
    overrides: dict[str, Any] = {"console": {"once": once}}
    if model is not None:
        overrides["model"] = {"path": model.absolute()}
    if once:
        overrides["log"] = {"level": "WARNING"}
    configuration = _only(_load(_existing(config), overrides, demo_model=model is None), "console")
    # Who sits here sees for themselves that a slow machine takes its time.
    logging.getLogger("glmbot.watchdog").setLevel(logging.ERROR)
    with _own_store(configuration, forgetful=bool(once)) as store:
        _run(replace(configuration, store=store))


@contextmanager
def _own_store(configuration: Configuration, *, forgetful: bool) -> Generator[StoreSection]:
    """A single question is remembered by nobody. A chat beside a bot that runs keeps a file of its own."""
    from glmbot.store.sqlite_connection import has_owner

    section = configuration.store
    if forgetful:
        with TemporaryDirectory(prefix="glmbot-") as folder:
            path = Path(folder) / "once.sqlite3"
            yield section.model_copy(update={"kind": "sqlite", "path": path, "journal_path": path})
        return
    if section.kind == "sqlite" and has_owner(section.path):
        beside = section.path.with_name(f"{section.path.stem}-chat{section.path.suffix}")
        logging.getLogger(__name__).info(
            "a bot answers from %s, so this chat is kept in %s", section.path, beside
        )
        section = section.model_copy(update={"path": beside})
    yield section


@app.command()
def pull(
    model: Annotated[str, typer.Argument(help="A model on the Hugging Face hub, owner/name.")] = "",
    home: Annotated[Path, typer.Option(help="Where the model goes.")] = Path(".glmbot"),
    force: Annotated[bool, typer.Option("--force", help="Get the demo model again.")] = False,
) -> None:
    """Get a model from the hub. Without a name it is the demo model, SmolLM2-135M-Instruct (about 94 MB)."""
    if not model:
        STDERR.print(f"The demo model is in {_demo_model(home, force=force)}", soft_wrap=True)
        return
    _import("glmbot.models.hub")
    from glmbot.models.hub import pull_model

    folder = pull_model(model, home.resolve() / "models" / model.rpartition("/")[2])
    STDERR.print(
        f'{model} is in {folder}\nPut it into the configuration: [model] path = "{folder}"', markup=False
    )


@app.command()
def models(
    context: Annotated[int, typer.Option(help="Tokens of KV cache to count.")] = 2048,
    model: Annotated[Path | None, typer.Option(help="Count this model folder instead.")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Load this model folder, compare it with its own code, and time it.")
    ] = None,
    precision: Annotated[str, typer.Option(help="For --check: fp32, fp16, bf16, int8 or int4.")] = "",
    language: Annotated[str, typer.Option(help="For --check: en or zh; else that of this terminal.")] = "",
) -> None:
    """Say which models fit here. Lists those that this is made for, with their memory at each precision."""
    if check is not None:
        _check_model(check, precision, language)
        return
    from rich.table import Table

    _import("glmbot.memory")
    from glmbot.memory import card_outlooks, machine_memory, memory_of_cards, model_memory, suggestions

    place, free = machine_memory()
    table = Table(
        title=f"Memory in GB with {context} tokens of KV cache; {free / 1e9:.1f} GB free on {place}"
    )
    rows = model_memory(context, model)
    for heading in ("model", "classes", *rows[0].needs):
        table.add_column(heading, justify="left" if heading in ("model", "classes") else "right")
    for row in rows:
        cells = [
            f"[{'green' if need <= free else 'red'}]{need / 1e9:.1f}{'' if need <= free else ' ✗'}[/]"
            for need in row.needs.values()
        ]
        table.add_row(row.name, row.made_by, *cells)
    Console().print(table)
    typer.echo("✗ does not fit here. `glmbot pull OWNER/NAME` gets a model where there is a network.")
    for line in card_outlooks(rows):
        typer.echo(for_terminal(line))
    if model is None:
        for each in memory_of_cards(context):
            typer.echo(
                f"{each.name} at {each.precision}, shared by {each.cards} cards of {each.card_gib} GB: weights"
                f" {each.weights / 1e9:.1f} + cache {each.cache / 1e9:.1f} + a widened layer"
                f" {each.working / 1e9:.1f} = {each.need / 1e9:.1f} GB of {each.room / 1e9:.1f} on each"
            )
    if model is None and (suggested := suggestions(rows, free)):
        typer.echo("Everyday models for this machine, the best first:")
        for row, precision in suggested:
            typer.echo(f"  glmbot pull {row.name}    # {row.speaks}, at {precision}")


def _check_model(folder: Path, precision: str, language: str) -> None:
    from glmbot import i18n

    _import("glmbot.model_check")
    from glmbot.model_check import check_model

    spoken = i18n.choose_language(language, *(os.environ.get(name, "") for name in _LOCALES))
    well, lines = check_model(folder, precision, spoken)
    for line in lines:
        typer.echo(for_terminal(line))
    if not well:
        raise typer.Exit(1)


@app.command()
def check(config: Annotated[Path, typer.Argument(help="Configuration file.")] = _CONFIG) -> None:
    """Say what is wrong with the configuration. Nothing is started."""
    configuration = _load(config)
    _import("glmbot.models.registry")
    from glmbot.preflight import complaints

    if found := complaints(configuration):
        raise ConfigError("\n".join([f"{config}:", *found]))
    names = ", ".join(configuration.adapters) or "none yet"
    STDERR.print(f"{config}: in order. Platforms: {names}", style="green", markup=False, soft_wrap=True)


@app.command()
def doctor(config: _ConfigOption = None) -> None:
    """Examine model, store, tokens and memory. Says how to mend what is wrong."""
    _import("glmbot.doctor")
    from glmbot.doctor import examine

    findings = asyncio.run(examine(_load(_existing(config))))
    for finding in findings:
        mark, style = ("ok  ", "green") if finding.ok else ("FAIL", "red")
        STDERR.print(f"{mark} {finding.part}: {finding.words}", style=style, markup=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def plugins(config: _ConfigOption = None) -> None:
    """List the plug-ins. Says what each has registered, and why one was left out."""
    from glmbot.app import plugins_for

    for plugin in plugins_for(_load(_existing(config)), quiet=True).found:
        source = f" ({plugin.source})" if plugin.source else ""
        typer.echo(for_terminal(f"{plugin.name}{source}"))
        lines = [f"left out: {plugin.trouble}"] if plugin.trouble else plugin.registered
        for line in [*(lines or ["registered nothing"]), *plugin.notes]:
            typer.echo(for_terminal(f"  {line}"))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = _CONFIG,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example of everything, with comments.")
    ] = False,
    language: Annotated[str, typer.Option(help="en or zh; else that of this terminal.")] = "",
) -> None:
    """Ask a few questions and write a configuration."""
    from glmbot import i18n
    from glmbot.app import adapter_settings
    from glmbot.config_example import example_toml

    spoken = i18n.choose_language(language, *(os.environ.get(name, "") for name in _LOCALES))
    if example:
        typer.echo(example_toml(adapter_settings(), spoken), nl=False)
        return
    from glmbot.setup import ask_configuration
    from glmbot.setup_checks import Network

    _refuse_unwritable(path)
    terminal = _Terminal(i18n.text(spoken, "setup.yes_or_no"))
    if path.exists() and not terminal.confirm(i18n.text(spoken, "setup.replace", file=path), default=False):
        raise typer.Exit(1)
    answers = ask_configuration(terminal, Network(), path, spoken)
    for file, secret in answers.secrets.items():
        _write_private(path.parent / file, secret)
    _write_private(path, answers.toml)
    _load(path)
    STDERR.print(i18n.text(spoken, "setup.wrote", file=path), style="green", markup=False, soft_wrap=True)
    if which("glmbot") is None:
        STDERR.print(i18n.text(spoken, "setup.program", program=_program()), markup=False, soft_wrap=True)
    for line in answers.next_steps:
        STDERR.print(line, markup=False, soft_wrap=True)


def _program() -> str:
    """What was typed to start this, as far as that is known."""
    started = Path(sys.argv[0])
    return f"{sys.executable} -m glmbot" if started.name == "__main__.py" else str(started)


_LOCALES = ("LC_ALL", "LC_MESSAGES", "LANG")
_YES_OR_NO = {"y": True, "yes": True, "是": True, "n": False, "no": False, "否": False}


class _Terminal:
    """See `glmbot.setup.Terminal`."""

    def __init__(self, neither: str) -> None:
        self._neither = neither

    def ask(self, question: str, default: str = "", *, hidden: bool = False) -> str:
        return str(typer.prompt(question, default=default, hide_input=hidden, show_default=bool(default)))

    def confirm(self, question: str, *, default: bool) -> bool:
        while True:
            answer = str(typer.prompt(f"{question} [{'Y/n' if default else 'y/N'}]", "", show_default=False))
            if answer.strip().lower() in _YES_OR_NO:
                return _YES_OR_NO[answer.strip().lower()]
            if not answer.strip():
                return default
            self.say(self._neither)

    def say(self, words: str) -> None:
        typer.echo(words)


def _refuse_unwritable(path: Path) -> None:
    """Before all questions, not after them."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.absolute().parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path} can't be written: {path.absolute().parent} does not let us")


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, "utf-8")


def _run(configuration: Configuration, read_again: Callable[[], Configuration] | None = None) -> None:
    from glmbot.app import run as run_app

    with _progress() as bar:
        task = bar.add_task("loading the model", total=1.0)

        def loaded(share: float) -> None:
            bar.update(task, completed=share)
            if share >= 1:
                bar.stop()

        asyncio.run(run_app(configuration, loaded, read_again))


@contextmanager
def _progress() -> Generator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn())
    with Progress(*columns, console=STDERR, transient=True, disable=not STDERR.is_terminal) as bar:
        yield bar


def _load(
    path: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None, *, demo_model: bool = False
) -> Configuration:
    if not logging.getLogger().handlers:
        set_up_logging("INFO", ())
    configuration = _read(path, overrides)
    set_up_logging(configuration.log.level, secrets_in(configuration), configuration.log.format)
    if demo_model and path is None and not configuration.model.path.exists():
        _demo_model(configuration.model.path.parents[1])
    return configuration


def _read(path: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Configuration:
    from glmbot.app import read_configuration

    return read_configuration(path, overrides)


def _only(configuration: Configuration, adapter: str) -> Configuration:
    return replace(configuration, adapters={adapter: configuration.adapters[adapter]})


def _existing(config: Path | None) -> Path | None:
    """The file named, or config.toml when there is one, or none: the defaults."""
    return config if config is not None else (_CONFIG if _CONFIG.is_file() else None)


def _demo_model(home: Path, *, force: bool = False) -> Path:
    from glmbot.models.demo import NAME, is_complete, pull_demo_model

    folder = home.resolve() / "models" / NAME
    if is_complete(folder) and not force:
        return folder
    words = {
        "download": "Getting the demo model, SmolLM2-135M-Instruct (about 94 MB) …",
        "check": "Checking it …",
        "convert": "Unpacking its weights (half a minute) …",
    }
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=STDERR, transient=True, disable=not STDERR.is_terminal) as bar:
        task = bar.add_task("checking", total=None, visible=False)

        def step(name: str) -> None:
            STDERR.print(words[name])
            bar.update(task, visible=name == "check")

        def checked(done: int, size: int) -> None:
            bar.update(task, completed=done, total=size)

        try:
            pull_demo_model(folder, step, checked)
        except OSError as error:
            raise ConfigError(f"{folder}: {error}") from error
    return folder


app.add_typer(store_commands(lambda config: _load(_existing(config))))
