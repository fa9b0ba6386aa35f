"""Programs of others ask `glmbot serve`: OpenAI's own client, and the agents of LangChain and pydantic-ai.

    python tests/rig/programs.py FOLDER [scripted | demo]

FOLDER has an environment for each. They ask twice: the demo model, which is held to schemas, and a model on another
server, which is scripted and calls as one that was trained to. Says each check on a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from glmbot.models.demo import NAME  # noqa: E402
from platforms.tool_server import ToolServer, piece, tool_server, words  # noqa: E402
from rig.served import serving  # noqa: E402

__all__ = ["ENVIRONMENTS"]

ENVIRONMENTS = {
    "openai": ("openai==3.57.0",),
    "langchain": ("langchain==1.5.0", "langchain-openai==1.7.4"),
    "pydantic-ai": ("pydantic-ai-slim[openai]==2.68.0",),
}
SCRIPTS = {
    "openai": "openai_program.py",
    "langchain": "langchain_program.py",
    "pydantic-ai": "pydantic_ai_program.py",
}
MODEL = HERE.parent.parent / ".glmbot" / "models" / NAME
PROGRAM_S = 240.0
PLACE = {"city": "Oslo", "degrees": 12}


class Trained(ToolServer):
    """Asks for the weather of each city that it hears of, and then says it in the form that is wanted."""

    def says(self, fields: dict[str, Any]) -> Sequence[dict[str, Any]]:
        messages: list[dict[str, Any]] = fields["messages"]
        names = {tool["function"]["name"] for tool in fields.get("tools", ())}
        asked = max(number for number, each in enumerate(messages) if each["role"] == "user")
        told = [each["content"] for each in messages[asked:] if each["role"] == "tool"]
        if "weather" in names and not told and fields.get("tool_choice") != "none":
            cities = [city for city in ("Oslo", "Bergen") if city in messages[asked]["content"]] or ["Oslo"]
            return [
                part
                for number, city in enumerate(cities)
                for part in (
                    piece("", "weather", f"call{number}", number),
                    *(piece(each, index=number) for each in ('{"city"', ': "', city, '"}')),
                )
            ]
        forms = [name for name in names if name != "weather"]
        if forms and fields.get("tool_choice") != "none":
            return [piece(json.dumps(PLACE), forms[0], "form")]
        if fields.get("response_format"):
            return [words(part) for part in (json.dumps(PLACE)[:9], json.dumps(PLACE)[9:])]
        return [words("It is "), words(" and ".join(told) or "cold"), words(".")]


async def main(folder: Path, *wanted: str) -> int:
    ended = True
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        async with tool_server(made=Trained([])) as server:
            remote = (
                f'[model]\ncontext_length = 8192\n[remote]\nservers = ["{server.url}"]\ninterface = "chat"'
            )
            kinds = {
                "scripted": (remote, ()),
                "demo": ("[model]\ncontext_length = 4096", ("--model", str(MODEL))),
            }
            for kind in wanted or kinds:
                lines, options = kinds[kind]
                serve = serving(home / kind, lines, *options)
                url = await asyncio.to_thread(serve.__enter__)
                try:
                    for who, script in SCRIPTS.items():
                        python = folder / who / "bin" / "python"
                        if not python.exists():
                            say(who=who, check="is installed", ok=False, why="")
                            continue
                        ended &= await runs(who, kind, python, script, url)
                finally:
                    await asyncio.to_thread(serve.__exit__, None, None, None)
    say(end=True)
    return 0 if ended else 1


async def runs(who: str, kind: str, python: Path, script: str, url: str) -> bool:
    program = await asyncio.create_subprocess_exec(
        python,
        HERE / script,
        env={**os.environ, "RIG_URL": f"{url}/v1", "RIG_KIND": kind, "OPENAI_API_KEY": "none"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(PROGRAM_S):
            async for line in program.stdout:
                said = json.loads(line)
                say(who=f"{who} ({kind})", **said)
    except TimeoutError:
        program.kill()
    await program.wait()
    say(
        who=f"{who} ({kind})",
        check="came to its end",
        ok=program.returncode == 0,
        why=f"{program.returncode}",
    )
    return program.returncode == 0


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:])))
