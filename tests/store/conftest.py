"""The store's own tests run on a Redis cluster too."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from conftest import made_store
from glmbot.store.base import Store
from redis_server import cluster


@pytest.fixture(params=["sqlite", "redis", "cluster"])
async def store(request: pytest.FixtureRequest, cluster_url: str, tmp_path: Path) -> AsyncGenerator[Store]:
    if request.param == "cluster" and not cluster_url:
        pytest.skip("redis-server is not installed (Debian package redis-server)")
    made = made_store(request, tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[str]:
    if shutil.which("redis-cli") is None:
        yield ""
        return
    async with cluster(tmp_path_factory.mktemp("cluster")) as group:
        yield group.url
