"""How QQ's events reach an official bot: the gateway with its sessions, and what is posted, with its signatures."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from adapters import qq_bot
from adapters.scripted import echoing
from adapters.waiting import lawful, nothing_left, running
from conftest import make_dialogue, until
from glmbot.errors import PlatformRefused, StoreError
from glmbot.http.registry import Routes
from glmbot.http.replays import Replays
from glmbot.http.routes import HttpAnswer, HttpCall, Route
from glmbot.store.base import Store
from glmbot_qq.adapter import QQAdapter
from glmbot_qq.callback import WINDOW_S, callback_route, private_key
from glmbot_qq.client import Client
from glmbot_qq.gateway import Gateway, intents_of
from glmbot_web.adapter import WebAdapter, WebSettings
from platforms.qq_server import APP_ID, QQServer, openid

PRIVATE = openid(7)

# https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/sign.html, both of its DEMOs.
DEMO_SECRET = "naOC0ocQE3shWLAfffVLB1rhYPG7"
DEMO_PUBLIC = bytes([
    215, 195, 98, 254, 120, 174, 248, 31, 242, 50, 135, 180, 147, 98, 139, 93, 176, 42, 60, 79, 227, 11, 33, 94, 77, 25, 96,
    155, 93, 118, 103, 58,
])  # fmt: skip
# The page shows the body on one line; the signature that it publishes is that of the same in four.
DEMO_BODY, DEMO_TIME = b'{\n  "op": 0,\n  "d": {},\n  "t": "GATEWAY_EVENT_NAME"\n}', 1725442341
DEMO_SIGNATURE = (
    "865ad13a61752ca65e26bde6676459cd36cf1be609375b37bd62af366e1dc25a"
    "8dc789ba7f14e017ada3d554c671a911bfdf075ba54835b23391d509579ed002"
)
# https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/interface-framework/event-emit.html, 回调地址及事件监听配置.
TRIAL_SECRET, TRIAL_APP = "DG5g3B4j9X2KOErG", "11111111"
TRIAL = b'{"d":{"plain_token":"Arq0D5A61EgUu4OxUvOp","event_ts":"1725442341"},"op":13}'
TRIAL_ANSWER = {
    "plain_token": "Arq0D5A61EgUu4OxUvOp",
    "signature": "87befc99c42c651b3aac0278e71ada338433ae26fcb24307bdc5ad38c1adc2d0"
    "1bcfcadc0842edac85e85205028a1132afe09280305f13aa6909ffc2d652c706",
}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmbot.background._FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr("glmbot_qq.gateway._SHORTEST_BEAT_S", 0.05)


@pytest.fixture
async def server() -> AsyncGenerator[QQServer]:
    async with lawful(QQServer()) as server:
        yield server


# ---- the gateway ------------------------------------------------------------------------------------------------


def test_the_intents_are_those_of_the_places() -> None:
    assert intents_of(["groups", "guilds"], buttons=False) == 1 << 25 | 1 << 30
    assert intents_of(["guild_messages", "guild_dms"], buttons=True) == 1 << 9 | 1 << 12 | 1 << 26


async def test_a_lost_connection_is_gone_on_with_and_what_was_said_meanwhile_is_answered_once(
    server: QQServer, sqlite_store: Store
) -> None:
    engine = echoing()
    async with qq_bot.bot(server, engine, sqlite_store):
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await server.disconnect(4009)
        await server.say("two")
        await until(lambda: len(server.texts(PRIVATE)) == 2)
        await server.send({"op": 7})
        await server.say("three")
        await until(lambda: len(server.texts(PRIVATE)) == 3)
        await nothing_left(sqlite_store, "qq")
    assert [operation for operation, _ in server.greetings] == [2, 6, 6]
    assert len(engine.prompts) == 3


@pytest.mark.parametrize("ends", ["session", "code"])
async def test_a_session_that_has_ended_is_begun_anew(
    server: QQServer, sqlite_store: Store, ends: str
) -> None:
    async with qq_bot.bot(server, echoing(), sqlite_store):
        if ends == "session":
            server.end_session()
            await server.disconnect()
        else:
            await server.disconnect(4006)
        await until(
            lambda: [operation for operation, _ in server.greetings][-1:] == [2] and len(server.greetings) > 1
        )
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "qq")


@pytest.mark.parametrize(("places", "told"), [(["groups", "guild_messages"], "guild_messages")])
async def test_intents_that_are_not_granted_are_named(
    server: QQServer, sqlite_store: Store, places: list[str], told: str
) -> None:
    adapter = QQAdapter(qq_bot.settings_for(server, places=places), make_dialogue(echoing(), sqlite_store))
    with pytest.raises(PlatformRefused, match=f"4014.*{told}"):
        await adapter.start()
    await adapter.stop()


async def test_a_banned_bot_stops_trying(server: QQServer, sqlite_store: Store) -> None:
    adapter = QQAdapter(qq_bot.settings_for(server), make_dialogue(echoing(), sqlite_store))
    await adapter.start()
    serving = asyncio.create_task(adapter.run())
    await server.disconnect(4915)
    with pytest.raises(PlatformRefused, match="banned"):
        await serving
    await adapter.stop()


async def test_a_gateway_that_answers_no_heartbeat_is_left(server: QQServer, sqlite_store: Store) -> None:
    server.answers_beats, server.beat_ms = False, 1
    async with qq_bot.bot(server, echoing(), sqlite_store):
        await until(lambda: len(server.greetings) == 2)
    assert server.greetings[1][0] == 6
    assert server.beats >= 1


async def test_a_token_that_is_refused_is_asked_for_again(server: QQServer, sqlite_store: Store) -> None:
    async with qq_bot.bot(server, echoing(), sqlite_store):
        server.end_token()
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "qq")
    assert server.tokens == 2


async def test_a_token_is_renewed_within_its_last_minute(
    server: QQServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glmbot_qq.client._SOON_S", 0)
    client = Client(qq_bot.settings_for(server))
    for lasts, tokens in ((7200, 1), (7200, 1), (50, 1)):
        server.token_lasts_s = lasts
        await client.log_in()
        assert server.tokens == tokens
    client.forget_token()
    for tokens in (2, 3):
        await client.log_in()
        assert server.tokens == tokens
    await client.close()


async def test_an_event_that_could_not_be_stored_comes_again(server: QQServer) -> None:
    settings, taken, fails = qq_bot.settings_for(server), [], [StoreError("full")]

    async def take(payload: Any) -> None:
        if fails:
            raise fails.pop()
        taken.append(payload["d"]["content"])

    client = Client(settings)
    gateway = Gateway(client, ["groups"], take, buttons=False)
    await gateway.open()
    listening = asyncio.create_task(gateway.run())
    await server.say("one")
    await until(lambda: taken == ["one"])
    listening.cancel()
    await gateway.close()
    await client.close()


@pytest.mark.parametrize(
    "frame", ["{", "[]", '{"op": "x"}', '{"op": 0, "t": 5, "d": 5}', '{"op": 10, "d": []}']
)
async def test_a_frame_that_says_nothing_hurts_nobody(
    server: QQServer, sqlite_store: Store, frame: str
) -> None:
    async with qq_bot.bot(server, echoing(), sqlite_store):
        for socket in server._sockets:
            await socket.send_str(frame)
        await server.say("one")
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        await nothing_left(sqlite_store, "qq")


# ---- what is posted ---------------------------------------------------------------------------------------------


class _Taking:
    """A route at the time of QQ's examples, and what it has taken."""

    def __init__(self, secret: str, app_id: str, now: float = DEMO_TIME) -> None:
        self.taken: list[Any] = []
        self.now = now
        replays = Replays(lambda: self.now, WINDOW_S)
        self.route: Route = callback_route("/qq/events", app_id, secret, replays, self._take, lambda: True)

    async def _take(self, payload: Any) -> None:
        self.taken.append(payload)

    async def post(self, body: bytes, **headers: str) -> HttpAnswer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if not self.route.admits(named):
            return HttpAnswer(401, "")
        return await self.route.handle(HttpCall("POST", named, {}, body))


