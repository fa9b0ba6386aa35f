// The chat page. What it shows comes from the server, which keeps the histories and goes on answering while nobody looks.

import { $, ask, button, copy, download, element, patiently, say, setUp } from "/static/words.js";
import { frame, grown, show, showThought } from "/static/blocks.js";
import { switcher } from "/static/branches.js";
import { showChats } from "/static/chats.js";
import { editForm } from "/static/editing.js";
import { composing, sends, touch } from "/static/keys.js";
import { drop, elsewhere, ended, forget as forgetTurns, forgetAll, remember, remembered, unanswered, unknown } from "/static/kept.js";

const log = $("log"), question = $("question");
const ENDED = new Set(["final", "stopped", "failed", "unsent"]);
const RESEND_MS = 3000;
// Of conversations, as the server sends them.
const PAGE = 100;
let conversation = fresh();
let turns = [];
let chats = [], older = [], hasMore;
let source = null;
let administrator = false;
// This person's other pages in this browser, which are told where something was asked or answered.
const pages = window.BroadcastChannel ? new BroadcastChannel("glmbot") : null;
pages?.addEventListener("message", (event) => look(event.data));

function fresh() { return 2 + Math.floor(Math.random() * (Number.MAX_SAFE_INTEGER - 4)); }

// The conversation that the address names: a number as this page makes them, or another program's text; "" for none.
function wanted() {
  const id = decoded(location.hash.slice(1));
  return /^[1-9][0-9]{0,15}$/.test(id) && Number.isSafeInteger(Number(id)) ? Number(id) : id;
}

function decoded(text) { try { return decodeURIComponent(text); } catch { return ""; } }

if (!touch.matches) question.focus();

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const running = () => turns.find((turn) => !ENDED.has(turn.state));
const post = (text, more = {}) => ask("/api/messages", { id: newId(), conversation, text, ...more });

// ---- the list of conversations

async function list() {
  try {
    const newest = await ask("/api/conversations");
    if (newest === null) return;
    const known = new Set(newest.map((chat) => chat.id));
    chats = [...unknown([...newest, ...older]), ...newest, ...older.filter((chat) => !known.has(chat.id))];
    hasMore ??= newest.length >= PAGE;
  } catch { return; /* the list stays as it was; the next answer brings it again */ }
  drawChats();
}

async function more() {
  const last = chats.at(-1);
  try {
    const page = (await ask(`/api/conversations?before=${last.at}&id=${encodeURIComponent(last.id)}`)) ?? [];
    older.push(...page);
    hasMore = page.length >= PAGE;
  } catch (error) { return complain(error); }
  await list();
}

function drawChats() {
  const shown = chats.some((chat) => chat.id === conversation) || !turns.length
    ? chats : [{ id: conversation, title: turns[0].question }, ...chats];
  const title = turns[0]?.question || chats.find((chat) => chat.id === conversation)?.title;
  document.title = title ? `${title.slice(0, 60)} · glmbot` : "glmbot";
  showChats($("chats"), shown, conversation, (chat) => { go(chat.id); drawer(false); }, forget);
  if (!hasMore) return;
  const item = element("li");
  item.append(button("more", more, "chat-title"));
  $("chats").append(item);
}

async function forget(chat) {
  if (!confirm(say("sure"))) return;
  try {
    const answer = await ask("/api/messages", { id: newId(), conversation: chat.id, text: "/new" });
    if (answer === null) return;
    await end(answer.stream);
  } catch (error) {
    return complain(error);
  }
  forgetTurns(chat.id);
  older = older.filter((each) => each.id !== chat.id);
  if (chat.id === conversation) go(fresh());
  pages?.postMessage(chat.id);
  await list();
}

const end = (stream) => new Promise((done) => {
  const events = new EventSource(`/api/streams/${stream}`);
  for (const name of ["end", "error"]) events.addEventListener(name, () => { events.close(); done(); });
});

