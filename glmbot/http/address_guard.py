"""Which addresses a tool may reach: public ones, whatever name or redirect leads to them.

People and pages choose the addresses that are read, from inside the operator's network. So a URL is checked as it
is written, its host is looked up here, each address that comes of that is checked, and the connection goes to one
of these very addresses: a name that answers differently the second time gains nothing. What each range is stands
in IANA's special-purpose registries (RFC 6890); IPv6 has one range of public addresses (RFC 4291, 2.5.4), and
within it some that carry an IPv4 address, which a gateway would unpack.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import psutil
from yarl import URL

__all__ = ["Address", "AddressGuard", "AddressRefused", "Network", "is_public"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a host. Raises OSError."""

_LONGEST_URL = 2000
_LONGEST_HOST = 253
_MOST_ADDRESSES = 32
_PORTS = {"http": 80, "https": 443}
_NOT_PUBLIC_4 = [
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' own, and Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's machines ask it about themselves
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",  # Oracle's metadata, too
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
]
_PUBLIC_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    IPv6Network(each)
    for each in (
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",
    )
]
# The second half of an ISATAP address ends in an IPv4 one (RFC 5214, 6.1).
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
_AUTHORITY_END = re.compile("[/?#]")
# A name server that is slow to answer keeps these busy, and nobody else's threads.
_lookups = ThreadPoolExecutor(4, "glmbot-lookup")


class AddressRefused(ValueError):
    """Its words say why, and are for whoever chose the address."""


def is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or address not in _PUBLIC_6:
        return False
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return False
    return not any(address in network for network in _NOT_PUBLIC_6)


async def _looked_up(host: str, port: int) -> Sequence[str]:
    def found() -> list[str]:
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

    return await asyncio.get_running_loop().run_in_executor(_lookups, found)


def _own() -> AbstractSet[str]:
    """This machine's addresses: what listens on a public one may still be meant for neighbours only."""
    return {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}


@dataclass(frozen=True)
class AddressGuard:
    """`allowed`: networks that the operator opens though they are not public. `ports`: those that may be asked.

    `server`: a host that the operator names: it may be anywhere, and no other one is asked.
    """

    ports: AbstractSet[int] = frozenset(_PORTS.values())
    allowed: Sequence[Network] = ()
    server: str = ""
    lookup: Lookup = _looked_up
    own: Callable[[], AbstractSet[str]] = _own

    @classmethod
    def of_server(cls, address: str) -> AddressGuard:
        """For the operator's own server alone. Raises ValueError for what is no address of one."""
        url = URL(address)
        if url.raw_host is None or url.port is None:
            raise ValueError(f"{address[:80]!r} is no address of a server")
        return cls(ports=frozenset({url.port}), server=url.raw_host)

    def url(self, written: str | URL) -> URL:
        """As it will be asked for, without its fragment. Raises AddressRefused."""
        text = str(written)
        if not text or len(text) > _LONGEST_URL:
            raise AddressRefused(f"an address has 1 to {_LONGEST_URL:,} characters")
        if any(char <= " " or char in '\\<>"`\x7f' for char in text):
            raise AddressRefused(
                "an address has no spaces, backslashes, brackets or quotes; write %20 for a space"
            )
        try:
            url = URL(text)
            host, port = url.raw_host, url.port
        except (ValueError, UnicodeError) as error:
            raise AddressRefused("this is no address of a page") from error
        if url.scheme not in _PORTS or not host or port is None:
            raise AddressRefused("only addresses that begin with http:// or https:// can be read")
        if "@" in _AUTHORITY_END.split(text.partition("//")[2], maxsplit=1)[0]:
            raise AddressRefused("an address may hold no name and password")
        self.check_host(host, port)
        return url.with_fragment(None)

    def check_host(self, host: str, port: int) -> None:
        """As it is written, before it is looked up. Raises AddressRefused."""
        if port not in self.ports:
            raise AddressRefused(
                f"port {port} may not be asked; these may: {', '.join(map(str, sorted(self.ports)))}"
            )
        if self.server:
            if host != self.server:
                raise AddressRefused(f"{host[:80]!r} is another host than {self.server}")
            return
        literal = _literal(host)
        if literal is not None:
            self.check_address(str(literal), host)
            return
        labels = host.removesuffix(".").split(".")
        if len(host) > _LONGEST_HOST or not all(_is_label(label) for label in labels):
            raise AddressRefused(f"{host[:80]!r} is no name of a host")
        # By the URL standard such a host is an IPv4 address, and libraries differ in which.
        if labels[-1][:1].isdigit():
            raise AddressRefused(f"{host[:80]!r} is an address in numbers; write it as 192.0.2.1")

    def check_address(self, written: str, host: str = "") -> None:
        """Raises AddressRefused."""
        try:
            address = ip_address(written)
        except ValueError as error:
            raise AddressRefused(f"{host or written} has no address that can be read") from error
        if self.server or any(address in network for network in self.allowed):
            return
        if not is_public(address) or written in self.own():
            raise AddressRefused(f"{host or written} is not public; only public addresses may be read")

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """Those to connect to. Raises AddressRefused, also where only one of several is not public."""
        self.check_host(host, port)
        if (literal := _literal(host)) is not None:
            return [str(literal)]
        try:
            found = await self.lookup(host, port)
        except (OSError, UnicodeError) as error:
            raise AddressRefused(f"there is no host {host}") from error
        if not found:
            raise AddressRefused(f"there is no host {host}")
        for each in found[:_MOST_ADDRESSES]:
            self.check_address(each, host)
        return list(dict.fromkeys(found[:_MOST_ADDRESSES]))

    @staticmethod
    def networks(written: Sequence[str]) -> Sequence[Network]:
        """Raises ValueError."""
        return [ip_network(each) for each in written]


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _is_label(label: str) -> bool:
    plain = label.replace("-", "").replace("_", "")
    return 0 < len(label) <= 63 and plain.isascii() and plain.isalnum() and not label.startswith("-")