SIGNED = {"X_Signature_Ed25519": DEMO_SIGNATURE, "X_Signature_Timestamp": str(DEMO_TIME)}


def test_the_key_is_that_of_qqs_own_example() -> None:
    public = private_key(DEMO_SECRET).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public == DEMO_PUBLIC
    with pytest.raises(ValueError, match="empty"):
        private_key("")


async def test_the_trial_of_the_address_is_answered_as_in_qqs_own_example() -> None:
    taking = _Taking(TRIAL_SECRET, TRIAL_APP)
    answer = await taking.post(TRIAL, X_Bot_Appid=TRIAL_APP)
    assert (answer.status, json.loads(answer.text)) == (200, TRIAL_ANSWER)
    assert taking.taken == []


async def test_qqs_own_signed_example_is_taken_once_and_not_for_long() -> None:
    taking = _Taking(DEMO_SECRET, APP_ID)
    answer = await taking.post(DEMO_BODY, **SIGNED)
    assert (answer.status, json.loads(answer.text)["op"]) == (200, 12)
    assert (await taking.post(DEMO_BODY, **SIGNED)).status == 403
    upper = SIGNED | {"X_Signature_Ed25519": DEMO_SIGNATURE.upper()}
    assert (await taking.post(DEMO_BODY, **upper)).status == 403
    assert len(taking.taken) == 1
    for late in (DEMO_TIME + 301, DEMO_TIME - 301):
        old = _Taking(DEMO_SECRET, APP_ID, late)
        assert (await old.post(DEMO_BODY, **SIGNED)).status == 401
        assert old.taken == []


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (DEMO_BODY + b" ", {}),
        (DEMO_BODY, {"X_Signature_Timestamp": str(DEMO_TIME + 1)}),
        (DEMO_BODY, {"X_Signature_Timestamp": "soon"}),
        (DEMO_BODY, {"X_Signature_Ed25519": "00" * 64}),
        (DEMO_BODY, {"X_Signature_Ed25519": DEMO_SIGNATURE[:-2]}),
        (DEMO_BODY, {"X_Signature_Ed25519": f"{DEMO_SIGNATURE[:64]} {DEMO_SIGNATURE[64:]}"}),
        (DEMO_BODY, {"X_Signature_Ed25519": "no hex \udcff"}),
        (DEMO_BODY, {"X_Signature_Ed25519": ""}),
        (DEMO_BODY, {"X_Bot_Appid": "4711"}),
        (b"{", {"X_Signature_Ed25519": ""}),
        (TRIAL[:-1] + b" " * 5000 + b"}", {"X_Signature_Ed25519": ""}),
    ],
)
async def test_what_is_signed_wrongly_is_refused(body: bytes, changes: dict[str, str]) -> None:
    taking = _Taking(DEMO_SECRET, APP_ID)
    assert (await taking.post(body, **SIGNED | changes)).status == 401
    assert taking.taken == []


