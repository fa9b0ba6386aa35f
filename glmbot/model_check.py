"""`glmbot models --check FOLDER`: what a model folder would be served with here, how fast, or why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from glmbot import i18n
from glmbot.engine.base import Precision
from glmbot.engine.trial import Trial, try_model
from glmbot.errors import ModelFileError, PrecisionError

__all__ = ["check_model", "told"]

_MB = 1_000_000


def check_model(folder: Path, precision: str, language: str) -> tuple[bool, Sequence[str]]:
    """Whether it can be served, and lines for a person. precision: empty for what the device takes by itself."""
    known = [each.value for each in Precision]
    if precision and precision not in known:
        words = i18n.text(language, "check.precision", given=precision, known=", ".join(known))
        return False, [words]
    try:
        trial = try_model(folder, precision=Precision(precision) if precision else None)
    except (ModelFileError, PrecisionError) as error:
        return False, [i18n.text(language, "check.refused", reason=error)]
    return True, told(trial, language)


def told(trial: Trial, language: str) -> Sequence[str]:
    def say(key: str, **values: object) -> str:
        return i18n.text(language, f"check.{key}", **values)

    on_cpu = trial.device == "cpu"
    way = "program" if trial.kernels else "torch" if on_cpu else "card" if trial.fast else "gpu"
    sizes = ", ".join(f"{precision} {size / _MB:.0f} MB" for precision, size in trial.weights.items())
    lines = [
        say("model" if trial.ours else "model_compared", name=trial.name, classes=trial.classes),
        say(
            way,
            kernels=trial.kernels,
            device=trial.device,
            precision=trial.precision,
            parts=", ".join(trial.fast),
        ),
        *(say("given_up", part=part, reason=reason) for part, reason in trial.given_up.items()),
        say("speed", read=trial.read, written=trial.written),
        say("weights", sizes=sizes, kib=trial.cache_bytes_per_token / 1024),
        say("context", positions=trial.context),
    ]
    if trial.template in ("folder", "none"):
        lines.append(say(f"template_{trial.template}"))
    else:
        lines.append(say("template_own", name=trial.template))
    if not trial.system_role:
        lines.append(say("no_system"))
    lines.append(say("prompt", prompt=json.dumps(trial.prompt, ensure_ascii=False)))
    return lines
