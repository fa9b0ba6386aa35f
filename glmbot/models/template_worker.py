"""Renders chat templates in a process of its own: `python -I template_worker.py CPU_SECONDS BYTES`.

A template comes with a model's folder and is a program: it may loop for ever or ask for all memory. Here it meets
the kernel's limits, and whoever asked sees this process end. It reads and writes frames: four bytes of length, and
JSON. It imports nothing of glmbot; the environment is the one of Transformers' `apply_chat_template`.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, cast

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

__all__ = ["main"]

_LONGEST_OUTPUT = 4 << 20
_LONGEST_REASON = 200


class _Generation(Extension):
    """`{% generation %}` marks what an assistant said, for training; here it is only passed through."""

    tags = {"generation"}  # noqa: RUF012 - the base class has it so

    def parse(self, parser: Any) -> CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = CallBlock(self.call_method("_inner"), [], [], body)
        block.set_lineno(line)
        return block

    def _inner(self, caller: Any) -> str:
        return str(caller())


class _Dict:
    def __call__(self, *args: Any, **fields: Any) -> dict[Any, Any]:
        return dict(*args, **fields)


class _Namespace(Namespace):
    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"{name!r} can't be a namespace's attribute")
        super().__setitem__(name, value)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(value: Any, ensure_ascii: bool = False, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **more)


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    # The output is a prompt, no page.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    known: dict[str, Any] = cast(Any, environment).globals
    known |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


def _render(wish: dict[str, Any]) -> dict[str, str]:
    try:
        parts: list[str] = []
        length = 0
        for part in _compiled(wish["template"]).generate(
            messages=wish["messages"],
            tools=wish["tools"],
            documents=None,
            add_generation_prompt=True,
            **wish["variables"],
        ):
            parts.append(part)
            length += len(part)
            if length > _LONGEST_OUTPUT:
                return {"exceeded": f"writes more than {_LONGEST_OUTPUT} characters"}
        return {"text": "".join(parts)}
    except MemoryError:
        return {"exceeded": "asks for more memory than it may have"}
    except RecursionError:
        return {"exceeded": "calls itself too often"}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:_LONGEST_REASON]}


def _limit(cpu_s: int, memory: int | None = None) -> None:
    """So much time of the processor from now on, and so much memory for good, where the system has such limits."""
    if sys.platform == "win32":
        return
    import resource

    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + cpu_s, hard))


def _read(source: BinaryIO) -> dict[str, Any] | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return json.loads(source.read(int.from_bytes(head, "big")))


def main(source: BinaryIO, target: BinaryIO, cpu_s: int, memory: int) -> None:
    _limit(cpu_s, memory)
    while (wish := _read(source)) is not None:
        _limit(cpu_s)
        made = json.dumps(_render(wish)).encode("ascii")
        target.write(len(made).to_bytes(4, "big") + made)
        target.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]), int(sys.argv[2]))
