// Tool servers: how each is, and what can be done about it. What is secret goes there and never comes back.

import { $, ask, button, element, say } from "/static/words.js";

const PANEL = "/api/admin/panels/mcp";
const EVERY_MS = 4000;
let shown = null;

async function look(fill) {
  const answer = await ask(PANEL);
  if (answer === null) return false;
  shown = answer.panel;
  drawServers(fill);
  return shown !== null;
}

export function drawServers(fill) {
  $("servers").hidden = shown === null;
  if (shown === null) return;
  // Buttons that are made anew lose the focus of who goes by keyboard.
  if (!$("server-rows").contains(document.activeElement)) {
    fill("server-rows", shown.servers, row, say("none"));
  }
  $("server-add").hidden = !shown.adds.length;
  $("server-hint").textContent = shown.adds.length ? (shown.adds.includes("command") ? "" : say("addressesOnly")) : say("addsNothing");
}

function row(server) {
  const state = element("span", "", server.on ? say(`server-${server.state}`) : say("server-off"));
  if (server.trouble) state.append(element("span", "none", ` ${server.trouble}`));
  for (const why of server.left_out) state.append(element("span", "none", ` · ${why}`));
  const where = element("span", "", server.where);
  if (server.secrets.length) where.append(element("span", "none", ` (${say("secret")}: ${server.secrets.join(", ")})`));
  const actions = element("span", "row");
  if (server.on) actions.append(button("restart", () => act({ do: "restart", name: server.name })));
  if (server.kept) {
    actions.append(button(server.on ? "switchOff" : "switchOn", () => act({ do: server.on ? "off" : "on", name: server.name })));
    actions.append(button("remove", () => confirm(say("sureRemove")) && act({ do: "remove", name: server.name })));
  } else {
    actions.append(element("span", "none", say("configured")));
  }
  return [server.name, where, state, server.tools, actions];
}

let act = () => {};

// A command's words, with quotes around those that have spaces.
const words = (line) => (line.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replace(/^"(.*)"$/, "$1"));

function wished() {
  const where = $("server-where").value.trim();
  const secrets = Object.fromEntries($("server-secrets").value.split("\n").filter((line) => line.trim()).map((line) => {
    const at = line.indexOf("=");
    return at < 0 ? [line.trim(), ""] : [line.slice(0, at).trim(), line.slice(at + 1).trim()];
  }));
  const nature = $("server-nature").value;
  const isAddress = /^https?:\/\//i.test(where);
  return {
    do: "add", name: $("server-name").value.trim(),
    server: {
      ...(isAddress ? { url: where, headers: secrets } : { command: words(where), env: secrets }),
      ...(nature ? { nature } : {}),
    },
  };
}

export function setUpServers(fill, tell) {
  act = async (wish) => {
    document.activeElement?.blur();
    try {
      const answer = await ask(PANEL, wish);
      if (answer === null) return false;
      tell(answer.notice, true);
      await look(fill);
      return true;
    } catch (error) {
      tell(error.message, true);
      return false;
    }
  };
  $("server-add").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await act(wished())) $("server-add").reset();
  });
  const again = () => look(fill).catch(() => true).then((there) => there && setTimeout(again, EVERY_MS));
  again();
}
