"""Twenty tools on the demo model: how soon the first token comes, and how many calls are valid; beside llama.cpp.

    PYTHONPATH=tests python bench/tool_turns.py [--asked 100] [--rounds 5]

Prints JSON, and keeps it in bench/results/tool_turns.json. Both have the same weights, the file in Q4_0 that
llama.cpp's quantiser makes of the demo model, and the same prompts, in which glmbot tells the model of the tools.
A turn is timed to its first token, alone: a person's first and second, and the first of somebody else who is
offered the same tools. Calls have to be made, at temperature 1, eight at a time: glmbot holds them to its own
grammar, llama.cpp to the one that it makes of a JSON schema with the same names and arguments. They are held
against the tools' schemas by jsonschema.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bandwidth import THREADS
from engines import HOME, SLOTS, Engine, demo_gguf, llama_server
from suite import processor
from tool_offers import offer

from form_schemas import is_valid
from glmbot.content import Text
from glmbot.engine.base import ChatFormat, Conversation, PastExchange, Progress, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.templated import TemplatedEngine, prepare_tokens
from glmbot.models.demo import NAME
from glmbot.tools import Choice, ToolDescription

RESULTS = Path(__file__).parent / "results" / "tool_turns.json"
CONTEXT = 8192
SYSTEM = "You are the assistant of a small town. Answer in one sentence."
ANSWER = "It is sunny there, with a light wind from the west and no rain before the evening."
LONGEST_CALL = 400
QUESTIONS = (
    "What is the weather like in Oslo?",
    "And how will it be tomorrow?",
    "Remind me to water the plants.",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation: what was said by turns (a question last), and the tools' edition."""

    said: Sequence[str]
    edition: int = 0

    def conversation(self, choice: Choice) -> Conversation:
        past = [
            PastExchange((Text(asked),), (Text(answer),))
            for asked, answer in zip(self.said[:-1:2], self.said[1::2], strict=True)
        ]
        return Conversation((Text(self.said[-1]),), past, SYSTEM, offer=offer(choice, self.edition))


class Ours:
    """Through `TemplatedEngine`."""

    name = "glmbot int4"

    def __init__(self, engine: TemplatedEngine) -> None:
        self._engine = engine

    async def first_token(self, asked: Asked, user: str) -> tuple[float, int]:
        """Seconds, and the prompt's tokens."""
        began = time.perf_counter()
        last = await self._answer(asked, Choice.AUTO, Sampling(max_tokens=1, temperature=0.0), user)
        return time.perf_counter() - began, last.prompt_tokens

    async def call(self, asked: Asked, number: int) -> str:
        sampling = Sampling(max_tokens=LONGEST_CALL, temperature=1.0, top_p=1.0, seed=number)
        last = await self._answer(asked, Choice.REQUIRED, sampling, str(number))
        return judged([(call.name, call.arguments) for call in last.calls], str(last.finish))

    async def _answer(self, asked: Asked, choice: Choice, sampling: Sampling, user: str) -> Progress:
        prepared = self._engine.prepare(asked.conversation(choice), CONTEXT - sampling.max_tokens)
        assert prepared.offer.callable, "there is no room for the tools"
        last = Progress()
        async with aclosing(self._engine.generate(prepared, sampling, user=user)) as generation:
            async for progress in generation:
                last = progress
        return last


