// The operator's page: looks every two seconds at what runs, and acts by the bot's own commands.

import { plot } from "/static/plot.js";
import { drawServers, setUpServers } from "/static/servers.js";
import { drawLog, setUpLog } from "/static/toollog.js";
import { $, ask, button, element, say, sayState, setUp } from "/static/words.js";

const EVERY_MS = 2000;
const SAID_MS = 20_000;
const MB = 1e6;
let seen = null;
// Where the page of people that is shown begins; "" is the first.
let after = "";
let lost = false;

const overviewOf = () => ask(`/api/admin/overview?after=${encodeURIComponent(after)}`);

async function look() {
  try {
    const overview = await overviewOf();
    if (overview === null) return;
    seen = overview;
    if (lost) tell("");
    lost = false;
    draw();
  } catch (error) {
    tell(error.status === 403 ? say("forbidden") : `${say("lost")} ${error.message}`);
    if (error.status === 403) return;
    lost = true;
  }
  setTimeout(look, EVERY_MS);
}

// `passes`: the words are of a moment, and do not stay.
function tell(words, passes = false) {
  $("message").textContent = words;
  clearTimeout(tell.ends);
  if (passes) tell.ends = setTimeout(() => tell(""), SAID_MS);
}

async function command(text) {
  tell(say("underWay"));
  try {
    const answer = await ask("/api/admin/command", { text });
    if (answer !== null) tell(answer.notice, true);
  } catch (error) {
    tell(error.message, true);
  }
}

function draw() {
  if (seen === null) return;
  $("model").textContent = `${seen.model} · ${seen.precision}`;
  const speed = seen.samples.at(-1)?.tokens_per_second ?? 0;
  $("tiles").replaceChildren(
    tile("running", seen.running), tile("queue", `${seen.waiting} / ${seen.queue_limit}`),
    tile("speed", speed.toFixed(0)), tile("weights", `${(seen.weight_bytes / MB).toFixed(0)} MB`),
    tile("finished", seen.finished), tile("refused", seen.refused), tile("dead", seen.dead_letters),
  );
  plot($("memory"), "memory", seen.samples.map((sample) => [sample.at, sample.memory / MB]), "MB");
  plot($("speed"), "pace", seen.samples.map((sample) => [sample.at, sample.tokens_per_second]), say("perSecond"));
  drawPrecisions();
  drawModels();
  $("switching").hidden = seen.switching === null;
  const tested = seen.switching >= 1;
  $("switched").textContent = tested ? say("testing") : `${say("switching")} ${((seen.switching ?? 0) * 100).toFixed(0)} %`;
  // How long the new weights are tried is not known.
  if (tested) $("share").removeAttribute("value"); else $("share").value = seen.switching ?? 0;
  rows("streams", seen.streams, (stream) => [
    stream.user, stream.conversation, sayState(stream.state), stream.characters, `${stream.age_s.toFixed(0)} s`,
  ], say("quiet"));
  // A limit that is being typed must not be swept away by the next look.
  if (!$("users").contains(document.activeElement)) rows("users", seen.users, userRow);
  $("first").hidden = !after;
  $("next").hidden = !seen.next_users;
  $("errors").replaceChildren(...seen.errors.toReversed().map(([at, level, text]) => {
    const item = element("li", level.toLowerCase());
    const time = element("time", "", new Date(at * 1000).toLocaleTimeString());
    item.append(time, element("pre", "", text));
    return item;
  }));
  if (!seen.errors.length) $("errors").append(element("li", "none", say("none")));
}

// Buttons that are made anew lose the focus of who goes by keyboard.
function drawPrecisions() {
  const { precisions, precision: current, switching } = seen;
  const drawn = JSON.stringify([precisions, current, switching !== null]);
  if ($("precisions").dataset.drawn === drawn) return;
  $("precisions").dataset.drawn = drawn;
  $("precisions").replaceChildren(...precisions.map((precision) => {
    const made = button(precision, () => command(`/precision ${precision}`).then(look1), precision === current ? "primary" : "");
    made.setAttribute("aria-pressed", String(precision === current));
    made.disabled = switching !== null;
    return made;
  }));
}