async function go(id) {
  conversation = id;
  source?.close();
  source = null;
  turns = [];
  if (wanted() !== id) history.pushState(null, "", `#${encodeURIComponent(id)}`);
  const kept = chats.some((chat) => chat.id === id) || wanted() === id
    ? await patiently(() => ask(`/api/conversations/${encodeURIComponent(id)}`), () => conversation === id, lost) : { turns: [], running: [] };
  if (kept === null || conversation !== id) return;
  const ends = new Map(remembered(id).map((entry) => [entry.ref, entry]));
  turns = kept.turns.map((turn) => ({ ...turn, state: "final", notice: "", actions: ["retry"], ...ended(ends.get(turn.ref), turn) }));
  const known = new Set([...turns, ...kept.running].map((turn) => turn.ref));
  for (const entry of ends.values()) if (!known.has(entry.ref) && !elsewhere(entry)) turns.push(unanswered(entry));
  for (const open of kept.running) {
    const place = turns.findIndex((turn) => turn.ref === open.ref);
    // A button's command stands in for the question that it is about.
    const asked = place < 0 || !open.question.startsWith("/") ? open.question : turns[place].question;
    const turn = { ref: open.ref, question: asked, stream: open.stream, state: "queued", blocks: [], text: "", replaces: place >= 0 };
    if (place < 0) turns.push(turn); else turns.splice(place, turns.length, turn);
  }
  draw();
  drawChats();
  const open = running();
  if (open) follow(open); else busy(false);
  if (turns.some((turn) => turn.state === "unsent")) resendSoon();
  if (!touch.matches) question.focus();
}

function lost(error) {
  $("status").textContent = `${say("lost")} ${error.message}`;
  if (!turns.length) log.replaceChildren(element("p", "notice", say("lost")));
}

// ---- one conversation

function draw() {
  log.replaceChildren();
  if (!turns.length) {
    const welcome = element("div", "welcome");
    welcome.append(element("p", "big", say("welcome")), element("p", "", say(touch.matches ? "hintTouch" : "hint")));
    log.append(welcome);
  }
  for (const turn of turns) log.append(drawTurn(turn));
  log.scrollTop = log.scrollHeight;
}

function drawTurn(turn) {
  const article = frame(turn);
  fill(article, turn);
  return article;
}

function fill(article, turn) {
  const ended = ENDED.has(turn.state);
  article.classList.toggle("failed", ["failed", "unsent"].includes(turn.state));
  article.setAttribute("aria-busy", String(!ended));
  const answer = article.querySelector(".answer");
  show(answer, turn.blocks ?? [], addCopyButtons);
  answer.classList.toggle("growing", !ended);
  showThought(article.querySelector(".thought"), turn, ended);
  // That it thinks stands above what it thinks.
  const thinks = turn.thought && !turn.text && !ended;
  article.querySelector(".notice").textContent = thinks ? "" : turn.notice || (!turn.blocks?.length && !ended ? say("waiting") : "");
  const [own, tools] = article.querySelectorAll(".tools");
  own.replaceChildren();
  tools.replaceChildren();
  if (!ended) return tools.append(...permits(turn));
  if (turn.text) tools.append(button("copy", (made) => copy(turn.text, made)));
  if (["failed", "unsent"].includes(turn.state) && turn.sent && !turn.actions?.includes("retry")) tools.append(button("retry", () => resend(turn), "asks"));
  for (const action of turn.actions ?? []) tools.append(button(action, () => again(turn, action), "asks"));
  if (turn.branches?.length > 1) own.append(switcher(turn, (number) => choose(turn, number)));
  if (!turn.question.startsWith("/")) own.append(button("edit", () => edit(article, turn), "asks"));
  if (turn.attachment) tools.append(button("download", () => download(turn.attachment)));
}

function addCopyButtons(made) {
  for (const bar of made.querySelectorAll(".code .bar")) {
    bar.append(button("copyCode", (pressed) => copy(pressed.closest(".code").querySelector("pre").textContent, pressed)));
  }
}

function edit(article, turn) {
  editForm(article.querySelector(".question"), turn.question, (text) => {
    if (running()) {
      complain(say("busy"));
      return false;
    }
    // The server takes the same words for no edit; who presses the button wants another answer.
    if (text === turn.question && turn.text) again(turn, "retry");
    else if (text === turn.question && turn.sent) resend(turn);
    else if (text) begin({ ref: turn.ref, question: text }, text, { edits: turn.ref });
    return true;
  });
}

// ---- asking

function send(text) {
  const last = turns.at(-1);
  if (last && text === "/retry" && ["failed", "unsent"].includes(last.state)) return resend(last);
  if (last && ["/retry", "/continue"].includes(text)) return again(last, text.slice(1));
  const id = newId();
  return begin({ ref: id, question: text }, text, { id });
}

// What is asked of a tool while the answer waits: the command that each of its buttons stands for.
function permits(turn) {
  return (turn.actions ?? []).flatMap((action, number) => {
    const [, verb, choice, id] = /^tool(yes|here|no|(?:pick|type)([a-z]))([a-z]{8})$/.exec(action) ?? [];
    if (!verb) return [];
    const said = choice ? choice.charCodeAt(0) - 96 : verb;
    const made = element("button", "permits", turn.labels?.[number] ?? verb);
    made.type = "button";
    made.addEventListener("click", () => post(`/tools ${said} ${id}`).catch(complain));
    return [made];
  });
}