async def test_who_is_refused_without_end_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    taking = _Taking(DEMO_SECRET, APP_ID)
    with caplog.at_level("INFO"):
        for _ in range(50):
            await taking.post(DEMO_BODY, X_Bot_Appid="4711")
            await taking.post(DEMO_BODY + b" ", **SIGNED)
            await taking.post(DEMO_BODY, **SIGNED | {"X_Signature_Timestamp": "1"})
            await taking.post(TRIAL)
    assert len(caplog.records) == 4


@pytest.mark.parametrize(
    ("token", "stamp"),
    [
        ('{"op":0,"d":{}}', "1725442341"),
        ("abc", '1725442341{"op":0}'),
        ("", "1"),
        ("a" * 200, "1"),
        (5, "1"),
        ("abc", 1),
    ],
)
async def test_nobody_has_an_event_signed_by_way_of_the_trial(token: Any, stamp: Any) -> None:
    taking = _Taking(DEMO_SECRET, APP_ID)
    answer = await taking.post(
        json.dumps({"op": 13, "d": {"plain_token": token, "event_ts": stamp}}).encode()
    )
    assert answer.status == 401
    assert "signature" not in json.dumps(answer.text) or "without a signature" in answer.text


async def test_posted_events_are_answered_through_the_one_server(
    server: QQServer, sqlite_store: Store
) -> None:
    routes, engine = Routes(), echoing()
    web = WebAdapter(WebSettings(port=0), make_dialogue(engine, sqlite_store))
    posted = {"events": "webhook"}
    async with running(web, routes), qq_bot.bot(server, engine, sqlite_store, routes, settings=posted):
        url = f"{web.url}/qq/events"
        kind, data = server.message("one")
        payload = {"op": 0, "s": 1, "t": kind, "id": f"{kind}:1", "d": data}
        at = int(time.time())
        assert await server.post(url, payload, at=at) == (200, {"op": 12, "d": 0})
        await until(lambda: server.texts(PRIVATE) == ["answer to one"])
        assert (await server.post(url, payload, at=at))[0] == 403
        # Told again under another signature, it is the same message.
        assert (await server.post(url, payload, at=at + 1))[0] == 200
        assert (await server.post(url, payload, secret="another"))[0] == 401
        assert (await server.post(url, payload, signed=False))[0] == 401
        assert (await server.post(url, payload, at=at - 400))[0] == 401
        trial = {"op": 13, "d": {"plain_token": "abc", "event_ts": "1"}}
        assert (await server.post(url, trial, signed=False))[1]["plain_token"] == "abc"
        await nothing_left(sqlite_store, "qq")
    assert server.texts(PRIVATE) == ["answer to one"]
    assert len(engine.prompts) == 1
    assert server.greetings == []