// Of one model the tiles and the buttons above say all. The default's precision has its buttons there too.
function drawModels() {
  const models = seen.models || [];
  $("several").hidden = models.length < 2;
  if ($("models").contains(document.activeElement)) return;
  rows("models", models, (model) => [
    model.name, stateOf(model), model.running, model.waiting, `${(model.bytes / MB).toFixed(0)} MB`, precisionsOf(model),
  ]);
  $("budget").textContent = seen.memory_budget ? `${say("budget")} ${(seen.memory_budget / MB).toFixed(0)} MB` : "";
}

function stateOf(model) {
  if (model.share !== null) return `${say("loading")} ${(model.share * 100).toFixed(0)} %`;
  if (model.trouble) return say("unloadable");
  return say(model.loaded ? "loaded" : "notLoaded");
}

function precisionsOf(model) {
  if (!model.loaded) return "";
  if (!model.precisions.length || model.switching !== null) return model.precision;
  const row = element("span", "row");
  row.append(...model.precisions.map((precision) => {
    const made = button(precision, () => command(`/precision ${model.name} ${precision}`).then(look1), precision === model.precision ? "primary" : "");
    made.setAttribute("aria-pressed", String(precision === model.precision));
    return made;
  }));
  return row;
}

function tile(key, value) {
  const made = element("div", "tile");
  made.append(element("span", "value", String(value)), element("span", "label", say(key)));
  return made;
}

function userRow(user) {
  const limit = element("input");
  limit.type = "number";
  limit.min = "0";
  limit.value = user.hourly_limit ?? "";
  limit.placeholder = "–";
  limit.title = say("limitHint");
  limit.setAttribute("aria-label", `${say("limit")} ${user.user}`);
  const set = button("setLimit", () => { limit.blur(); command(`/limit ${user.user} ${limit.value || "off"}`).then(look1); });
  const limits = element("span", "row");
  limits.append(limit, set);
  const actions = element("span", "row");
  if (user.access !== "user" && user.access !== "admin") actions.append(button("allow", () => command(`/allow ${user.user}`).then(look1)));
  if (user.access !== "blocked") actions.append(button("block", () => command(`/block ${user.user}`).then(look1)));
  const standing = user.access && say(`access-${user.access}`);
  const access = user.code ? `${standing} (${say("code")} ${user.code})` : standing;
  return [user.user, user.name, access, user.asked_this_hour, limits, actions];
}

async function look1() {
  document.activeElement?.blur();
  const overview = await overviewOf();
  if (overview !== null) { seen = overview; draw(); }
}

function rows(id, entries, cells, nothing = say("nobody")) {
  $(id).replaceChildren(...entries.map((entry) => {
    const row = element("tr");
    for (const cell of cells(entry)) {
      const made = element("td");
      made.append(cell instanceof Node ? cell : String(cell ?? ""));
      row.append(made);
    }
    return row;
  }));
  if (!entries.length) {
    const cell = element("td", "none", nothing);
    cell.colSpan = $(id).parentElement.tHead.rows[0].cells.length;
    const row = element("tr");
    row.append(cell);
    $(id).append(row);
  }
}

const turn = (to) => { after = to; look1().catch((error) => tell(error.message, true)); };
$("first").addEventListener("click", () => turn(""));
$("next").addEventListener("click", () => turn(seen.next_users));
$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("added").value) command(`/allow ${$("added").value}`).then(look1);
  $("added").value = "";
});
$("broadcast").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = $("words").value.trim();
  if (!words || !confirm(say("sureSay"))) return;
  command(`/broadcast ${words}`);
  $("words").value = "";
});
$("reload").addEventListener("click", () => command("/reload"));
setUp(() => { draw(); drawServers(rows); drawLog(rows); });
setUpServers(rows, tell);
setUpLog(rows, tell);
look();
