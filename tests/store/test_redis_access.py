"""Redis behind TLS and with a user of few rights, as docs/operator.md advises."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import trustme

from conftest import REPOSITORY
from glmbot.errors import StoreUnavailable
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.records import StoredAnswer
from glmbot.store.redis import RedisStore
from redis_server import Server

ANN = UserKey("telegram", "11")
ASKED = Message("1", ConversationKey("telegram", "11"), ANN, "hello")


class _Guarded(Server):
    """TLS only; a user with the rights that the documentation gives it, and nobody else."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        names = {name: folder / f"{name}.pem" for name in ("ca", "chain", "key")}
        authority.cert_pem.write_to_path(names["ca"])
        certificate.cert_chain_pems[0].write_to_path(names["chain"])
        certificate.private_key_pem.write_to_path(names["key"])
        self.authority = names["ca"]
        (folder / "users.acl").write_text(
            f"user default off\n{_advised_user()}\nuser probe on nopass +ping\n"
        )
        super().__init__(
            folder, "--tls-cert-file", str(names["chain"]), "--tls-key-file", str(names["key"]),
            "--tls-ca-cert-file", str(names["ca"]), "--tls-auth-clients", "no", "--aclfile", str(folder / "users.acl"),
        )  # fmt: skip

    @property
    def command(self) -> list[str]:
        return [*super().command, "--tls-port", str(self.port), "--port", "0"]

    async def ask(self, *command: str, within_s: float = 10) -> object:
        from redis.asyncio import Redis

        client = Redis(
            port=self.port,
            ssl=True,
            ssl_ca_certs=str(self.authority),
            username="probe",
            password="x",
            socket_timeout=within_s,
        )
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()


def _advised_user() -> str:
    """The line of the documentation, with a password."""
    (line,) = re.findall(r"^user glmbot on .*$", (REPOSITORY / "docs" / "operator.md").read_text(), re.M)
    return line.replace("PASSWORD", "let-me-in")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncGenerator[_Guarded]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    server = _Guarded(tmp_path)
    await server.start()
    yield server
    await server.stop()


async def test_the_advised_user_may_do_all_that_the_store_does_over_tls(guarded: _Guarded) -> None:
    store = RedisStore(
        f"rediss://glmbot:let-me-in@127.0.0.1:{guarded.port}/0?ssl_ca_certs={guarded.authority}", timeout_s=2
    )
    await store.open()
    assert await store.warnings() == []
    assert await store.accept(ASKED, 1.0)
    assert await store.waiting("telegram", 0.1) == [ASKED.conversation]
    assert await store.open_conversations("telegram") == [ASKED.conversation]
    assert len((await store.claim(ASKED.conversation, 5)).open) == 1
    await store.keep()
    await store.mark(ASKED, {"sent": "[1]"})
    assert await store.finish(ASKED, StoredAnswer("a", "final", ""), question="hello", at=1.0)
    await store.delivered(ASKED, ["m1"])
    await store.signal("look")
    assert await store.signals(0.05) == []
    await store.set_setting(ANN, "language", "zh")
    assert await store.all_settings() == {str(ANN): {"language": "zh"}}
    assert [turn.question for turn in await store.last_turns(ASKED.conversation, 5)] == ["hello"]
    assert await store.lease("poll", 5) == store.owner
    assert await store.reset(ASKED.conversation) == 1
    assert await store.forget(ANN) == 0
    await store.close()


@pytest.mark.parametrize(
    ("login", "options"),
    [("glmbot:wrong@", "?ssl_ca_certs={ca}"), ("glmbot:let-me-in@", ""), ("", "?ssl_ca_certs={ca}")],
    ids=["a wrong password", "a certificate that nobody vouches for", "no user"],
)
async def test_who_may_not_come_in_is_told_so_without_the_password(
    guarded: _Guarded, login: str, options: str
) -> None:
    url = f"rediss://{login}127.0.0.1:{guarded.port}/0{options.format(ca=guarded.authority)}"
    store = RedisStore(url, timeout_s=2)
    with pytest.raises(StoreUnavailable) as refused:
        await store.open()
    assert "let-me-in" not in str(refused.value)
    assert f"redis at 127.0.0.1:{guarded.port}" in str(refused.value)
    await store.close()
