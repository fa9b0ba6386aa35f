// What tools did: a page of the log at a time, looked up when somebody asks for it.

import { $, ask, say } from "/static/words.js";

let before = "";
let shown = null;

export async function lookAtLog(fill, tell) {
  try {
    const matching = encodeURIComponent($("log-matching").value.trim());
    const page = await ask(`/api/admin/tools?before=${encodeURIComponent(before)}&matching=${matching}`);
    if (page === null) return;
    shown = page;
    $("log-all").href = `/api/admin/tools/all?matching=${matching}`;
    drawLog(fill);
  } catch (error) {
    tell(error.message, true);
  }
}

export function drawLog(fill) {
  if (shown === null) return;
  fill("log-rows", shown.calls, (call) => [
    new Date(call.at * 1000).toLocaleString(), call.user, call.conversation, call.tool, call.digest, call.outcome,
  ], say("noCalls"));
  $("log-first").hidden = !before;
  $("log-next").hidden = !shown.before;
}

export function setUpLog(fill, tell) {
  const turn = (to) => { before = to; lookAtLog(fill, tell); };
  $("log-filter").addEventListener("submit", (event) => { event.preventDefault(); turn(""); });
  $("log-first").addEventListener("click", () => turn(""));
  $("log-next").addEventListener("click", () => turn(shown.before));
  lookAtLog(fill, tell);
}
