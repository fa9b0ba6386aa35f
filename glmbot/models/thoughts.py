"""A model's reasoning, told from its answer while both still grow. Pure text, no model.

Models that reason write `<think>…</think>` before they answer (DeepSeek-R1, Qwen3, GLM-Z1, GLM-4.5 and their
like); with some of them the prompt's template has opened it already, so that the answer begins inside.

A tag counts where it begins a line, and within a line where it stands bare: not in code, not between quotation
marks and not in a quoted line, where an answer speaks about it. Within a line it has to be closed as well: a tag
that never is, in an answer that its model ended itself, is a word of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto

__all__ = ["CLOSING", "OPENING", "Thoughts", "answer_of", "joined", "parted", "split"]

OPENING, CLOSING = "<think>", "</think>"
# What decides how an answer is read.
_SIGNS = re.compile(r"\n|`+|<")
_FENCE = re.compile(r"[\s>]*(?:(?:[-*+]|\d{1,9}[.)])\s+)*(?P<marks>`{3,}|~{3,})(?P<info>.*)", re.DOTALL)
_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "「": "」", "『": "』", "«": "»"}
# Between two tags that are only named: "<think> and </think>", "<think>…</think>".
_NAMED = re.compile(r"[\s.…,，、/|&+-]*(?:and|or|to|和|与|或|到|至)?[\s.…,，、/|&+-]*")
_INDENTED = re.compile(r"[ ]{4}|[ ]{0,3}\t")


class _State(Enum):
    ANSWER = auto()
    THOUGHT = auto()
    PERHAPS = auto()
    """Behind an opening tag within a line: it depends on whether it is closed."""


@dataclass(slots=True)
class Thoughts:
    """One growing text, read once. What was handed out as answer or thought is the beginning of what is handed out
    later, with one exception: a closing tag on a line's end that nothing opened tells that all before it was a
    thought.

    inside: the text begins in a thought. known: so many of the first characters are answer, whatever stands there.
    """

    inside: bool = False
    known: int = 0
    _raw: str = ""
    _at: int = 0
    """All before is decided."""
    _state: _State = field(init=False)
    _begun: int = 0
    """Where the piece of the answer, or the thought, that `_at` is in begins; for PERHAPS its tag."""
    _answer: str = ""
    _leads: bool = False
    """A thought came before the answer's first word."""
    _thoughts: list[str] = field(default_factory=list[str])
    _line: int = 0
    """Where the line that `_at` is in begins."""
    _ticks: int = 0
    """Of the code in this line that `_at` is in."""
    _fence: str = ""
    _words_to: int = 0
    """Tags before are words."""
    _speaks: bool = False
    """An opening tag was a word: so is a closing one that opens nothing."""

    def __post_init__(self) -> None:
        self._state = _State.THOUGHT if self.inside else _State.ANSWER
        self._words_to, self._leads = self.known, self.inside

    def read(self, text: str) -> tuple[str, str]:
        """text: all of it so far, which begins with what was read before. Returns the thought and the answer."""
        self._raw = text
        self._advance(ended=False)
        answer, thoughts = self._answer, self._thoughts
        if self._state is _State.ANSWER:
            answer += text[self._begun : self._at]
        elif self._state is _State.THOUGHT:
            thoughts = [*thoughts, _without_opening(text[self._begun : self._at])]
        answer = self._from_first_word(answer)
        return joined(*thoughts), "" if answer.isspace() else answer

    def end(self, text: str, *, cut: bool = False) -> tuple[str, str]:
        """text: the whole of it. cut: its model did not end it."""
        self._raw = text
        self._advance(ended=False)
        if self._state is _State.ANSWER:
            if cut and _is_piece(text[self._at :]):
                self._raw = text[: self._at]
            self._advance(ended=True)
        elif not cut or text.endswith(CLOSING):
            self._advance(ended=True)
        answer, thoughts = self._answer, self._thoughts
        if self._state is _State.ANSWER:
            answer += self._raw[self._begun :]
        else:
            start = self._begun + (len(OPENING) if self._state is _State.PERHAPS else 0)
            thoughts = [*thoughts, _without_opening(text[start : self._at])]
        return joined(*thoughts), self._from_first_word(answer)

    def _from_first_word(self, answer: str) -> str:
        return answer.lstrip() if self._leads else answer

    # ---- reading on ------------------------------------------------------------------------------------------

    def _advance(self, *, ended: bool) -> None:
        """Decide as much as can be decided."""
        while True:
            before = self._at, self._state
            if self._state is _State.ANSWER:
                self._in_answer(ended)
            else:
                self._in_thought(ended)
            if (self._at, self._state) == before:
                return

    def _in_answer(self, ended: bool) -> None:
        """Up to the next sign, or the next tag."""
        raw = self._raw
        sign = _SIGNS.search(raw, self._at)
        if sign is None:
            self._at = len(raw)
        elif sign[0] == "\n":
            self._end_line(sign.start())
        elif sign[0] == "<":
            self._at = sign.start()
            self._tag(ended)
        elif sign.end() < len(raw) or ended:
            self._code(sign)
        else:
            # More of them may come.
            self._at = sign.start()

    def _end_line(self, end: int) -> None:
        line = self._raw[self._line : end]
        fence = _FENCE.fullmatch(line)
        if fence is not None and not self._fence and not (fence["marks"][0] == "`" and "`" in fence["info"]):
            self._fence = fence["marks"]
        elif fence is not None and self._fence and fence["marks"].startswith(self._fence):
            self._fence = self._fence if fence["info"].strip() else ""
        self._at = self._line = end + 1
        self._ticks = 0

    def _code(self, ticks: re.Match[str]) -> None:
        if not self._fence and self._ticks in (0, len(ticks[0])):
            # Three at the beginning of a line are a fence, which the line's end tells.
            begins = not self._raw[self._line : ticks.start()].strip() and len(ticks[0]) > 2
            self._ticks = 0 if self._ticks or begins else len(ticks[0])
        self._at = ticks.end()

    def _tag(self, ended: bool) -> None:
        """At a `<`: of a tag, of what may become one, or of none."""
        raw, at = self._raw, self._at
        if raw.startswith(OPENING, at):
            self._opening(ended)
        elif raw.startswith(CLOSING, at):
            self._closing_alone(ended)
        elif ended or not _begins_tag(raw, at):
            self._at = at + 1

    def _opening(self, ended: bool) -> None:
        raw, at = self._raw, self._at
        after = at + len(OPENING)
        before = raw[self._line : at]
        if self._is_word(before):
            self._speaks, self._at = True, after
        elif before.strip() and after == len(raw) and not ended:
            # Whether the line ends here decides.
            return
        elif not before.strip() or raw.startswith("\n", after):
            self._leave_answer()
            self._state, self._begun, self._at = _State.THOUGHT, after, after
        elif raw[after : after + 1] == _QUOTES.get(before[-1]):
            self._speaks, self._at = True, after
        else:
            self._leave_answer()
            self._state, self._begun, self._at = _State.PERHAPS, at, after

    def _is_word(self, before: str) -> bool:
        """before: of its line."""
        if self._at < self._words_to or self._fence or self._ticks or before.endswith("\\"):
            return True
        if before.lstrip(" ").startswith(">"):
            return True
        # Code may be indented, but an answer does not begin with it.
        said = self._answer or self._raw[self._begun : self._line].strip()
        return bool(said) and not before.strip() and _INDENTED.match(before) is not None

    def _closing_alone(self, ended: bool) -> None:
        """Nothing has opened it."""
        raw, at = self._raw, self._at
        after = at + len(CLOSING)
        if self._speaks or self._is_word(raw[self._line : at]):
            self._at = after
        elif after == len(raw) and not ended:
            return
        elif self._thoughts or self.known:
            # Once more than was needed.
            self._leave_answer()
            self._begin_answer(after)
        elif raw[after : after + 1] in ("", "\n"):
            self._thoughts.append((self._answer + raw[self._begun : at]).strip())
            self._answer = ""
            self._begin_answer(after)
        else:
            self._at = after

    def _in_thought(self, ended: bool) -> None:
        raw = self._raw
        end = raw.find(CLOSING, self._at)
        if end < 0:
            self._at = max(self._at, _certain(raw))
            if ended and self._state is _State.PERHAPS:
                self._take_for_word(len(raw))
            return
        after = end + len(CLOSING)
        quote = _QUOTES.get(raw[end - 1]) if end > self._begun else None
        quoted = self._state is _State.PERHAPS and _QUOTES.get(raw[self._begun - 1 : self._begun])
        if (quote or quoted) and after == len(raw) and not ended:
            # Whether it is only named depends on what follows.
            self._at = end
        elif quote and raw.startswith(quote, after):
            self._at = after
        elif self._state is _State.PERHAPS and (
            (quoted and raw.startswith(quoted, after))
            or _NAMED.fullmatch(raw, self._begun + len(OPENING), end)
        ):
            self._take_for_word(after)
        else:
            start = self._begun + (len(OPENING) if self._state is _State.PERHAPS else 0)
            self._thoughts.append(_without_opening(raw[start:end]))
            self._begin_answer(after)

    def _take_for_word(self, upto: int) -> None:
        """The tag that may have opened a thought, and what is before `upto`."""
        self._state, self._words_to = _State.ANSWER, max(self._words_to, upto)
        self._at = self._begun + len(OPENING)

    def _leave_answer(self) -> None:
        self._answer += self._raw[self._begun : self._at]

    def _begin_answer(self, at: int) -> None:
        """Behind a closing tag. What follows begins a line, as far as tags and code go."""
        self._leads = self._leads or not self._answer.strip()
        self._state, self._begun, self._at, self._line = _State.ANSWER, at, at, at
        self._ticks, self._fence = 0, ""


