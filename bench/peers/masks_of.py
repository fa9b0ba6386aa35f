"""What one library takes to compile twelve schemas, and for each mask of an answer that has them:
masks_of.py LIBRARY MODEL_FOLDER. Prints JSON; in processor time of one thread."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from form_schemas import SCHEMAS, is_valid
from glmbot.models.registry import load

SAMPLES: dict[str, Any] = {
    "weather": {"city": "Oslo", "unit": "celsius"},
    "search": {"query": "northern lights", "limit": 5},
    "天气查询": {"城市": "上海", "日期": "明天", "详细": True},
    "address": {"name": "Ann", "home": {"street": "High Street", "number": 7, "geo": {"lat": 59, "lon": 10}}},
    "order": {"items": [{"sku": "ABC-1234", "count": 2}, {"sku": "XYZ-0001", "count": 1}], "express": False},
    "reminder": {"text": "water plants", "at": "08:30", "repeat": "daily"},
    "payment": {"to": "Li Lei", "by": {"kind": "转账", "账号": "1234567890"}},
    "vote": {"question": "Lunch?", "options": ["soup", "bread", "rice"]},
    "convert": {"value": 21.5, "source": "°C", "target": "K"},
    "contact": {"id": "5f0c1c3e-7d5a-4f0e-9a51-3c2b1a0d9e8f", "born": "2001-02-03", "phone": None},
    "tree": {"值": 1, "next": {"值": 2}},
    "filter": {"tag": "red", "数量": 3, "since": "2026-11-27T05:00:00Z"},
}


class Held(Protocol):
    def mask(self) -> object: ...

    def take(self, token: int) -> bool: ...


def llguidance(model: Any) -> Callable[[dict[str, Any]], Held]:
    from glmbot.engine.masks import compiler_of
    from glmbot.errors import PromptInvalid
    from glmbot.forms import Form, FormKind

    forms = compiler_of(model, thinks=False)
    assert forms is not None

    class Ours:
        def __init__(self, schema: dict[str, Any]) -> None:
            try:
                form = Form(FormKind.SCHEMA, json.dumps(schema, ensure_ascii=False))
                self._matcher = forms.compile(form, [0])._matcher  # pyright: ignore[reportPrivateUsage]
            except PromptInvalid as error:
                raise ValueError(str(error)) from error

        def mask(self) -> object:
            return self._matcher.compute_bitmask()

        def take(self, token: int) -> bool:
            return self._matcher.consume_token(token)

    return Ours


def xgrammar(model: Any, folder: Path) -> Callable[[dict[str, Any]], Held]:
    import xgrammar as library  # pyright: ignore[reportMissingImports]
    from transformers import AutoTokenizer

    xgr: Any = library
    size = model.shape.vocabulary
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    about = xgr.TokenizerInfo.from_huggingface(
        tokenizer, vocab_size=size, stop_token_ids=sorted(model.stop_tokens)
    )
    compiler = xgr.GrammarCompiler(about, max_threads=1, cache_enabled=False)

    class Theirs:
        def __init__(self, schema: dict[str, Any]) -> None:
            try:
                compiled = compiler.compile_json_schema(json.dumps(schema, ensure_ascii=False))
            except RuntimeError as error:
                raise ValueError(str(error)) from error
            self._matcher = xgr.GrammarMatcher(compiled)
            self._mask = xgr.allocate_token_bitmask(1, size)

        def mask(self) -> object:
            return self._matcher.fill_next_token_bitmask(self._mask)

        def take(self, token: int) -> bool:
            return self._matcher.accept_token(token)

    return Theirs


def follow(make: Callable[[dict[str, Any]], Held], encode: Callable[[str], list[int]]) -> dict[str, Any]:
    compiled: list[float] = []
    masks: list[float] = []
    taken: list[float] = []
    refused: list[str] = []
    for name, schema in SCHEMAS.items():
        said = json.dumps(SAMPLES[name], ensure_ascii=False)
        assert is_valid(schema, said), name
        try:
            began = time.process_time()
            held = make(schema)
            held.mask()
            compiled.append(time.process_time() - began)
            for token in encode(said):
                began = time.process_time()
                held.mask()
                drawn = time.process_time()
                if not held.take(token):
                    raise ValueError("a valid answer is refused")
                masks.append(drawn - began)
                taken.append(time.process_time() - drawn)
        except ValueError as error:
            refused.append(f"{name}: {str(error).splitlines()[0][:120]}")
    return {
        "compile_ms": _spread(compiled, 1e3),
        "mask_us": _spread(masks, 1e6),
        "take_us": _spread(taken, 1e6),
        "refused": refused,
    }


def _spread(times: list[float], factor: float) -> dict[str, float]:
    times = sorted(times)
    chosen = (statistics.median(times), times[int(len(times) * 0.99)], times[-1])
    return {name: round(one * factor, 2) for name, one in zip(("median", "p99", "most"), chosen, strict=True)}


def main() -> None:
    library, folder = sys.argv[1], Path(sys.argv[2])
    model = load(folder, "sdpa")
    make = llguidance(model) if library == "llguidance" else xgrammar(model, folder)
    # The first time is for what is loaded once.
    follow(make, model.chat_format.encode_text)
    found = follow(make, model.chat_format.encode_text)
    print(json.dumps({"version": version(library), "vocabulary": model.shape.vocabulary, **found}))


if __name__ == "__main__":
    main()
