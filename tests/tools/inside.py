"""A server that must not be reached, at 127.0.0.1, and one that may be, at 127.0.0.77 and the same port."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network

from aiohttp import web

from glmbot.http.address_guard import AddressGuard

__all__ = ["OPEN", "Inside", "serving"]

OPEN = "127.0.0.77"


@dataclass
class Inside:
    port: int
    names: dict[str, list[str]] = field(default_factory=dict)
    """What the name server says, once for each of the addresses in turn if there is a "then" between them."""
    pages: dict[str, web.Response] = field(default_factory=dict)
    reached: list[str] = field(default_factory=list)
    """What was asked of the server that must not be reached."""
    asked: list[web.Request] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        self.looked_up.append(host)
        if host in self.names:
            said = self.names[host]
            if "then" in said:
                at = said.index("then")
                self.names[host] = said[at + 1 :]
                return said[:at]
            return said
        try:
            # As the C library reads "0x7f.1", "017700000001" and "2130706433".
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            raise socket.gaierror(-2, "Name or service not known") from None

    def guard(self) -> AddressGuard:
        return AddressGuard(
            ports=frozenset({80, 443, self.port}),
            allowed=[ip_network(f"{OPEN}/32")],
            lookup=self.lookup,
        )


@asynccontextmanager
async def serving() -> AsyncGenerator[Inside]:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        address = request.transport.get_extra_info("sockname")[0]
        if address != OPEN:
            inside.reached.append(str(request.url))
            return web.Response(text="the secret")
        inside.asked.append(request)
        page = inside.pages.get(request.path)
        if page is None:
            return web.Response(text="a page that may be read")
        return page

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    inside = Inside(await _bound(runner), {"open.example": [OPEN]})
    try:
        yield inside
    finally:
        await runner.cleanup()


async def _bound(runner: web.AppRunner) -> int:
    """The port, which is free at all addresses."""
    hosts = ["127.0.0.1", OPEN] + (["::1"] if socket.has_dualstack_ipv6() else [])
    for _ in range(20):
        with ExitStack() as rest:
            taken = [rest.enter_context(socket.socket(_family(host))) for host in hosts]
            try:
                taken[0].bind((hosts[0], 0))
                port = taken[0].getsockname()[1]
                for host, each in zip(hosts[1:], taken[1:], strict=True):
                    each.bind((host, port))
            except OSError:
                continue
            for each in taken:
                await web.SockSite(runner, each.dup()).start()
            return port
    raise AssertionError("no port is free at all addresses")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
