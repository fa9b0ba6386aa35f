"""Other names of this server, and other sites' pages that may call it (CORS)."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from pydantic import SecretStr, ValidationError

from adapters.web_site import ScriptedDialogue, scripted_site
from glmbot_web.settings import WebSettings

FRIEND, STRANGER = "https://chat.example.org", "https://evil.example"
BODY = {"messages": [{"role": "user", "content": "hi"}]}
TOKEN = "a long enough token of the operator's"
ASKS_FIRST = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize(("origin", "welcome"), [(FRIEND, True), (STRANGER, False), ("null", False)])
async def test_pages_of_named_sites_may_call_the_interfaces_for_programs(origin: str, welcome: bool) -> None:
    settings: dict[str, Any] = {"allowed_origins": [FRIEND], "token": SecretStr(TOKEN)}
    login = {"Authorization": f"Bearer {TOKEN}", "Origin": origin}
    async with scripted_site(ScriptedDialogue(), **settings) as site, aiohttp.ClientSession() as session:
        url = f"{site.url}/v1/chat/completions"
        asked = await session.options(url, headers={"Origin": origin, **ASKS_FIRST})
        assert asked.status == (204 if welcome else 403)
        if not welcome:
            assert "[web] allowed_origins" in await asked.text()
        for body in (BODY, {**BODY, "stream": True}):
            answer = await session.post(url, json=body, headers=login)
            assert answer.status == (200 if welcome else 403)
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if welcome else None)
            await answer.read()
        # A refusal can be read too.
        refused = await session.post(url, json=BODY, headers={"Origin": origin})
        assert refused.status == (401 if welcome else 403)
        assert ("Access-Control-Allow-Origin" in refused.headers) is welcome
        # The page's own interface, which goes by cookies, is for the page alone.
        for path in ("/api/messages", "/api/login", "/api/admin/command"):
            answer = await session.post(site.url + path, json={}, headers=login)
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert (await session.options(site.url + path, headers={**login, **ASKS_FIRST})).status == 403


async def test_other_names_of_this_server_are_answered_when_they_are_named() -> None:
    named = "host.docker.internal"
    async with (
        scripted_site(ScriptedDialogue(), allowed_hosts=[named]) as site,
        aiohttp.ClientSession() as session,
    ):
        for host, status in ((f"{named}:8080", 200), (named.upper(), 200), ("evil.example", 403)):
            answer = await session.get(f"{site.url}/healthz", headers={"Host": host})
            assert answer.status == status
        assert "[web] allowed_hosts" in await answer.text()


@pytest.mark.parametrize(
    "origin",
    ["*", "chat.example.org", "https://chat.example.org/", "https://Chat.example.org", "ftp://x", "null"],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="an origin is"):
        WebSettings(allowed_origins=[origin])


@pytest.mark.parametrize("host", ["*", "a:80", "https://a", "A", ""])
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="a host is"):
        WebSettings(allowed_hosts=[host])
