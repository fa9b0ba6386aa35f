"""An MCP server of nothing but the standard library, so that it starts at once, and can misbehave in any way.

Speaks 2025-11-25 over its input and output. Its first argument says how it misbehaves.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

HOW = sys.argv[1] if len(sys.argv) > 1 else ""
EMPTY = {"type": "object", "properties": {}}
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
READS, DESTROYS = {"readOnlyHint": True}, {"readOnlyHint": False, "destructiveHint": True}
TOOLS: list[dict[str, object]] = [
    {"name": "echo", "description": "Says it again.", "inputSchema": SCHEMA, "annotations": READS},
    {"name": "wipe", "description": "Deletes all.", "inputSchema": EMPTY, "annotations": DESTROYS},
    *(
        {"name": name, "inputSchema": EMPTY}
        for name in ("slow", "die", "fail", "env", "grow", "ask", "sample", "huge", "odd")
    ),
]
PROMPTS = [
    {"name": "greet", "description": "A greeting", "arguments": [{"name": "who", "required": True}]},
    {"name": "pair", "arguments": [{"name": "one", "required": True}, {"name": "two"}]},
]
lock = threading.Lock()
answers = {}
cancelled = set()


def say(**message):
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def called(ident, params):
    name, given = params["name"], params.get("arguments") or {}
    if name == "echo":
        return text("You said: " + given["text"])
    if name == "fail":
        return text("No luck today.", isError=True)
    if name == "env":
        return text(json.dumps({"env": dict(os.environ), "cwd": str(Path.cwd()), "pid": os.getpid()}))
    if name == "die":
        os._exit(3)
    if name == "odd":
        return {"content": [{"type": "text", "text": {"not": "text"}}], "isError": "perhaps"}
    if name == "huge":
        return text("x" * 5_000_000)
    if name == "grow":
        TOOLS[0] = {**TOOLS[0], "description": "Says it again, and to others."}
        TOOLS.append({"name": "new", "inputSchema": EMPTY})
        say(method="notifications/tools/list_changed")
        return text("grown")
    if name == "ask":
        schema = {"type": "object", "properties": {"sure": {"type": "boolean", "title": "Sure?"}}}
        say(id="e1", method="elicitation/create", params={"message": "Go on?", "requestedSchema": schema})
        while "e1" not in answers:
            time.sleep(0.005)
        return text(json.dumps(answers.pop("e1")))
    if name == "sample":
        wish = {"messages": [{"role": "user", "content": {"type": "text", "text": "Hi"}}],
                "systemPrompt": "Be short.", "maxTokens": 100_000}  # fmt: skip
        for number in ("s1", "s2"):
            say(id=number, method="sampling/createMessage", params=wish)
            while number not in answers:
                time.sleep(0.005)
        return text(json.dumps([answers.pop("s1"), answers.pop("s2")]))
    if name == "slow":
        token = params["_meta"]["progressToken"]
        for step in range(1, 100):
            say(method="notifications/progress",
                params={"progressToken": token, "progress": step, "total": 100, "message": "step\x07 by step"})  # fmt: skip
        while ident not in cancelled:
            time.sleep(0.005)
        os.write(2, b"cancelled\n")
        Path("cancelled").touch()
        return None
    raise KeyError(name)


def answer(message):
    method, params, ident = message["method"], message.get("params") or {}, message["id"]
    if method == "initialize":
        if HOW == "silent":
            return
        offers = {"tools": {"listChanged": True}, "resources": {}, "prompts": {}}
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": offers,
            "serverInfo": {"name": "tiny", "version": "1"},
        }
        say(id=ident, result=result)
    elif method == "tools/list":
        page = {"tools": TOOLS}
        if HOW == "endless":
            start = int(params.get("cursor") or 0)
            page = {
                "tools": [{"name": f"t{start + n}", "inputSchema": EMPTY} for n in range(10)],
                "nextCursor": str(start + 10),
            }
        say(id=ident, result=page)
    elif method == "resources/list":
        say(
            id=ident,
            result={"resources": [{"uri": "note://1", "name": "first"}, {"uri": "two words", "name": "bad"}]},
        )
    elif method == "resources/templates/list":
        say(id=ident, error={"code": -32601, "message": "no"})
    elif method == "resources/read":
        blob = {"uri": "note://1", "mimeType": "image/png", "blob": "QUJD"}
        say(id=ident, result={"contents": [{"uri": params["uri"], "text": "A note."}, blob]})
    elif method == "prompts/list":
        say(id=ident, result={"prompts": PROMPTS})
    elif method == "prompts/get":
        words = "Greet " + params["arguments"].get("who", "?")
        say(id=ident, result={"messages": [{"role": "user", "content": {"type": "text", "text": words}}]})
    elif method == "tools/call":
        result = called(ident, params)
        if result is not None:
            say(id=ident, result=result)
    else:
        say(id=ident, error={"code": -32601, "message": "no such method"})


if HOW == "flood":

    def flood():
        while True:
            say(method="notifications/tools/list_changed")

    threading.Thread(target=flood, daemon=True).start()
if HOW == "chatty":
    sys.stdout.write("Welcome to the server!\n{\n[]\nnull\n" + "[" * 5000 + "\n")
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "notifications/cancelled":
        cancelled.add(message["params"]["requestId"])
    elif "method" not in message:
        answers[message["id"]] = message.get("result") or message.get("error")
    elif "id" in message:
        threading.Thread(target=answer, args=(message,), daemon=True).start()
