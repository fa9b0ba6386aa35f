"""Who may use the web interfaces, as what, and how slowly tokens are guessed."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import aiohttp
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from adapters.web_site import ScriptedDialogue, browser, scripted_site
from glmbot.errors import AdapterError
from glmbot.messages import Role
from glmbot.overview import LoggedCall
from glmbot_web.adapter import WebAdapter, WebSettings
from glmbot_web.attempts import Attempts, TooManyAttempts
from glmbot_web.guard import person_of
from glmbot_web.normalize import PLATFORM

CHAT, OPERATOR = "correct-horse-battery", "staple-of-the-operator"
TOKENS: dict[str, Any] = {"token": SecretStr(CHAT), "admin_token": SecretStr(OPERATOR)}


async def status(
    session: aiohttp.ClientSession, site: WebAdapter, method: str, path: str, **more: object
) -> int:
    async with session.request(method, site.url + path, **more) as answer:  # pyright: ignore[reportArgumentType]
        await answer.read()
        return answer.status


async def raw(site: WebAdapter, request: bytes) -> bytes:
    host, port = site.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 90)
    writer.close()
    return answer


# ---- the operator's commands ---------------------------------------------------------------------------------


async def test_a_command_of_the_operators_page_is_obeyed_once() -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue, admin=True) as site, browser() as session:
        await session.get(site.url)
        for number, text in enumerate(("/precision int8", "/dead drop 1"), 1):
            answer = await session.post(f"{site.url}/api/admin/command", json={"text": text})
            assert (await answer.json())["state"] == "final"
            assert [message.text for message in dialogue.answered].count(text) == 1
            assert len(dialogue.answered) == number
    assert [message.vouched for message in dialogue.answered] == [Role.ADMIN, Role.ADMIN]


OPERATORS_OWN = (
    ("GET", "/api/admin/tools"),
    ("GET", "/api/admin/tools/all"),
    ("GET", "/api/admin/panels/mcp"),
    ("POST", "/api/admin/panels/mcp"),
)


@pytest.mark.parametrize(("method", "path"), OPERATORS_OWN)
async def test_what_tools_did_and_tool_servers_are_the_operators_alone(method: str, path: str) -> None:
    dialogue = ScriptedDialogue(panels={"mcp": {"servers": []}})
    body: dict[str, Any] = {"json": {"do": "add"}} if method == "POST" else {}
    async with scripted_site(dialogue, **TOKENS) as site, browser() as session:
        for shown, expected in ((None, 401), (CHAT, 401), (OPERATOR, 200)):
            headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
            assert await status(session, site, method, path, headers=headers, **body) == expected
        if method == "POST":
            headers = {"Authorization": f"Bearer {OPERATOR}", "Origin": "https://evil.example"}
            assert await status(session, site, method, path, headers=headers, **body) == 403
            headers = {"Authorization": f"Bearer {OPERATOR}"}
            for strange in ({"data": "{}"}, {"json": []}, {"json": {"x": "y" * 70_000}}):
                assert await status(session, site, method, path, headers=headers, **strange) in (
                    400,
                    413,
                    415,
                )
            assert dialogue.wishes == [{"do": "add"}]


async def test_a_panel_that_can_not_be_shown_says_why() -> None:
    class Broken(ScriptedDialogue):
        async def panel(self, name: str) -> Mapping[str, Any] | None:
            raise ValueError(f"the plug-in {name} took too long")

    async with (
        scripted_site(Broken(), admin=True) as site,
        browser() as session,
        session.get(f"{site.url}/api/admin/panels/mcp") as answer,
    ):
        assert answer.status == 503
        assert (await answer.json())["error"]["message"] == "the plug-in mcp took too long"


async def test_the_log_of_tools_is_exported_as_lines_of_json() -> None:
    call = LoggedCall(1e9, "telegram:5", "telegram:5", "send", "abc", "done")
    async with scripted_site(ScriptedDialogue(called=[call]), admin=True) as site, browser() as session:
        async with session.get(f"{site.url}/api/admin/tools/all") as answer:
            assert "attachment" in answer.headers["Content-Disposition"]
            assert json.loads(await answer.text()) == asdict(call)
        async with session.get(f"{site.url}/api/admin/tools?matching=nothing") as answer:
            assert await answer.json() == {"calls": [], "before": ""}


# ---- two roles -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shown", "chat", "operator", "role"),
    [
        ({}, None, 200, 403, Role.USER),
        ({"admin": True}, None, 200, 200, Role.ADMIN),
        ({"token": SecretStr(CHAT)}, None, 401, 401, None),
        ({"token": SecretStr(CHAT)}, CHAT, 200, 403, Role.USER),
        ({"token": SecretStr(CHAT), "admin": True}, CHAT, 200, 403, Role.USER),
        ({"token": SecretStr(""), "admin": False}, None, 200, 403, Role.USER),
        ({"admin_token": SecretStr(OPERATOR)}, None, 200, 401, Role.USER),
        ({"admin_token": SecretStr(OPERATOR), "admin": True}, None, 200, 401, Role.USER),
        ({"admin_token": SecretStr(OPERATOR)}, OPERATOR, 200, 200, Role.ADMIN),
        (TOKENS, CHAT, 200, 401, Role.USER),
        (TOKENS, OPERATOR, 200, 200, Role.ADMIN),
        (TOKENS, "neither of them", 401, 401, None),
    ],
)
@pytest.mark.parametrize("way", ["bearer", "login"])
async def test_who_is_what(
    settings: Mapping[str, Any], shown: str | None, chat: int, operator: int, role: Role | None, way: str
) -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue, **settings) as site, browser() as session:
        await session.get(site.url)
        if shown and way == "login":
            answered = await status(session, site, "POST", "/api/login", json={"token": shown})
            assert answered == (401 if role is None else 200)
        elif shown:
            session.headers["Authorization"] = f"Bearer {shown}"
        assert await status(session, site, "GET", "/api/hello") == chat
        assert await status(session, site, "GET", "/api/admin/overview") == operator
        command = {"text": "/precision int8"}
        assert await status(session, site, "POST", "/api/admin/command", json=command) == operator
        ask = {"id": "question-1", "conversation": 5, "text": "/precision int8"}
        assert await status(session, site, "POST", "/api/messages", json=ask) == (202 if role else 401)
        assert {message.vouched for message in dialogue.accepted} == ({role} if role else set())


async def test_one_token_for_both_roles_is_refused_and_doctor_says_what_is_unwise() -> None:
    same = WebSettings(port=0, token=SecretStr(CHAT), admin_token=SecretStr(CHAT))
    with pytest.raises(AdapterError, match="the same"):
        async with scripted_site(token=SecretStr(CHAT), admin_token=SecretStr(CHAT)):
            pass
    advice = {
        "the same": same,
        "counts only without any token": WebSettings(token=SecretStr(CHAT), admin=True),
        "other machines": WebSettings(host="0.0.0.0"),
        "can be guessed": WebSettings(token=SecretStr("short")),
    }
    for words, settings in advice.items():
        assert [said for well, said in settings.advice() if not well and words in said], words
    assert all(
        well for well, _ in WebSettings(token=SecretStr(CHAT), admin_token=SecretStr(OPERATOR)).advice()
    )


async def test_who_logs_in_next_on_a_browser_is_another_person() -> None:
    async with scripted_site(**TOKENS) as site, browser() as session:
        await session.get(site.url)
        await session.post(f"{site.url}/api/login", json={"token": CHAT})
        assert await status(session, site, "GET", "/api/hello") == 200
        before = {cookie.key: cookie.value for cookie in session.cookie_jar}
        assert await status(session, site, "POST", "/api/logout") == 200
        assert [*session.cookie_jar] == []
        assert await status(session, site, "GET", "/api/hello") == 401
        await session.get(site.url)
        after = {cookie.key: cookie.value for cookie in session.cookie_jar}
        assert after.keys() == {"glmbot_session"}
        assert after["glmbot_session"] != before["glmbot_session"]


async def test_a_login_that_holds_no_longer_locks_nobody_out_of_an_open_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The operator has taken another token. The browser's own requests with the old login are no guesses of its
    person's: it is told to forget it."""

    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("glmbot_web.guard.asyncio.sleep", at_once)
    async with scripted_site(admin_token=SecretStr(OPERATOR)) as site, browser() as session:
        await session.get(site.url)
        session.cookie_jar.update_cookies({"glmbot_login": "of-the-token-of-yesterday"}, yarl.URL(site.url))
        seen = [await status(session, site, "GET", "/api/hello") for _ in range(30)]
        assert seen == [200] * 30
        assert {cookie.key for cookie in session.cookie_jar} == {"glmbot_session"}


