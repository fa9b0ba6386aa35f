"""Tools, resources and prompts of servers that speak the Model Context Protocol (https://modelcontextprotocol.io),
through its official SDK."""

from __future__ import annotations

from importlib import import_module

from glmbot.host import Host
from glmbot_mcp.settings import FromPage, Settings

__all__ = ["register"]


def register(host: Host) -> None:
    """Raises ValueError where there are servers, and nothing to talk to them with."""
    settings = host.settings(Settings)
    if not settings.servers and settings.from_page is FromPage.NOTHING:
        return
    try:
        import_module("mcp")
    except ModuleNotFoundError as error:
        raise ValueError("its servers need the package mcp: pip install 'glmbot[mcp]'") from error
    # The SDK takes a second to load, which is nothing for those who have no servers.
    from glmbot_mcp.panel import ServersPanel
    from glmbot_mcp.servers import register_servers

    host.panel("mcp", ServersPanel(settings, register_servers(host, settings)))