const again = (turn, action) => begin({ ref: turn.ref, question: turn.question }, `/${action}`, { answers: turn.ref });

// A question that was not sent is sent as the same message, so that it is asked once even if it did arrive; one whose
// answer failed is asked anew.
function resend(turn) {
  if (running()) return;
  const { text, more } = turn.sent;
  turns.splice(turns.indexOf(turn), 1);
  if (turn.state === "unsent") return begin({ ref: turn.ref, question: turn.question }, text, more);
  drop(conversation, turn.ref);
  const id = newId();
  return begin({ ref: more.edits ? turn.ref : id, question: turn.question }, text, { ...more, id });
}

function resendSoon() {
  setTimeout(() => {
    const turn = turns.find((each) => each.state === "unsent");
    if (turn && !running()) resend(turn); else if (turn) resendSoon();
  }, RESEND_MS);
}

// To another version of a turn, and to what followed that one.
async function choose(turn, number) {
  if (running()) return;
  const mine = conversation;
  try {
    if (await ask("/api/branch", { conversation: mine, turn: number }) === null) return;
  } catch (error) {
    return complain(error);
  }
  await go(mine);
  pages?.postMessage(mine);
  const article = $(`turn-${turn.ref}`);
  article?.scrollIntoView({ block: "nearest" });
  article?.querySelector(".branches button:enabled")?.focus();
}

// After an answer that took the place of another one: which versions there are now.
async function count(mine) {
  const kept = await ask(`/api/conversations/${encodeURIComponent(mine)}/outline`).catch(() => null);
  if (kept === null || conversation !== mine || running()) return;
  for (const { ref, number, branches } of kept.turns) {
    const turn = turns.find((each) => each.ref === ref), article = turn && $(`turn-${ref}`);
    if (article && branches.length > 1) { Object.assign(turn, { number, branches }); fill(article, turn); }
  }
}

// A turn that takes the place of an earlier one begins a branch there: what followed is out of sight.
async function begin(turn, text, more) {
  if (running()) return;
  const mine = conversation;
  more = { id: newId(), ...more };
  turn = { ...turn, state: "queued", blocks: [], text: "", notice: "", actions: [], sent: { text, more } };
  const place = turns.findIndex((each) => each.ref === turn.ref);
  for (const gone of turns.splice(place < 0 ? turns.length : place, turns.length, turn)) if (!elsewhere(gone)) drop(mine, gone.ref);
  const isQuestion = !text.startsWith("/");
  if (isQuestion) remember(mine, { ...turn, state: "unsent" });
  draw();
  busy(true);
  try {
    const answer = await post(text, more);
    if (answer === null) throw new Error(say("token"));
    if (isQuestion) remember(mine, { ...turn, state: "sent" });
    turn.stream = answer.stream;
    pages?.postMessage(mine);
    if (conversation !== mine) return;
    follow(turn);
    drawChats();
  } catch (error) {
    // What the server refuses it would refuse again; what did not reach it, or not now, is sent again.
    const refused = error.status >= 400 && error.status < 500 && error.status !== 429;
    const state = isQuestion && !refused ? "unsent" : "failed";
    const end = { state, notice: `${say(state)} ${error.message}` };
    if (isQuestion) remember(mine, { ...turn, ...end });
    if (conversation !== mine) return;
    update(turn, end);
    busy(false);
    if (state === "unsent") resendSoon();
  }
}

function follow(turn) {
  source?.close();
  const mine = source = new EventSource(`/api/streams/${turn.stream}`);
  busy(true);
  $("status").textContent = say("answering");
  mine.onmessage = (event) => update(turn, JSON.parse(event.data));
  mine.addEventListener("end", () => finish());
  mine.onerror = () => {
    // While it is connecting again the browser does the work; one that is closed will not come back by itself.
    if (mine.readyState === EventSource.CLOSED) { mine.close(); if (source === mine) go(conversation); }
    else update(turn, { notice: say("lost") });
  };
  function finish() {
    mine.close();
    keep(turn);
    if (source !== mine) return;
    source = null;
    busy(false);
    $("status").textContent = say("answered");
    pages?.postMessage(conversation);
    list();
    if (turn.replaces || turn.sent?.more.edits || turn.sent?.more.answers) count(conversation);
  }
}