# ---- cookies -------------------------------------------------------------------------------------------------


async def test_a_persons_id_does_not_tell_the_cookie() -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue) as site, browser() as session:
        await session.get(site.url)
        ask = {"id": "question-1", "conversation": 5, "text": "hello"}
        assert await status(session, site, "POST", "/api/messages", json=ask) == 202
        (cookie,) = session.cookie_jar
        (message,) = dialogue.accepted
        assert message.user.id == message.conversation.user == person_of(cookie.value)
        assert 0 < int(message.user.id) < 2**62
        assert len(cookie.value) > 30
        assert cookie.value not in repr(message)
    # A taken id is of no use as a cookie.
    assert person_of(message.user.id) != message.user.id


@given(st.text("0123456789", min_size=1, max_size=39))
def test_no_derived_number_can_be_taken_for_an_earlier_cookie(session: str) -> None:
    assert 0 < int(person_of(session)) < 2**62


@pytest.mark.parametrize(
    ("settings", "headers", "secure"),
    [
        ({}, {}, False),
        ({"trusted_proxies": ["127.0.0.1"]}, {"X-Forwarded-Proto": "http"}, False),
        ({"trusted_proxies": ["127.0.0.1"]}, {"X-Forwarded-Proto": "https"}, True),
        (TOKENS, {"X-Forwarded-Proto": "https"}, True),
    ],
)
async def test_cookies_are_for_this_site_alone_and_for_https_behind_https(
    settings: Mapping[str, Any], headers: Mapping[str, str], secure: bool
) -> None:
    async with scripted_site(**settings) as site, browser() as session:
        async with session.get(site.url, headers=headers) as page:
            said = page.headers.getall("Set-Cookie")
        if "token" in settings:
            async with session.post(f"{site.url}/api/login", json={"token": CHAT}, headers=headers) as login:
                said += login.headers.getall("Set-Cookie")
        for cookie in said:
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert ("Secure" in cookie) is secure


