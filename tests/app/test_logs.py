"""No secret reaches a log, whoever writes it."""

from __future__ import annotations

import logging

import httpx
import pytest

from glmbot.logs import set_up_logging

TOKEN = "987654321:AAsecretSECRETsecretSECRETsecretSECR"


@pytest.fixture(autouse=True)
def _restore_logging():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_secrets_are_masked_in_messages_arguments_and_tracebacks(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("DEBUG", ["open-sesame", "x"])
    log = logging.getLogger("anything")
    log.warning("the token is %s", TOKEN)
    log.info("login with open-sesame")
    log.info({"url": f"https://api.telegram.org/bot{TOKEN}/getMe"})
    try:
        raise RuntimeError(f"refused: {TOKEN} open-sesame")
    except RuntimeError:
        log.exception("failed")
    log.info("an x stays an x")
    written = capfd.readouterr().err
    assert written.count("[secret]") >= 5
    assert TOKEN not in written
    assert "open-sesame" not in written
    assert "an x stays an x" in written
    assert "RuntimeError" in written


async def test_the_http_clients_do_not_write_urls(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", [])
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.HTTPError):
            await client.get(f"http://127.0.0.1:9/bot{TOKEN}/getMe")
    assert TOKEN not in capfd.readouterr().err
