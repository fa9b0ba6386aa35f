"""EleutherAI's lm-eval scores a task of its own through POST /v1/completions of `glmbot serve`, and each likelihood
that it was told is held against Transformers' float32 log-softmax of the same weights.

    python tests/rig/lm_eval_scores.py PYTHON

PYTHON is that of an environment with lm_eval. The demo model is served in float32, and nothing is downloaded.
Ends with status 0 when all agree within 1e-3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from glmbot.models.demo import NAME

sys.path[:0] = [str(Path(__file__).parent.parent)]
from rig.served import serving  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
MODEL = ROOT / ".glmbot" / "models" / NAME
WITHIN = 1e-3
SCORES_S = 300.0

QUESTIONS: Sequence[tuple[str, Sequence[str], int]] = (
    ("The capital of France is", [" Paris.", " a river in Peru.", " 42."], 0),
    ("Two and two is", [" four.", " seven.", " the colour blue."], 0),
    ("Bees make", [" steel", " honey", " thunderstorms"], 1),
    ("The sun rises in the", [" east and sets in the west.", " kitchen.", " west."], 0),
    ("def add(a, b):\n    return", [" a + b\n", " print", " None + None"], 0),
    ("中国的首都是", ["北京。", "一条河。", "四十二。"], 0),
    ("Once upon a time there was a little girl. " * 12 + "She", [" lived", " 7 7 7", " xylophone"], 0),
    ("Emoji 🙂 and ünïcödé:", [" fine 🎉", " no", " …"], 0),
)
TASK = """\
task: glmbot_rig
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
"""


def main(python: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with serving(home, '[model]\nprecision = "fp32"', "--model", str(MODEL)) as url:
            scored = evaluate(python, home, url)
    expected = [likelihood(context, ending) for context, ending, _ in scored]
    apart = [abs(told - mine) for (_, _, told), mine in zip(scored, expected, strict=True)]
    for (context, ending, told), mine in zip(scored, expected, strict=True):
        if not abs(told - mine) < WITHIN:
            print(f"{context[-20:]!r} + {ending!r}: {told:.5f} was told, and Transformers says {mine:.5f}")
    wanted = sum(len(choices) for _, choices, _ in QUESTIONS)
    print(f"{len(scored)} of {wanted} endings scored; the largest difference is {max(apart):.1e}")
    return 0 if len(scored) == wanted and max(apart) < WITHIN else 1


def evaluate(python: str, home: Path, url: str) -> list[tuple[str, str, float]]:
    """Contexts, what followed, and how likely lm-eval was told that it was."""
    lines = [
        json.dumps({"question": question, "choices": choices, "answer": answer}, ensure_ascii=False)
        for question, choices, answer in QUESTIONS
    ]
    (home / "questions.jsonl").write_text("\n".join(lines), "utf-8")
    (home / "tasks").mkdir()
    (home / "tasks" / "glmbot_rig.yaml").write_text(TASK.format(file=home / "questions.jsonl"))
    options = f"model=any,base_url={url}/v1/completions,tokenizer={MODEL},tokenizer_backend=huggingface,num_concurrent=2"
    subprocess.run(
        [
            python, "-m", "lm_eval", "--model", "local-completions", "--model_args", options, "--tasks", "glmbot_rig",
            "--include_path", str(home / "tasks"), "--output_path", str(home / "out"), "--log_samples",
        ],
        check=True,
        timeout=SCORES_S,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(home / "cache"), "OPENAI_API_KEY": "none"},
    )  # fmt: skip
    found: list[tuple[str, str, float]] = []
    for file in (home / "out").rglob("samples_*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            sample: Any = json.loads(line)
            asked: list[Any] = list(cast(dict[str, Any], sample["arguments"]).values())
            for argument, told in zip(asked, sample["resps"], strict=True):
                found.append((argument["arg_0"], argument["arg_1"], float(told[0][0])))
    return found


def likelihood(context: str, ending: str) -> float:
    """As lm-eval has it: the tokens of the whole text behind as many as the context has."""
    tokenizer: Any = AutoTokenizer.from_pretrained(MODEL)
    start = len(tokenizer.encode(context))
    tokens = torch.tensor([tokenizer.encode(context + ending)])
    with torch.inference_mode():
        logits = model()(tokens).logits[0].float()
    scores = torch.log_softmax(logits, -1)[:-1].gather(-1, tokens[0, 1:, None])
    return float(scores[start - 1 :].sum())


@cache
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