# ---- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "forwarded", "same"),
    [
        ([], "203.0.113.9", True),
        (["127.0.0.1"], "203.0.113.9", False),
        (["127.0.0.0/8"], "203.0.113.9, 127.0.0.7", False),
        (["127.0.0.1"], "203.0.113.9, 127.0.0.1", False),
        (["127.0.0.1"], "rubbish", True),
        (["10.0.0.1"], "203.0.113.9", True),
    ],
)
async def test_a_forwarded_address_counts_only_by_a_trusted_proxys_word(
    trusted: list[str], forwarded: str, same: bool
) -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue, trusted_proxies=trusted, **TOKENS) as site, browser() as session:
        bearer = {"Authorization": f"Bearer {CHAT}"}
        body = {"messages": [{"role": "user", "content": "hi"}]}
        for more in ({}, {"X-Forwarded-For": forwarded}):
            headers = {**bearer, **more}
            path = "/v1/chat/completions"
            assert await status(session, site, "POST", path, json=body, headers=headers) == 200
    first, second = dialogue.completions
    assert (first.source == second.source) is same
    assert (first.user == second.user) is same
    assert "127.0.0.1" not in first.source + second.source
    assert "203.0.113.9" not in first.source + second.source


async def test_programs_are_persons_by_token_and_address_and_pages_have_a_source_too() -> None:
    dialogue = ScriptedDialogue()
    async with scripted_site(dialogue, **TOKENS) as site, browser() as session:
        for token, path, body in (
            (CHAT, "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            (CHAT, "/", {"prompt": "hi"}),
            (OPERATOR, "/", {"prompt": "hi"}),
        ):
            headers = {"Authorization": f"Bearer {token}"}
            assert await status(session, site, "POST", path, json=body, headers=headers) == 200
        session.headers["Authorization"] = f"Bearer {CHAT}"
        for number in range(2):
            session.cookie_jar.clear()
            await session.get(site.url)
            ask = {"id": f"question-{number}", "conversation": 5, "text": "hi"}
            assert await status(session, site, "POST", "/api/messages", json=ask) == 202
    one, same, other = dialogue.completions
    assert one.user == same.user != other.user
    assert one.source == same.source != other.source
    assert one.user.platform == PLATFORM
    assert int(one.user.id) > 0
    first, second = dialogue.accepted
    assert first.user != second.user, "each cookie is a person"
    assert first.source == second.source == one.source, "and has the source of its address and token"


async def test_without_a_token_nothing_comes_through_a_proxy() -> None:
    async with scripted_site() as site, browser() as session:
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
            assert await status(session, site, "GET", "/api/hello", headers={name: "203.0.113.9"}) == 403
    async with scripted_site(trusted_proxies=["127.0.0.1"]) as site, browser() as session:
        assert await status(session, site, "GET", "/", headers={"X-Forwarded-For": "203.0.113.9"}) == 200


# ---- guessing ------------------------------------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_guesses_at_the_same_time_wait_as_long_as_one_after_the_other() -> None:
    attempts = Attempts(Clock())
    waits: list[float] = []
    with suppress(TooManyAttempts):
        while len(waits) < 1000:
            waits.append(attempts.reserve("a"))
    assert waits == sorted(waits)
    assert waits[9] == 0
    assert waits[10] >= 1
    assert len(waits) <= 21
    assert attempts.reserve("b") == 0, "somebody else's guesses are theirs"


def test_right_tokens_wait_for_nothing_however_many_there_are() -> None:
    attempts = Attempts(Clock())
    for _ in range(10_000):
        assert attempts.reserve("a") == 0
        attempts.right("a")


def test_guesses_from_many_addresses_wait_for_each_other_but_who_was_right_before_does_not() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    attempts.reserve("known")
    attempts.right("known")
    refused = 0
    for number in range(100_000):
        try:
            attempts.reserve(f"guesser {number}")
        except TooManyAttempts:
            refused += 1
    assert refused > 99_000
    assert attempts.reserve("known") == 0
    clock.now += 60
    assert attempts.reserve("somebody new") == 0


@pytest.mark.parametrize("way", ["bearer", "login", "cookie"])
async def test_every_way_to_guess_is_slowed(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("glmbot_web.guard.asyncio.sleep", sleep)
    async with scripted_site(**TOKENS) as site, browser() as session:
        for number in itertools.count():
            guess = f"guess number {number}"
            if way == "login":
                found = await status(session, site, "POST", "/api/login", json={"token": guess})
            else:
                sent = {"Authorization": f"Bearer {guess}"} if way == "bearer" else {}
                cookies = {"Cookie": f"glmbot_login={number}"} if way == "cookie" else {}
                found = await status(session, site, "GET", "/metrics", headers={**sent, **cookies})
            if found == 429:
                break
            assert found == 401
            assert number < 40
        assert max(slept) > 5


@pytest.mark.parametrize(
    "header",
    [b"Authorization: Bearer \xff", b"Authorization: Bearer " + "é".encode(), b"Cookie: glmbot_login=\xff",
     b"Cookie: glmbot_session=\xff", b"Authorization: \xff", b"Last-Event-ID: \xff", b"Accept-Language: \xff\xfe",
     b"Cookie: \xf0\x28\x8c\x28; glmbot_session=" + b"9" * 6000, b"Origin: http://[", b"X-Forwarded-For: \xff", b"If-None-Match: \xff",
     b"Content-Length: -1", b"Transfer-Encoding: xchunked", b"Content-Encoding: gzip, br"],
)  # fmt: skip
@pytest.mark.parametrize(
    "line",
    [
        b"GET /metrics",
        b"GET /x%0A2026-01-01%20ERROR%20FORGED",
        b"GET /api/streams/a%0Db",
        b"POST /api/login",
        b"HEAD /",
    ],
)
async def test_no_byte_before_the_login_is_a_fault_or_a_line_of_the_log(
    header: bytes, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with scripted_site(**TOKENS) as site:
        answer = await raw(
            site, line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + header + b"\r\n\r\n"
        )
    assert answer.split(b" ")[1][:1] in (b"2", b"4"), answer[:100]
    assert not [record for record in caplog.records if record.exc_info or "FORGED" in record.getMessage()]


async def test_a_fault_is_one_line_of_the_log_with_whatever_path_and_not_one_for_each_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> bytes:
        raise RuntimeError("broken")

    dialogue = ScriptedDialogue()
    monkeypatch.setattr(dialogue, "metrics", broken)
    async with scripted_site(dialogue) as site, browser() as session:
        for _ in range(20):
            assert await status(session, site, "GET", "/metrics?%0AFORGED") == 500
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(faults) == 1
    assert "\n" not in faults[0].getMessage()
