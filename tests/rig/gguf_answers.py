"""The demo model's GGUF file, and that file made anew in other types by llama.cpp's own quantiser, read by glmbot and
by llama.cpp's server: what do both answer greedily?

    python tests/rig/gguf_answers.py [TYPE ...]

Both get the same tokens, and may draw 16, without penalties. Two numbers are printed: of the answers, how many are the
same to the end; of the tokens drawn after the same tokens, up to the first that differs, how many are the same. The
second one passes from 95 % on. The first one says less than it seems: each rounds activations to 8 bits, and in a model
so small a rounding decides between two words now and then. llama.cpp with its cache in float32 and without flash
attention gives 32 of 40 of its own answers again (Q4_1).
`engines` of bench/ brings llama.cpp's packages, in environments of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests")]

from engines import demo_gguf, llama_server  # noqa: E402

from glmbot.engine.attention import ATTENTION_NAME, register_attention  # noqa: E402
from glmbot.engine.base import Sampling  # noqa: E402
from glmbot.engine.placement import Placement  # noqa: E402
from glmbot.engine.precision import chosen_precision  # noqa: E402
from glmbot.engine.runner import LEAST_CACHE_TOKENS, ModelRunner  # noqa: E402
from glmbot.engine.scheduler import Scheduler  # noqa: E402
from glmbot.models.base import ChatFormat  # noqa: E402
from glmbot.models.registry import load  # noqa: E402

TYPES = ("Q4_1", "Q4_0", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K", "F16")
NEW_TOKENS = 16
WANTED = 0.95
_PREFILL_TOKENS = 512
_SUBJECTS = (
    "the sea", "a lighthouse", "black holes", "bread", "the Roman Empire", "photosynthesis", "chess", "volcanoes",
    "the printing press", "bees", "jazz", "prime numbers", "the Great Wall", "coffee", "vaccines", "glaciers",
    "Shakespeare", "solar power", "the human heart", "earthquakes", "whales", "the stock market", "origami",
    "steam engines", "the moon", "rice", "democracy", "penicillin", "deserts", "the violin", "comets", "silk",
    "the alphabet", "tea", "magnets", "forests", "the Olympics", "rainbows", "DNA", "bridges",
)  # fmt: skip
_QUESTIONS = ("What is {}?", "Write a short poem about {}.", "Why is {} important?")
_BEGINNINGS = ("In the year 1987, a book about {} said that", "Three facts about {}:\n1.")


def prompts(chat: ChatFormat) -> list[list[int]]:
    """200: questions in the model's own template, and plain texts to go on with."""
    made: list[list[int]] = []
    for subject in _SUBJECTS:
        made += [chat.encode_chat("", (), question.format(subject)) for question in _QUESTIONS]
        made += [chat.encode_text(beginning.format(subject)) for beginning in _BEGINNINGS]
    return made


class Ours:
    """glmbot's engine with the file at the precision that it has."""

    def __init__(self, path: Path) -> None:
        register_attention()
        model = load(path, ATTENTION_NAME)
        placement = Placement(torch.device("cpu"))
        self.precision = chosen_precision(None, model.module, model.checkpoint, placement.device)
        self.runner = ModelRunner(
            model, placement=placement, precision=self.precision, cache_tokens=LEAST_CACHE_TOKENS
        )
        self.chat_format = model.chat_format

    def answer(self, prompt: Sequence[int]) -> list[int]:
        """Up to 16 tokens; those that end an answer are left out."""
        runner = self.runner
        sampling = Sampling(max_tokens=NEW_TOKENS, temperature=0)
        sequence = runner.sequence(1, "", list(prompt), sampling, arrival=0.0)
        scheduler = Scheduler(runner.allocator, max_batch=1, prefill_tokens=_PREFILL_TOKENS)
        scheduler.add(sequence)
        drawn: list[int] = []
        while len(drawn) < NEW_TOKENS:
            (chunk,) = scheduler.schedule()
            logits = runner.step([chunk])
            draws = chunk.draws
            sequence.computed += chunk.length
            if not draws:
                continue
            token = int(logits[0].argmax())
            if token in runner.model.stop_tokens:
                break
            sequence.tokens.append(token)
            drawn.append(token)
        scheduler.remove(sequence)
        return drawn


def until_they_part(ours: Sequence[int], theirs: Sequence[int]) -> tuple[int, int]:
    """How many tokens are the same, and how many were compared: where one ends, the other's end counts as a token."""
    same = 0
    for mine, other in zip_longest(ours, theirs):
        if mine != other:
            return same, same + 1
        same += 1
    return same, same


def compare(kind: str) -> tuple[int, int]:
    """How many tokens are the same, of how many. Raises RuntimeError where a peer can't be had."""
    path = demo_gguf(kind)
    if path is None:
        raise RuntimeError(f"no {kind}: llama.cpp's quantiser can't be had")
    ours = Ours(path)
    asked = prompts(ours.chat_format)
    # One thread: those of a step wait for each other, and for long where others compute too.
    torch.set_num_threads(1)
    server = llama_server(path, slots=1, threads=1)
    if server is None:
        raise RuntimeError("llama.cpp's server can't be had")
    server.start()
    try:
        answers = same = compared = 0
        for number, prompt in enumerate(asked, 1):
            answer = server.ask(prompts=[prompt], new_tokens=[NEW_TOKENS], ignore_eos=False)["requests"][0]
            alike, of = until_they_part(ours.answer(prompt), answer["drawn"])
            answers += alike == of
            same, compared = same + alike, compared + of
            if number % 40 == 0 or number == len(asked):
                print(
                    f"     {kind} as {ours.precision}: {answers} of {number} answers and {same} of {compared} tokens"
                    " are llama.cpp's",
                    flush=True,
                )
    finally:
        server.close()
    return same, compared


def main() -> int:
    failed = 0
    for kind in sys.argv[1:] or TYPES:
        same, count = compare(kind)
        failed += same < WANTED * count
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