class Theirs:
    """Through the HTTP interface of llama.cpp's server."""

    name = "llama.cpp Q4_0"

    def __init__(self, engine: Engine, chat_format: ChatFormat) -> None:
        self._engine = engine
        self._chat_format = chat_format

    async def first_token(self, asked: Asked, user: str) -> tuple[float, int]:
        del user
        body = self._body(asked, Choice.AUTO, n_predict=1, temperature=0)
        (answer,) = await self._ask([body])
        return answer["seconds"], len(body["prompt"])

    async def calls(self, asked: Sequence[Asked]) -> list[str]:
        drawing = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "n_predict": LONGEST_CALL}
        schema = {"anyOf": [_call(tool) for tool in offer(Choice.REQUIRED).tools]}
        bodies = [
            self._body(each, Choice.REQUIRED, seed=number, json_schema=schema, **drawing)
            for number, each in enumerate(asked)
        ]
        return [self._judged(answer) for answer in await self._ask(bodies)]

    async def _ask(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        asked = await asyncio.to_thread(self._engine.ask, prompts=[], bodies=bodies)
        return asked["requests"]

    def _judged(self, answer: Mapping[str, Any]) -> str:
        if answer["status"] != 200:
            print(answer["body"], file=sys.stderr)
            return "failed"
        if answer["body"]["stop_type"] == "limit":
            return "cut"
        try:
            said = json.loads(answer["body"]["content"])
        except ValueError:
            return "wrong"
        return judged([(said["name"], json.dumps(said["arguments"]))], "")

    def _body(self, asked: Asked, choice: Choice, **more: Any) -> dict[str, Any]:
        prompt = prepare_tokens(self._chat_format, asked.conversation(choice), CONTEXT - LONGEST_CALL).tokens
        return {"prompt": list(prompt), "cache_prompt": True, **more}


def _call(tool: ToolDescription) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": {"const": tool.name}, "arguments": dict(tool.parameters)}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def judged(calls: Sequence[tuple[str, str]], finish: str) -> str:
    """valid, wrong, or cut: its room was used up before it was whole."""
    schemas = {tool.name: dict(tool.parameters) for tool in offer(Choice.AUTO).tools}
    if finish == "length":
        return "cut"
    right = [name in schemas and is_valid(schemas[name], arguments) for name, arguments in calls]
    return "valid" if right and all(right) else "wrong"


async def turns(engine: Ours | Theirs, number: int) -> dict[str, float]:
    """Seconds of one round; nothing of its words was there before."""
    first, second, other = QUESTIONS
    alone, tokens = await engine.first_token(Asked([first], number), f"{number} a")
    again, _ = await engine.first_token(Asked([first, ANSWER, second], number), f"{number} a")
    others, _ = await engine.first_token(Asked([other], number), f"{number} b")
    return {
        "first_turn_s": alone,
        "second_turn_s": again,
        "others_first_turn_s": others,
        "prompt_tokens": tokens,
    }


def questions(asked: int) -> list[Asked]:
    names = [tool.name for tool in offer(Choice.AUTO).tools]
    return [
        Asked([f"Please use {names[number % len(names)]} for number {number}."]) for number in range(asked)
    ]


async def our_calls(engine: Ours, asked: Sequence[Asked]) -> list[str]:
    left = iter(list(enumerate(asked)))
    found: list[str] = []

    async def stream() -> None:
        for number, each in left:
            found.append(await engine.call(each, number))

    await asyncio.gather(*(stream() for _ in range(SLOTS)))
    return found


async def measure(engine: Ours | Theirs, rounds: int, asked: int) -> dict[str, Any]:
    # The first time is for what is made once.
    await turns(engine, 0)
    made = [await turns(engine, number) for number in range(1, rounds + 1)]
    figures: dict[str, Any] = {
        key: round(statistics.median(each[key] for each in made), 3) for key in made[0]
    }
    began = time.perf_counter()
    calling = (
        engine.calls(questions(asked)) if isinstance(engine, Theirs) else our_calls(engine, questions(asked))
    )
    found = Counter(await calling)
    figures["calls"] = dict(sorted(found.items()))
    figures["valid"] = round(found["valid"] / asked, 3)
    figures["calls_s"] = round(time.perf_counter() - began, 1)
    print(engine.name, figures, file=sys.stderr)
    return figures


async def compare(file: Path, rounds: int, asked: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    settings = LocalEngineSettings(
        file, context_length=CONTEXT, cache_tokens=CONTEXT * SLOTS, max_batch=SLOTS, queue_limit=asked
    )
    ours = TemplatedEngine(await LocalEngine.start(settings))
    made[Ours.name] = await measure(Ours(ours), rounds, asked)
    chat_format = ours.tokens.chat_format
    await ours.close()
    server = llama_server(file, SLOTS, Theirs.name, context=CONTEXT)
    if server is None:
        made[Theirs.name] = {"failed": "its package can't be had"}
        return made
    server.start()
    try:
        made[Theirs.name] = {
            "version": server.ready["version"],
            **await measure(Theirs(server, chat_format), rounds, asked),
        }
    finally:
        server.close()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--asked", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    (HOME / "bench").mkdir(parents=True, exist_ok=True)
    file = demo_gguf("Q4_0")
    if file is None:
        raise SystemExit("llama.cpp's quantiser can't be had")
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"processor": processor(), "threads": THREADS},
        "model": NAME,
        "asked": given.asked,
        "tools": len(offer(Choice.AUTO).tools),
        "load": [os.getloadavg()[0]],
    }
    report["engines"] = asyncio.run(compare(file, given.rounds, given.asked))
    report["load"].append(os.getloadavg()[0])
    given.results.parent.mkdir(exist_ok=True)
    given.results.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
