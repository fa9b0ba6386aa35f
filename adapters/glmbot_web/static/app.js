// The chat page. What it shows comes from the server, which keeps the histories and goes on answering while nobody looks.

import { $, ask, button, copy, element, patiently, say, setUp } from "/static/words.js";
import { grown, show } from "/static/blocks.js";
import { drop, forget as forgetTurns, forgetAll, remember, remembered, unknown } from "/static/kept.js";

const log = $("log"), question = $("question");
const ENDED = new Set(["final", "stopped", "failed", "unsent"]);
const RESEND_MS = 3000;
let conversation = fresh();
let turns = [];
let chats = [];
let source = null;
let administrator = false;

function fresh() { return 2 + Math.floor(Math.random() * (Number.MAX_SAFE_INTEGER - 4)); }

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const running = () => turns.find((turn) => !ENDED.has(turn.state));
const post = (text, more = {}) => ask("/api/messages", { id: newId(), conversation, text, ...more });

// ---- the list of conversations

async function list() {
  try {
    chats = (await ask("/api/conversations")) ?? [];
    chats.unshift(...unknown(chats));
  } catch { return; /* the list stays as it was; the next answer brings it again */ }
  drawChats();
}

function drawChats() {
  const shown = chats.some((chat) => chat.id === conversation) || !turns.length
    ? chats : [{ id: conversation, title: turns[0].question }, ...chats];
  const title = turns[0]?.question || chats.find((chat) => chat.id === conversation)?.title;
  document.title = title ? `${title.slice(0, 60)} · glmbot` : "glmbot";
  $("chats").replaceChildren(...shown.map((chat) => {
    const item = element("li");
    const open = element("button", "chat-title", chat.title || say("new"));
    open.type = "button";
    open.dir = "auto";
    open.title = chat.title || "";
    if (chat.id === conversation) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => { go(chat.id); drawer(false); });
    const remove = element("button", "icon", "✕");
    remove.type = "button";
    remove.title = say("delete");
    remove.setAttribute("aria-label", `${say("delete")}: ${chat.title}`);
    remove.addEventListener("click", () => forget(chat));
    item.append(open, remove);
    return item;
  }));
  $("chats").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}

async function forget(chat) {
  if (!confirm(say("sure"))) return;
  try {
    await ask("/api/messages", { id: newId(), conversation: chat.id, text: "/new" });
  } catch (error) {
    $("status").textContent = `${say("failed")} ${error.message}`;
    return;
  }
  forgetTurns(chat.id);
  if (chat.id === conversation) go(fresh());
  await new Promise((done) => setTimeout(done, 300));
  await list();
}

async function go(id) {
  conversation = id;
  source?.close();
  source = null;
  turns = [];
  if (location.hash !== `#${id}`) history.pushState(null, "", `#${id}`);
  const kept = chats.some((chat) => chat.id === id) || location.hash === `#${id}`
    ? await patiently(() => ask(`/api/conversations/${id}`), () => conversation === id, lost) : { turns: [], running: [] };
  if (kept === null || conversation !== id) return;
  const ends = new Map(remembered(id).map((entry) => [entry.ref, entry]));
  turns = kept.turns.map((turn) => ({ ...turn, state: "final", notice: "", actions: ["retry"], ...ended(ends.get(turn.ref)) }));
  const known = new Set([...turns, ...kept.running].map((turn) => turn.ref));
  for (const entry of ends.values()) if (!known.has(entry.ref)) turns.push(unanswered(entry));
  for (const open of kept.running) {
    const place = turns.findIndex((turn) => turn.ref === open.ref);
    const turn = { ref: open.ref, question: place < 0 ? open.question : turns[place].question, stream: open.stream, state: "queued", blocks: [], text: "" };
    if (place < 0) turns.push(turn); else turns.splice(place, turns.length, turn);
  }
  draw();
  drawChats();
  const open = running();
  if (open) follow(open); else busy(false);
  if (turns.some((turn) => turn.state === "unsent")) resendSoon();
  if (innerWidth > 800) question.focus();
}

// How an answer of the history ended, as this browser saw it.
function ended(entry) {
  if (!entry || !["stopped", "final"].includes(entry.state)) return {};
  return { state: entry.state, notice: entry.notice, actions: entry.actions };
}

// A question that the history does not have.
function unanswered(entry) {
  const turn = { ...entry, blocks: [], text: "", actions: [] };
  if (entry.state === "unsent") return turn;
  return { ...turn, state: "failed", notice: entry.state === "failed" && entry.notice ? entry.notice : say("unanswered") };
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
    welcome.append(element("p", "big", say("welcome")), element("p", "", say("hint")));
    log.append(welcome);
  }
  for (const turn of turns) log.append(drawTurn(turn));
  log.scrollTop = log.scrollHeight;
}

