"""`glmbot run` with a ChatGLM folder as published, in Chinese, on Telegram."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from adapters.waiting import letters
from chatglm_folder import GENERATIONS, Generation, write_chatglm_folder
from glmbot.models.base import ChatTurn
from glmbot.models.chatglm.family import register_chatglm
from glmbot.models.registry import load
from platforms.telegram_server import TOKEN, TelegramServer
from program import Program

ANSWER_TOKENS = 40
QUESTIONS = ["你好，请介绍一下北京。", "什么是机器学习？\n\n谢谢！"]


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_published_folder_is_served_to_a_telegram_conversation_in_chinese(
    generation: Generation, tmp_path: Path
) -> None:
    folder = write_chatglm_folder(tmp_path / generation, generation)
    expected = _by_transformers(folder)
    telegram = TelegramServer(seconds_per_message=0.02)
    await telegram.start()
    config, log = tmp_path / "config.toml", tmp_path / "log.txt"
    config.write_text(
        f"[telegram]\napi_base_url = '{telegram.url}'\nedit_interval_s = 0.03\n"
        "[access]\nadmins = ['telegram:7']\n"
        f"[model]\npath = '{folder}'\nmax_answer_tokens = {ANSWER_TOKENS}\nprecision = 'fp32'\n"
        "[sampling]\ntemperature = 0.0\n"
    )

    def texts() -> list[str]:
        return telegram.texts(7)

    with log.open("w") as output:
        process = Program(
            "run",
            "--config",
            str(config),
            cwd=tmp_path,
            environment={"GLMBOT_TELEGRAM__TOKEN": TOKEN},
            output=output,
        )
    try:

        async def until(holds: Callable[[], bool]) -> None:
            for _ in range(6000):
                if holds():
                    return
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.01)
            raise AssertionError(f"{texts()}\n{log.read_text()[-3000:]}")

        for number, question in enumerate(QUESTIONS):
            await telegram.say(question, language="zh-hans")
            answer = letters(expected[number])
            await until(lambda number=number, answer=answer: answer in letters("".join(texts()[number:])))
        await telegram.say("/precision int4", language="zh-hans")
        await until(lambda: "int4" in texts()[-1] and "MB" in texts()[-1])
        await telegram.say("再见", language="zh-hans")
        await until(lambda: len(texts()) == 4 and f"达到了 {ANSWER_TOKENS} 个 token 的上限" in texts()[-1])
        await telegram.say("/context", language="zh-hans")
        await until(lambda: len(texts()) == 5 and "其中有 3 轮" in texts()[-1])
    finally:
        process.terminate()
        assert await asyncio.to_thread(process.wait) == 0
    await telegram.stop()
    assert telegram.violations == []
    assert "Traceback" not in log.read_text()


def _by_transformers(folder: Path) -> list[str]:
    """The same conversation, greedily, by Transformers' generate on the published classes."""
    register_chatglm()
    opened = load(folder, "sdpa")
    chat = opened.chat_format
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    turns: list[ChatTurn] = []
    for question in QUESTIONS:
        prompt = torch.tensor([chat.encode_chat("", turns, question)])
        ids = model.generate(
            input_ids=prompt,
            max_new_tokens=ANSWER_TOKENS,
            do_sample=False,
            eos_token_id=list(opened.stop_tokens),
        )
        answer = chat.finish_text(chat.decode(ids[0, prompt.shape[1] :].tolist()))
        assert len(answer) > 20
        turns.append(ChatTurn(question, answer))
    return [turn.answer for turn in turns]
