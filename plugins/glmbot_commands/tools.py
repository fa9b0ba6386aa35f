"""/tools: what the model may have done here. Administrators decide it; who is asked about a call answers."""

from __future__ import annotations

from glmbot.host import Call, Command
from glmbot.messages import ChatKind, Reply, Role
from glmbot_commands.arguments import bad_user, echo

__all__ = ["COMMAND"]

_ANSWERS = frozenset({"yes", "no", "here"})
_RIGHTS = frozenset({"never", "ask", "allow", "reset"})
_LONGEST_LIST = 3000


async def _tools(call: Call) -> Reply:
    verb, _, rest = call.argument.partition(" ")
    verb, rest = verb.lower(), rest.strip()
    if not verb:
        return await _list(call)
    if verb in _ANSWERS or (verb.isascii() and verb.isdigit()):
        return call.say(await call.bot.answer_tool(call.message, call.role, rest, verb))
    if verb == "say":
        return call.say("tools.told" if call.bot.tell_tool(call.message, rest) else "tools.gone")
    if verb == "show":
        words = await call.bot.tool_asked(call.message, rest)
        return (
            Reply("", call.say("tools.gone").state, words[:_LONGEST_LIST])
            if words
            else call.say("tools.gone")
        )
    return await _decide(call, verb, rest) if verb in _RIGHTS else call.say("tools.usage")


async def _list(call: Call) -> Reply:
    tools = await call.bot.tools(call.message)
    if not tools:
        return call.say("tools.none")
    lines = [call.text("tools.line", name=each.name, title=each.title, right=each.right) for each in tools]
    words = "\n".join((call.text("tools.list"), *lines))
    return Reply("", call.say("tools.none").state, words[:_LONGEST_LIST])


async def _decide(call: Call, verb: str, rest: str) -> Reply:
    """For this chat, or for a person in it."""
    name, _, who = rest.partition(" ")
    known = {each.name: each for each in await call.bot.tools(call.message)}
    if not name or (name not in known and verb != "reset"):
        return call.say("tools.unknown", name=echo(name) or "–") if name else call.say("tools.usage")
    chat = call.message.chat
    person = call.bot.user_named(who.strip(), call.message) if who.strip() else None
    if who.strip() and person is None:
        return bad_user(call, who.strip())
    right = "" if verb == "reset" else verb
    try:
        done = await call.bot.set_tool(person or chat, name, right, where=chat if person else None)
    except ValueError:
        return call.say("tools.full", owner=person or chat)
    if not done:
        return call.say("tools.unknown", name=echo(name))
    return call.say("tools.set", name=name, right=verb, owner=person or chat)


def _role_for(argument: str, chat_kind: ChatKind) -> Role:
    return Role.ADMIN if argument.partition(" ")[0].lower() in _RIGHTS else Role.USER


COMMAND = Command("tools", _tools, argument="NAME", role_for=_role_for, rank=85)