function drawTurn(turn) {
  const article = element("article", "turn");
  article.id = `turn-${turn.ref}`;
  const asked = element("div", "question", turn.question);
  asked.setAttribute("aria-label", say("you"));
  asked.setAttribute("role", "group");
  asked.dir = "auto";
  const answer = element("div", "answer");
  answer.setAttribute("role", "group");
  answer.setAttribute("aria-label", say("bot"));
  article.append(asked, element("div", "tools asked"), answer, element("p", "notice"), element("div", "tools answered"));
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
  article.querySelector(".notice").textContent = turn.notice || (!turn.blocks?.length && !ended ? say("waiting") : "");
  const [own, tools] = article.querySelectorAll(".tools");
  own.replaceChildren();
  tools.replaceChildren();
  if (!ended) return;
  if (turn.text) tools.append(button("copy", (made) => copy(turn.text, made)));
  if (["failed", "unsent"].includes(turn.state) && turn.sent && !turn.actions?.includes("retry")) tools.append(button("retry", () => resend(turn)));
  for (const action of turn.actions ?? []) tools.append(button(action, () => again(turn, action)));
  if (!turn.question.startsWith("/")) own.append(button("edit", () => edit(article, turn)));
  if (turn.attachment) tools.append(button("download", () => download(turn.attachment)));
}

function addCopyButtons(made) {
  for (const bar of made.querySelectorAll(".code .bar")) {
    bar.append(button("copyCode", (pressed) => copy(pressed.closest(".code").querySelector("pre").textContent, pressed)));
  }
}

function edit(article, turn) {
  const asked = article.querySelector(".question");
  const form = element("form", "edit");
  const area = element("textarea");
  area.value = turn.question;
  area.dir = "auto";
  area.setAttribute("aria-label", say("edit"));
  const save = element("button", "primary", say("save"));
  const close = () => form.replaceWith(asked);
  form.append(area, save, button("cancel", close));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = area.value.trim();
    close();
    if (text) begin({ ref: turn.ref, question: text }, text, { edits: turn.ref });
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); close(); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
  });
  asked.replaceWith(form);
  area.focus();
  area.style.height = `${area.scrollHeight}px`;
}

function download(attachment) {
  const bytes = Uint8Array.from(atob(attachment.content), (char) => char.charCodeAt(0));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: attachment.type }));
  link.download = attachment.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- asking

function send(text) {
  const last = turns.at(-1);
  if (last && text === "/retry" && ["failed", "unsent"].includes(last.state)) return resend(last);
  if (last && ["/retry", "/continue"].includes(text)) return again(last, text.slice(1));
  const id = newId();
  return begin({ ref: id, question: text }, text, { id });
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

// A turn that takes the place of an earlier one begins a branch there: what followed is out of sight.
async function begin(turn, text, more) {
  if (running()) return;
  const mine = conversation;
  more = { id: newId(), ...more };
  turn = { ...turn, state: "queued", blocks: [], text: "", notice: "", actions: [], sent: { text, more } };
  const place = turns.findIndex((each) => each.ref === turn.ref);
  for (const gone of turns.splice(place < 0 ? turns.length : place, turns.length, turn)) drop(mine, gone.ref);
  const isQuestion = !text.startsWith("/");
  if (isQuestion) remember(mine, { ...turn, state: "unsent" });
  draw();
  busy(true);
  try {
    const answer = await post(text, more);
    if (answer === null) throw new Error(say("token"));
    if (isQuestion) remember(mine, { ...turn, state: "sent" });
    turn.stream = answer.stream;
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
    list();
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
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// What another page of this person asked meanwhile.
async function look() {
  if (document.hidden || running() || !turns.length || document.querySelector(".edit")) return;
  const mine = conversation;
  await list();
  const kept = await ask(`/api/conversations/${mine}`).catch(() => null);
  if (kept === null || conversation !== mine || running()) return;
  const there = [...kept.turns, ...kept.running].map((turn) => turn.ref);
  const shown = new Set(turns.map((turn) => turn.ref));
  if (there.some((ref) => !shown.has(ref))) await go(mine);
}

function toEnd() { log.scrollTop = log.scrollHeight; }

function busy(is) {
  $("stop").hidden = !is;
  $("send").hidden = is;
}

const stop = () => post("/stop").catch((error) => { $("status").textContent = `${say("lost")} ${error.message}`; });

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
  if (!text || running()) return;
  question.value = "";
  grow();
  loaded.then(() => send(text));
});
question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
  if (event.key === "ArrowUp" && !question.value) {
    const last = turns.findLast((turn) => ENDED.has(turn.state) && !turn.question.startsWith("/"));
    if (last) { event.preventDefault(); edit($(`turn-${last.ref}`), last); }
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("drawer")) drawer(false);
  else if (event.key === "Escape" && running()) stop();
  if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) { event.preventDefault(); go(fresh()); }
});
$("stop").addEventListener("click", stop);
$("end").addEventListener("click", toEnd);
log.addEventListener("scroll", () => { $("end").hidden = log.scrollHeight - log.scrollTop - log.clientHeight < 200; });
document.addEventListener("visibilitychange", look);
addEventListener("focus", look);
$("new").addEventListener("click", () => { go(fresh()); drawer(false); question.focus(); });
$("menu").addEventListener("click", () => drawer(!document.body.classList.contains("drawer")));
$("veil").addEventListener("click", () => drawer(false));
$("logout").addEventListener("click", async () => {
  if (!confirm(say("sureLogout"))) return;
  const answer = await fetch("/api/logout", { method: "POST" }).catch(() => null);
  if (!answer?.ok) { $("status").textContent = say("lost"); return; }
  forgetAll();
  location.replace("/");
});
addEventListener("popstate", () => go(Number(location.hash.slice(1)) || fresh()));

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
  const wanted = Number(location.hash.slice(1));
  await go(Number.isSafeInteger(wanted) && wanted > 0 ? wanted : fresh());
})().catch((error) => log.replaceChildren(element("p", "notice", `${say("lost")} ${error.message}`)));