def _without_opening(thought: str) -> str:
    """A template has opened it, and the model once more."""
    return thought.strip().removeprefix(OPENING).strip()


def _begins_tag(raw: str, at: int) -> bool:
    """Whether all that is there from `at` on is the beginning of a tag."""
    left = raw[at : at + len(CLOSING)]
    return at + len(left) == len(raw) and (OPENING.startswith(left) or CLOSING.startswith(left))


def _is_piece(left: str) -> bool:
    """Of a tag, at the end of what was cut."""
    return left != "" and left != CLOSING and (OPENING.startswith(left) or CLOSING.startswith(left))


def _certain(raw: str) -> int:
    """How much of a thought is before what may be the beginning of a tag."""
    at = raw.rfind("<", max(0, len(raw) - len(CLOSING) + 1))
    return at if at >= 0 and _begins_tag(raw, at) else len(raw)


def joined(*thoughts: str) -> str:
    """Several thoughts, one below the other."""
    return "\n\n".join(each for each in thoughts if each)


def split(text: str, *, inside: bool = False, cut: bool = False) -> tuple[str, str]:
    """The thought and the answer of a whole text. cut: its model did not end it."""
    return Thoughts(inside).end(text, cut=cut)


def parted(thought: str, answer: str) -> tuple[str, str]:
    """Of a turn that is stored: answers of before thoughts were kept apart have them in their text."""
    within, rest = split(answer) if "think>" in answer else ("", answer)
    return joined(thought, within), rest


def answer_of(text: str) -> str:
    """A whole text without its thoughts."""
    return parted("", text)[1]
