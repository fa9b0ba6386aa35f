"""What people are told, in both languages."""

from __future__ import annotations

__all__ = ["EN", "ZH"]

EN = {
    "command.mcp": "tool servers and their prompts",
    "command.mcp_ask": "ask with a prompt of a tool server",
    "mcp.ready": "{server}: connected, {tools} tools, {resources} resources",
    "mcp.connecting": "{server}: connecting…",
    "mcp.away": "{server}: away, {trouble}",
    "mcp.left_out": "left out: {what}",
    "mcp.prompt": "/mcp_ask {server} {usage}",
    "mcp.nothing": "There is nothing here that you can use.",
    "mcp.usage": "Usage: /mcp_ask SERVER PROMPT NAME=VALUE …, see /mcp.",
    "mcp.no_prompt": "There is no prompt {prompt} that you can use. See /mcp.",
    "mcp.missing": "This prompt needs: {names}.",
    "mcp.unknown": "This prompt has no {names}. It takes: {known}.",
    "mcp.failed": "The server {server} has not given the prompt: {why}",
    "mcp.empty": "The server {server} has given an empty prompt.",
    "mcp.asks": "{server} asks: {question}",
    "mcp.yes": "Yes",
    "mcp.no": "No",
    "mcp.decline": "✗ Don't answer",
}
ZH = {
    "command.mcp": "工具服务器及其提示词",
    "command.mcp_ask": "用工具服务器的提示词提问",
    "mcp.ready": "{server}：已连接，{tools} 个工具，{resources} 个资源",
    "mcp.connecting": "{server}：正在连接……",
    "mcp.away": "{server}：未连接，{trouble}",
    "mcp.left_out": "未采用：{what}",
    "mcp.prompt": "/mcp_ask {server} {usage}",
    "mcp.nothing": "这里没有你可以使用的内容。",
    "mcp.usage": "用法：/mcp_ask 服务器 提示词 名称=值 ……，详见 /mcp。",
    "mcp.no_prompt": "没有你可以使用的提示词 {prompt}，详见 /mcp。",
    "mcp.missing": "这个提示词还需要：{names}。",
    "mcp.unknown": "这个提示词没有参数 {names}，可用的有：{known}。",
    "mcp.failed": "服务器 {server} 没有给出提示词：{why}",
    "mcp.empty": "服务器 {server} 给出的提示词是空的。",
    "mcp.asks": "{server} 询问：{question}",
    "mcp.yes": "是",
    "mcp.no": "否",
    "mcp.decline": "✗ 不回答",
}
