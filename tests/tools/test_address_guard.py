"""No trick with an address, a name or a redirect reaches what is not public; what may be read is bounded."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from glmbot.http.address_guard import AddressGuard, AddressRefused, is_public
from glmbot_tools.fetching import Fetcher, FetchFailed
from tools.inside import OPEN, Inside, serving

# {port} is the one where the secret is.
TRICKS = [
    # As they are.
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://127.0.0.2:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://10.0.0.5/",
    "http://172.31.255.255/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://192.0.0.192/opc/v2/instance/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[ff02::1]/",
    # In other digits.
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.000.000.001:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://𝟙𝟚𝟟.0.0.1:{port}/",
    "http://%31%32%37.0.0.1:{port}/",
    # An IPv4 address within an IPv6 one.
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[2606:4700::5efe:127.0.0.1]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[0:0:0:0:0:0:0:1]:{port}/",
    # Names.
    "http://inside.example:{port}/",
    "http://inside6.example:{port}/",
    "http://mapped.example:{port}/",
    "http://both.example:{port}/",
    "http://metadata.example/",
    "http://nat64.example:{port}/",
    "http://nobody.example:{port}/",
    # Somebody else's place.
    "http://open.example:{port}@127.0.0.1:{port}/",
    "http://user:password@127.0.0.1:{port}/",
    "http://user@open.example:{port}/",
    "http://@open.example:{port}/",
    "http://127.0.0.1:{port}\\@open.example/",
    "http://open.example\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@open.example/",
    "http://open.example:{port}\t@127.0.0.1/",
    "http://open.example%00.127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    # Other doors.
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET%20/",
    "data:text/html,secret",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "http://open.example:22/",
    "http://open.example:6379/",
    "http://open.example:99999/",
    # By a page that may be read.
    "http://open.example:{port}/to-inside",
    "http://open.example:{port}/to-name",
    "http://open.example:{port}/to-decimal",
    "http://open.example:{port}/to-mapped",
    "http://open.example:{port}/to-slashes",
    "http://open.example:{port}/to-backslashes",
    "http://open.example:{port}/to-user",
    "http://open.example:{port}/to-file",
    "http://open.example:{port}/to-step",
    "http://open.example:{port}/to-itself",
    "http://open.example:{port}/to-rebound",
    "http://open.example:{port}/to-metadata",
    "http://open.example:{port}/to-nowhere",
]  # fmt: skip


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    async with serving() as made:
        made.names |= {
            "localhost": ["127.0.0.1"],
            "localhost.": ["127.0.0.1"],
            "inside.example": ["127.0.0.1"],
            "inside6.example": ["::1"],
            "mapped.example": ["::ffff:127.0.0.1"],
            "both.example": [OPEN, "127.0.0.1"],
            "metadata.example": ["169.254.169.254"],
            "nat64.example": ["64:ff9b::7f00:1"],
            "rebound.example": [OPEN, "then", "127.0.0.1"],
        }
        port = made.port
        for path, location in {
            "/to-inside": f"http://127.0.0.1:{port}/",
            "/to-name": f"http://inside.example:{port}/",
            "/to-decimal": f"http://2130706433:{port}/",
            "/to-mapped": f"http://[::ffff:127.0.0.1]:{port}/",
            "/to-slashes": f"//127.0.0.1:{port}/",
            "/to-backslashes": f"\\\\127.0.0.1:{port}/",
            "/to-user": f"http://open.example@127.0.0.1:{port}/",
            "/to-file": "file:///etc/passwd",
            "/to-step": "/to-inside",
            "/to-itself": "/to-itself",
            "/to-rebound": f"http://rebound.example:{port}/again",
            "/to-metadata": "http://169.254.169.254/",
            "/to-nowhere": "",
        }.items():
            made.pages[path] = web.Response(status=302, headers={"Location": location})
        made.pages["/again"] = web.Response(
            status=307, headers={"Location": f"http://rebound.example:{port}/"}
        )
        yield made


async def test_no_trick_gets_through(inside: Inside) -> None:
    assert len(TRICKS) == len(set(TRICKS)) >= 40
    fetcher = Fetcher(inside.guard(), timeout_s=5)
    through: list[str] = []
    for trick in TRICKS:
        # A page is one response, and each is sent once.
        for page in list(inside.pages):
            inside.pages[page] = web.Response(status=302, headers=inside.pages[page].headers)
        inside.names["rebound.example"] = [OPEN, "then", "127.0.0.1"]
        try:
            await fetcher.get("ann", trick.format(port=inside.port), "*/*")
        except FetchFailed:
            continue
        through.append(trick)
    assert through == []
    assert inside.reached == []


async def test_what_is_connected_to_is_what_was_looked_up_and_checked(inside: Inside) -> None:
    fetched = await Fetcher(inside.guard()).get(
        "ann", f"http://rebound.example:{inside.port}/x#part", "text/html"
    )
    assert fetched.body == b"a page that may be read"
    assert fetched.kind == "text/plain"
    assert fetched.url.endswith("/x")
    assert inside.looked_up == ["rebound.example"]
    assert inside.reached == []


async def test_nothing_of_this_machine_goes_along(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{inside.port}")
    inside.pages["/"] = web.Response(
        status=302, headers={"Location": "/second", "Set-Cookie": "name=value; Path=/"}
    )
    await Fetcher(inside.guard()).get("ann", f"http://open.example:{inside.port}/", "text/html")
    assert inside.reached == []
    (_, second) = inside.asked
    assert "Cookie" not in second.headers
    assert "Referer" not in second.headers
    assert "Authorization" not in second.headers


@pytest.mark.parametrize("packed", ["gzip", "deflate", "br", ""])
async def test_a_page_is_read_up_to_its_bound_also_when_it_is_unpacked(inside: Inside, packed: str) -> None:
    large = b"x" * 3_000_000
    body = {"gzip": gzip.compress, "deflate": zlib.compress}.get(packed, bytes)(large)
    inside.pages["/large"] = web.Response(
        body=body, headers={"Content-Encoding": packed} if packed else {}, content_type="text/plain"
    )
    with pytest.raises(
        FetchFailed, match="more than 1,000,000 bytes" if packed != "br" else "packed in a way"
    ):
        await Fetcher(inside.guard(), most_bytes=1_000_000).get(
            "ann", f"http://open.example:{inside.port}/large", "*/*"
        )


async def test_a_packed_page_is_unpacked(inside: Inside) -> None:
    inside.pages["/small"] = web.Response(
        body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"}, content_type="text/plain"
    )
    fetched = await Fetcher(inside.guard()).get("ann", f"http://open.example:{inside.port}/small", "*/*")
    assert fetched.body == b"hello"


async def test_a_server_that_says_nothing_is_left(inside: Inside) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()

    server = await asyncio.start_server(silent, OPEN, 0)
    port = server.sockets[0].getsockname()[1]
    guard = AddressGuard(ports={port}, allowed=inside.guard().allowed, lookup=inside.lookup)
    with pytest.raises(FetchFailed, match="no whole answer"):
        await Fetcher(guard, timeout_s=0.2).get("ann", f"http://open.example:{port}/", "*/*")
    server.close()


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001:82f::200e"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses())
def test_what_the_standard_library_takes_for_private_is_never_public(
    address: IPv4Address | IPv6Address,
) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast


def test_this_machine_is_not_public_whatever_its_address() -> None:
    guard = AddressGuard(own=lambda: {"93.184.216.34"})
    with pytest.raises(AddressRefused, match="not public"):
        guard.url("http://93.184.216.34/")
    assert str(guard.url("http://1.1.1.1/")) == "http://1.1.1.1/"