// After the end: what the history does not say is remembered, until the next answer in this place.
function keep(turn) {
  if (turn.question === "/new") forgetTurns(conversation);
  else if (turn.question === "/forget yes") forgetAll();
  else if (turn.question.startsWith("/")) return;
  else if (turn.state === "final" && !turn.notice && !turn.actions?.includes("continue")) drop(conversation, turn.ref);
  else remember(conversation, turn);
}

function update(turn, snapshot) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  Object.assign(turn, grown(turn, snapshot));
  const article = $(`turn-${turn.ref}`);
  if (article) fill(article, turn);
  if (atEnd) toEnd(); else offerEnd();
}

// What another page of this person did meanwhile, in the conversation `where`, or anywhere.
async function look(where) {
  await list();
  const mine = conversation;
  if (running() || document.querySelector(".edit") || ![mine, undefined].includes(where)) return;
  if (!turns.length && where === undefined) return;
  const there = await ask(`/api/conversations/${encodeURIComponent(mine)}/outline`).catch(() => null);
  if (there === null || conversation !== mine || running()) return;
  const shown = new Map(turns.map((turn) => [turn.ref, turn.text?.length ?? 0]));
  const kept = new Set(there.turns.map((turn) => turn.ref));
  const differs = there.turns.some((turn) => shown.get(turn.ref) !== turn.length) || there.running.length
    || turns.some((turn) => turn.number && !kept.has(turn.ref));
  if (differs) await go(mine);
}

const toEnd = () => { log.scrollTop = log.scrollHeight; };
const offerEnd = () => { $("end").hidden = log.scrollHeight - log.scrollTop - log.clientHeight < 200; };

function busy(is) {
  document.body.classList.toggle("busy", is);
  $("stop").hidden = !is;
  $("send").hidden = is;
}

// What was wanted could not be done, and nothing else on the page would show it.
function complain(error) {
  const words = typeof error === "string" ? error : error.status && error.message;
  $("trouble").textContent = words || `${say("away")} ${error.message}`;
  $("trouble").hidden = false;
  clearTimeout(complain.ends);
  complain.ends = setTimeout(() => { $("trouble").hidden = true; }, 8000);
}

const stop = () => post("/stop").catch(complain);

// ---- keys and buttons

function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

function drawer(open) {
  document.body.classList.toggle("drawer", open);
  $("menu").setAttribute("aria-expanded", String(open));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  const asked = running()?.actions?.some((action) => action.startsWith("tooltype"));
  if (!text || (running() && !asked)) return;
  question.value = "";
  grow();
  if (asked) return post(`/tools say ${text}`).catch(complain);
  loaded.then(() => send(text));
});
question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (composing(event)) return;
  if (sends(event)) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
  if (event.key === "ArrowUp" && !question.value) {
    const last = !running() && turns.findLast((turn) => ENDED.has(turn.state) && !turn.question.startsWith("/"));
    if (last) { event.preventDefault(); edit($(`turn-${last.ref}`), last); }
  }
});
document.addEventListener("keydown", (event) => {
  if (composing(event)) return;
  if (event.key === "Escape" && document.body.classList.contains("drawer")) drawer(false);
  else if (event.key === "Escape" && running()) stop();
  if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) { event.preventDefault(); go(fresh()); }
});
$("stop").addEventListener("click", stop);
$("end").addEventListener("click", toEnd);
log.addEventListener("scroll", offerEnd);
document.addEventListener("visibilitychange", () => document.hidden || look());
addEventListener("focus", () => look());
$("new").addEventListener("click", () => { go(fresh()); drawer(false); question.focus(); });
$("menu").addEventListener("click", () => drawer(!document.body.classList.contains("drawer")));
$("veil").addEventListener("click", () => drawer(false));
$("logout").addEventListener("click", async () => {
  if (!confirm(say("sureLogout"))) return;
  const answer = await fetch("/api/logout", { method: "POST" }).catch(() => null);
  if (!answer?.ok) return complain(new Error(answer?.statusText ?? ""));
  forgetAll();
  location.replace("/");
});
addEventListener("popstate", () => go(wanted() || fresh()));

// Who is quicker than the page waits for what was there before, and nothing typed is lost.
const loaded = (async () => {
  setUp(() => { draw(); drawChats(); });
  draw();
  const hello = await patiently(() => ask("/api/hello"), () => true, lost);
  if (hello === null) return;
  $("logout").hidden = !hello.login;
  $("model").textContent = `${hello.model} · ${hello.precision}`;
  administrator = hello.admin;
  $("operator").hidden = !administrator;
  await list();
  await go(wanted() || fresh());
})().catch((error) => log.replaceChildren(element("p", "notice", `${say("lost")} ${error.message}`)));
