"""Who is at the other end of a connection: the address, and what a trusted proxy says of whom it speaks for."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from aiohttp import web

__all__ = ["Peers", "check_network", "is_loopback"]

_FORWARDED = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Via", "X-Forwarded-Host")
# What one household or one server is given; each of its addresses is free to choose.
_IPV6_PREFIX = 64


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_network(text: str) -> str:
    """Raises ValueError for what is no address and no network."""
    ipaddress.ip_network(text, strict=False)
    return text


class Peers:
    def __init__(self, trusted_proxies: Sequence[str], key: bytes) -> None:
        """key: makes hashed addresses unreadable; the same in all processes, so that they count together."""
        self._trusted: list[IPv4Network | IPv6Network] = [
            ipaddress.ip_network(text, strict=False) for text in trusted_proxies
        ]
        self._key = hashlib.sha256(b"glmbot source " + key).digest()

    def address(self, request: web.Request) -> str:
        """The client's address, of IPv6 the network. What a client says of itself does not count: of
        X-Forwarded-For the last entry that no trusted proxy of ours stands for."""
        peer = _parsed(request.remote or "")
        if peer is None:
            return ""
        entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        while entries and self._is_trusted(peer):
            said = _parsed(entries.pop().strip())
            if said is None:
                break
            peer = said
        if isinstance(peer, IPv6Address):
            return str(ipaddress.ip_network((peer, _IPV6_PREFIX), strict=False))
        return str(peer)

    def source(self, request: web.Request, *credentials: str) -> str:
        """The address and the credentials as a name that tells neither."""
        words = "\0".join((self.address(request), *credentials))
        return hmac.new(self._key, words.encode(), hashlib.sha256).hexdigest()[:24]

    def is_https(self, request: web.Request) -> bool:
        """Whether the browser speaks https, by the word of a trusted proxy or of one on this machine."""
        if request.secure:
            return True
        peer = _parsed(request.remote or "")
        near = peer is not None and (peer.is_loopback or self._is_trusted(peer))
        said = request.headers.get("X-Forwarded-Proto", "").rpartition(",")[2]
        return near and said.strip().lower() == "https"

    def unknown_proxy(self, request: web.Request) -> bool:
        """Whether one that is not trusted says that it speaks for somebody else."""
        peer = _parsed(request.remote or "")
        trusted = peer is not None and self._is_trusted(peer)
        return not trusted and any(name in request.headers for name in _FORWARDED)

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """ "[::1]:80" and "10.0.0.1:80", as some proxies write, are addresses too."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
