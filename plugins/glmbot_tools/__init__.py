"""Tools that come with the bot. Each is left out where its library is missing, and `glmbot plugins` says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec

from glmbot.host import Host, Tool
from glmbot_tools.settings import Settings
from glmbot_tools.words import EN, ZH

__all__ = ["register"]

_INSTALL = "pip install 'glmbot[tools]'"


def register(host: Host) -> None:
    settings = host.settings(Settings)
    host.words(en=EN, zh=ZH)
    offered: dict[str, tuple[str, Callable[[Settings], Iterable[Tool]]]] = {
        "current_time": ("", _clock),
        "calculate": ("", _calculator),
        "convert_units": ("pint", _units),
        "python": ("pydantic_monty", _python),
        "web_read": ("trafilatura", _reading),
        "web_search": ("" if settings.searxng else "ddgs", _searching),
    }
    known: set[str] = set()
    for name, (library, tools) in offered.items():
        known.add(name)
        if name in settings.leave_out:
            continue
        if library and find_spec(library) is None:
            host.note(f"without {name}: {library} is not installed ({_INSTALL})")
            continue
        for tool in tools(settings):
            known.add(tool.name)
            if tool.name not in settings.leave_out:
                host.tool(tool)
    known |= _reminding(host, settings) | _polling(host, settings)
    if unknown := sorted(set(settings.leave_out) - known):
        raise ValueError(
            f"leave_out names {unknown[0][:40]!r}, and there are these: {', '.join(sorted(known))}"
        )


def _clock(_: Settings) -> Iterable[Tool]:
    from glmbot_tools.clock import difference_tool, time_tool

    return time_tool(), difference_tool()


def _calculator(_: Settings) -> Iterable[Tool]:
    from glmbot_tools.calculator import TOOL

    return (TOOL,)


def _units(_: Settings) -> Iterable[Tool]:
    from glmbot_tools.units import TOOL

    return (TOOL,)


def _python(settings: Settings) -> Iterable[Tool]:
    from glmbot_tools.python import python_tool
    from glmbot_tools.worker import Workers

    return (python_tool(Workers(), settings.python_s, settings.python_bytes),)


def _reading(settings: Settings) -> Iterable[Tool]:
    from glmbot.http.address_guard import AddressGuard
    from glmbot_tools.fetching import Fetcher
    from glmbot_tools.pages import read_tool
    from glmbot_tools.worker import Workers

    guard = AddressGuard(frozenset(settings.ports), AddressGuard.networks(settings.allowed_networks))
    fetcher = Fetcher(guard, timeout_s=settings.web_timeout_s, most_bytes=settings.page_bytes)
    return (read_tool(fetcher, Workers(), settings.page_characters, settings.web_timeout_s),)


def _reminding(host: Host, settings: Settings) -> set[str]:
    """All of it or nothing: what sets reminders, what cancels them, and what says them. Returns their names."""
    names = {"remind_me", "list_reminders", "cancel_reminder"}
    if "remind_me" in settings.leave_out:
        return names
    if find_spec("apscheduler") is None:
        host.note(f"without remind_me: apscheduler is not installed ({_INSTALL})")
        return names
    from glmbot_tools.reminder_tools import reminder_tools, reminders_command
    from glmbot_tools.reminders import Reminders

    reminders = Reminders(
        host.log, per_person=settings.reminders_per_person, per_chat=settings.reminders_per_chat
    )
    for tool in reminder_tools(reminders):
        if tool.name not in settings.leave_out:
            host.tool(tool)
    host.command(reminders_command(reminders))
    host.background("reminders", reminders)
    return names


def _polling(host: Host, settings: Settings) -> set[str]:
    """Returns its name."""
    from glmbot_tools.poll_tools import poll_command, poll_tool
    from glmbot_tools.polls import Polls

    if "start_poll" not in settings.leave_out:
        polls = Polls(host.log)
        host.tool(poll_tool(polls))
        host.command(poll_command(polls))
    return {"start_poll"}


def _searching(settings: Settings) -> Iterable[Tool]:
    from glmbot.http.address_guard import AddressGuard
    from glmbot_tools.fetching import Fetcher
    from glmbot_tools.search import ddgs_search, search_tool, searxng_search
    from glmbot_tools.worker import Workers

    most, timeout_s = settings.search_results, settings.web_timeout_s
    if settings.searxng:
        guard = AddressGuard.of_server(settings.searxng)
        fetcher = Fetcher(guard, timeout_s=timeout_s, most_bytes=settings.page_bytes)
        return (search_tool(searxng_search(fetcher, settings.searxng), most, timeout_s + 5),)
    return (search_tool(ddgs_search(AddressGuard(), Workers(), timeout_s), most, timeout_s + 15),)
