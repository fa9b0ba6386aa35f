"""The chat formats of ChatGLM2-6B (rounds in Chinese words) and ChatGLM3-6B (roles as tokens)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from glmbot.models.base import ChatMessage, ChatTurn, Speaker
from glmbot.models.calls.lines import NameAndCode
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.chatglm.year import filled, open_end
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.models.tokenizer_format import TokenizerFormat
from glmbot.tools import ToolDescription

__all__ = ["GENERATION_DEFAULTS", "ChatGLM2ChatFormat", "ChatGLM3ChatFormat"]

GENERATION_DEFAULTS = {"do_sample": True, "top_p": 0.8, "temperature": 0.8}

_CALLS = NameAndCode()
_TOLD = "Answer the following questions as best as you can. You have access to the following tools:"


class _Format(TokenizerFormat[ChatGLM2Tokenizer]):
    def finish_text(self, text: str) -> str:
        return filled(text.strip())

    def settled(self, text: str) -> int:
        return len(text) - open_end(text)


class ChatGLM2ChatFormat(_Format):
    """See `glmbot.models.base.ChatFormat`."""

    stop_pieces: tuple[str, ...] = ()

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        """The format knows no system role, so a system prompt stands in front of all."""
        prompt = f"{system}\n\n" if system else ""
        for number, turn in enumerate(turns, 1):
            prompt += f"[Round {number}]\n\n问：{turn.question}\n\n答：{turn.answer}\n\n"
        prompt += f"[Round {len(turns) + 1}]\n\n问：{question}\n\n答："
        return self._tokenizer.build_inputs_with_special_tokens(self._tokenizer.encode_text(prompt))


class ChatGLM3ChatFormat(_Format):
    """See `glmbot.models.base.ChatFormat`."""

    stop_pieces = ("<|user|>", "<|observation|>")
    takes_system = True

    @property
    def call_syntax(self) -> CallSyntax:
        """See `glmbot.models.base.KnowsTools`."""
        return _CALLS

    @property
    def special_tags(self) -> Mapping[str, int]:
        """See `glmbot.models.base.KnowsTools`."""
        return {}

    def encode_chat(self, system: str, turns: Sequence[ChatTurn], question: str) -> list[int]:
        messages = [ChatMessage(Speaker.SYSTEM, system)] if system else []
        for turn in turns:
            messages += (
                ChatMessage(Speaker.USER, turn.question),
                ChatMessage(Speaker.ASSISTANT, turn.answer),
            )
        return self.encode_dialogue([*messages, ChatMessage(Speaker.USER, question)], ())

    def encode_dialogue(self, messages: Sequence[ChatMessage], tools: Sequence[ToolDescription]) -> list[int]:
        """See `glmbot.models.base.KnowsTools`."""
        tokens: list[int] = []
        if tools:
            if messages[0].speaker is Speaker.SYSTEM:
                first, *messages = messages
                tokens += self._message("system", f"{_told(tools)}\n\n{first.text}")
            else:
                tokens += self._message("system", _told(tools))
        for message in messages:
            match message.speaker:
                case Speaker.TOOL:
                    tokens += self._message("observation", message.text)
                case Speaker.ASSISTANT:
                    if message.text or not message.calls:
                        tokens += self._message("assistant", message.text)
                    for call in message.calls:
                        code = _CALLS.code(json.loads(call.arguments))
                        tokens += self._message("assistant", code, call.name)
                case _:
                    tokens += self._message(message.speaker.value, message.text)
        tokens.append(self._tokenizer.control["<|assistant|>"])
        return self._tokenizer.build_inputs_with_special_tokens(tokens)

    def decode(self, tokens: Sequence[int]) -> str:
        """An answer may go on with a message of its own, a call: that begins a line."""
        goes_on = self._tokenizer.control["<|assistant|>"]
        runs: list[list[int]] = [[]]
        for token in tokens:
            if token == goes_on:
                runs.append([])
            else:
                runs[-1].append(token)
        return "\n".join(self._tokenizer.decode_text(run) for run in runs)

    def encode_begun(self, answer: str) -> list[int]:
        return [*self.encode_text("\n"), *self.encode_text(answer)]

    def _message(self, role: str, text: str, metadata: str = "") -> list[int]:
        # The line after the role is for metadata (a tool's name), and empty in a chat.
        encode = self._tokenizer.encode_text
        return [self._tokenizer.control[f"<|{role}|>"], *encode(f"{metadata}\n"), *encode(text)]


def _told(tools: Sequence[ToolDescription]) -> str:
    """As THUDM/ChatGLM3's tools_using_demo has it."""
    described = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in tools
    ]
    return f"{_TOLD}\n{json.dumps(described, indent=4, ensure_ascii=False)}"
