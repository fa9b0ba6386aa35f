"""How it is said that nobody was reached."""

from __future__ import annotations

import errno
import socket

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from glmbot.errors import outage

KEY = ConnectionKey("bot.example.org", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")),
            "Name or service not known",
        ),
        (
            aiohttp.ClientConnectorError(
                KEY, OSError(errno.ECONNREFUSED, "Connect call failed ('10.0.0.1', 443)")
            ),
            "Connection refused",
        ),
        (ConnectionResetError(errno.ECONNRESET, "secret in a library's words"), "Connection reset by peer"),
        (aiohttp.ServerTimeoutError("https://bot.example.org/secret"), "nothing came in time"),
        (aiohttp.ServerDisconnectedError("secret"), "ServerDisconnectedError"),
        (ValueError("secret"), "ValueError"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_an_outage_is_told_in_the_systems_words(error: Exception, words: str) -> None:
    assert outage(error) == words
