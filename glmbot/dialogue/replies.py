"""Replies that the bot makes of a line of its own, of the model's progress, or of what is stored."""

from __future__ import annotations

from dataclasses import replace

from glmbot import i18n
from glmbot.engine.base import FinishReason, Progress
from glmbot.messages import Action, Reply, ReplyState, Usage
from glmbot.store.records import StoredAnswer

__all__ = ["failed", "kept", "notice", "snapshot", "stopped", "stored_reply", "with_actions"]

# Characters of a thought.
_LONGEST_THOUGHT = 32_000


def notice(language: str, key: str, **values: object) -> Reply:
    return Reply("", ReplyState.FINAL, i18n.text(language, key, **values))


def failed(language: str, key: str, **values: object) -> Reply:
    return Reply("", ReplyState.FAILED, i18n.text(language, key, **values))


def stopped(language: str) -> Reply:
    return Reply("", ReplyState.STOPPED, i18n.text(language, "answer.stopped"))


def snapshot(progress: Progress) -> Reply:
    if progress.place is not None:
        return Reply("", ReplyState.QUEUED, place=progress.place)
    return Reply(
        progress.text,
        ReplyState.STREAMING if progress.finish is None else ReplyState.FINAL,
        finish_reason=None if progress.finish is None else str(progress.finish),
        usage=Usage(progress.prompt_tokens, progress.completion_tokens),
        thought=progress.thought,
    )


def kept(reply: Reply) -> StoredAnswer:
    """What the store keeps of the end of an answer: its words, and of a long thought the beginning and the end."""
    thought, half = reply.thought, _LONGEST_THOUGHT // 2
    if len(thought) > _LONGEST_THOUGHT:
        thought = f"{thought[:half]}\n…\n{thought[-half:]}"
    return StoredAnswer(reply.text, reply.state, reply.notice, reply.finish_reason or "", thought)


def stored_reply(stored: StoredAnswer) -> Reply:
    return Reply(
        stored.text,
        ReplyState(stored.state),
        stored.notice,
        finish_reason=stored.finish_reason or None,
        thought=stored.thought,
    )


def with_actions(reply: Reply, language: str) -> Reply:
    """The commands that make sense under this snapshot."""

    def actions(*names: str) -> tuple[Action, ...]:
        return tuple(Action(name, i18n.text(language, f"button.{name}")) for name in names)

    if not reply.state.ended:
        # What is asked meanwhile has its own.
        return replace(reply, actions=(*reply.actions, *actions("stop")))
    if not reply.text or reply.state is ReplyState.FAILED:
        return reply
    unfinished = reply.state is ReplyState.STOPPED or reply.finish_reason in (
        FinishReason.LENGTH,
        FinishReason.DEADLINE,
    )
    return replace(reply, actions=actions("retry", "continue") if unfinished else actions("retry"))
