"""/model: show or choose the model that answers."""

from __future__ import annotations

from glmbot.bot import Load, ModelHere, words_for
from glmbot.errors import ModelUnavailable
from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, ReplyState
from glmbot_commands.arguments import echo

__all__ = ["COMMAND", "line", "load_of", "unavailable", "unknown"]

_BACK = "default"


async def _model(call: Call) -> Reply:
    here = await call.bot.model_here(call.message, call.role)
    if not call.argument:
        return _listed(call, here)
    if not here.may_choose:
        private = call.message.chat_kind is ChatKind.PRIVATE
        return call.say("model.closed" if private else "command.admin_only", name="model")
    name = call.bot.model_named(call.argument)
    if name is None and call.argument.lower() == _BACK:
        await call.bot.choose_model(call.message, "")
        return call.say("model.back", model=here.default)
    if name is None:
        return unknown(call, call.argument)
    try:
        await call.bot.choose_model(call.message, name)
    except ModelUnavailable as error:
        return unavailable(call, error)
    loaded = load_of(call, name).loaded
    return call.say("model.chosen" if loaded else "model.chosen_later", model=name)


def _listed(call: Call, here: ModelHere) -> Reply:
    lines = [call.text("model.title", model=here.name)]
    lines += [f"• {line(call, load)}" for load in call.bot.loads()]
    if here.gone:
        lines.append(call.text("model.gone", model=here.gone, default=here.name))
    if here.may_choose:
        lines.append(call.text("model.how", default=here.default))
    return Reply("", ReplyState.FINAL, "\n".join(lines))


def line(call: Call, load: Load) -> str:
    """A model in one line."""
    if load.loading is not None:
        return call.text("model.line_loading", model=load.model, share=load.loading)
    if load.trouble:
        return call.text("model.line_trouble", model=load.model)
    if not load.loaded:
        return call.text("model.line_not_loaded", model=load.model)
    return call.text(
        "model.line_loaded",
        model=load.model,
        precision=load.precision,
        running=load.running,
        waiting=load.waiting,
        megabytes=load.memory_bytes / 1_000_000,
    )


def load_of(call: Call, name: str) -> Load:
    return next(load for load in call.bot.loads() if load.model == name)


def unavailable(call: Call, error: ModelUnavailable) -> Reply:
    """What to say of a model that can't be had."""
    key, values = words_for(error)
    return call.fail(key, **values)


def unknown(call: Call, given: str) -> Reply:
    """What to say of a model that there is not."""
    names = ", ".join(load.model for load in call.bot.loads())
    return call.say("model.unknown", given=echo(given), names=names)


COMMAND = Command("model", _model, argument="NAME|default", rank=105)
