"""The store's own tests run on a Redis cluster too, and on an encrypted store."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from conftest import made_store
from glmbot.store.base import Store
from glmbot.store.sealed import new_key, sealed
from glmbot.store.sqlite import SqliteStore
from redis_server import Cluster, Server, serving


@pytest.fixture(params=["sqlite", "redis", "cluster", "encrypted"])
async def store(request: pytest.FixtureRequest, cluster_url: str, tmp_path: Path) -> AsyncGenerator[Store]:
    if request.param == "cluster" and not cluster_url:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    if request.param == "encrypted":
        made = sealed(SqliteStore(tmp_path / "both.sqlite3"), [new_key()])
    else:
        made = made_store(request, tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    """A Redis of the test's own, which it may kill."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    own = Server(tmp_path / "redis")
    await own.start()
    yield own
    await own.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    if shutil.which("redis-cli") is None:
        yield ""
        return
    async with serving(Cluster(tmp_path_factory.mktemp("cluster"))) as group:
        yield group.url
