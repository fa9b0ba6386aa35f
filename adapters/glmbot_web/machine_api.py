"""What machines ask: is the process alive, can it answer, how is it."""

from __future__ import annotations

from typing import Protocol

from aiohttp import web

from glmbot.ports import Condition, Operator

__all__ = ["MachineApi"]


class _Wanted(Condition, Operator, Protocol): ...


class MachineApi:
    def __init__(self, dialogue: _Wanted) -> None:
        self._dialogue = dialogue

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
        ]

    async def healthz(self, _: web.Request) -> web.Response:
        health = self._dialogue.health()
        body = {
            "status": "ok" if health.ok else "failed",
            "model": health.model,
            "precision": health.precision,
            "running": health.running,
            "waiting": health.waiting,
            **({"detail": health.detail} if health.detail else {}),
        }
        return web.json_response(body, status=200 if health.ok else 503)

    async def readyz(self, _: web.Request) -> web.Response:
        """503 where nobody can be answered; what keeps only some from it is named all the same."""
        missing = await self._dialogue.obstacles()
        ready = all(obstacle.partial for obstacle in missing)
        body = {"status": "ready" if ready else "not ready", "missing": [str(each) for each in missing]}
        return web.json_response(body, status=200 if ready else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        """For Prometheus, which sends the token as a bearer where one is set."""
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._dialogue.metrics(), headers={"Content-Type": kind})
