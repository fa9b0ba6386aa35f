"""By how much a tokenizer's replacements can lengthen a text: a few of them in a row fill any memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from glmbot.errors import ModelFileError

__all__ = ["growth", "refuse_growing_tokenizer"]

_MOST = 64.0


def refuse_growing_tokenizer(folder: Path, backend: Any) -> None:
    """backend: of the `tokenizers` library. Raises ModelFileError."""
    for part in ("normalizer", "decoder"):
        owner = getattr(backend, part, None)
        if owner is None or not hasattr(owner, "__getstate__"):
            continue
        try:
            fields = json.loads(owner.__getstate__())
        except (TypeError, ValueError):
            # One that was written in Python, by a class of Transformers, and not by the folder.
            continue
        if (factor := growth(fields)) > _MOST:
            file = folder / "tokenizer.json"
            raise ModelFileError(
                f"{file}: {part}: its replacements make a text up to {factor:.0f} times longer"
            )


def growth(fields: Any) -> float:
    """fields: a normalizer or decoder as tokenizer.json holds it."""
    if not isinstance(fields, dict):
        return 1.0
    known = cast(dict[str, Any], fields)
    factor = 1.0
    for each in (*known.get("normalizers", ()), *known.get("decoders", ())):
        factor *= growth(each)
    if known.get("type") == "Replace":
        pattern = cast(dict[str, Any], known.get("pattern") or {}).get("String")
        content = len(str(known.get("content") or ""))
        # A regular expression may match between any two characters.
        factor *= max(1.0, content / len(pattern)) if pattern else content + 1.0
    return factor
