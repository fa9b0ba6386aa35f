"use strict";

const WORDS = {
  en: {
    new: "New chat", question: "Ask something…", send: "Send", stop: "Stop", retry: "Retry", copy: "Copy",
    copied: "Copied", waiting: "…", lost: "Connection lost; trying again…", gone: "This answer is no longer here.",
    failed: "The message could not be sent.", token: "Token", enter: "Enter", wrong: "Wrong token.",
    welcome: "Ask anything. /help shows what I can do.", language: "中文", download: "Download",
  },
  zh: {
    new: "新对话", question: "问点什么…", send: "发送", stop: "停止", retry: "重答", copy: "复制",
    copied: "已复制", waiting: "…", lost: "连接断开，正在重试…", gone: "这个回答已经不在了。",
    failed: "消息没有发出去。", token: "口令", enter: "进入", wrong: "口令不对。",
    welcome: "有问题直接问我，/help 查看我会做什么。", language: "English", download: "下载",
  },
};

const $ = (id) => document.getElementById(id);
const log = $("log"), question = $("question");
let language = localStorage.language || (navigator.language.startsWith("zh") ? "zh" : "en");
let state = load();
let running = null;

function load() {
  try {
    const kept = JSON.parse(localStorage.chat);
    if (Number.isSafeInteger(kept.conversation) && Array.isArray(kept.turns)) return kept;
  } catch { /* nothing kept, or not ours */ }
  return fresh();
}

function fresh() {
  return { conversation: 1 + Math.floor(Math.random() * (Number.MAX_SAFE_INTEGER - 2)), turns: [] };
}

function save() {
  try { localStorage.chat = JSON.stringify({ ...state, turns: state.turns.slice(-100) }); } catch { /* full */ }
}

const say = (key) => WORDS[language][key];

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  question.placeholder = say("question");
  question.setAttribute("aria-label", say("question"));
  $("language").textContent = say("language");
  draw();
}

function draw() {
  log.replaceChildren();
  if (!state.turns.length) {
    const welcome = element("p", "welcome");
    welcome.textContent = say("welcome");
    log.append(welcome);
  }
  for (const turn of state.turns) log.append(drawTurn(turn));
  log.scrollTop = log.scrollHeight;
}

function element(name, className) {
  const made = document.createElement(name);
  made.className = className;
  return made;
}

function button(key, act) {
  const made = element("button", "");
  made.type = "button";
  made.textContent = say(key);
  made.addEventListener("click", () => act(made));
  return made;
}

function drawTurn(turn) {
  const article = element("article", "turn");
  article.id = `turn-${turn.id}`;
  if (turn.question) {
    const asked = element("div", "question");
    asked.textContent = turn.question;
    article.append(asked);
  }
  article.append(element("div", "answer"), element("p", "notice"), element("div", "tools"));
  fill(article, turn);
  return article;
}

function fill(article, turn) {
  article.classList.toggle("failed", turn.state === "failed");
  // The server renders the Markdown and lets no HTML of the model's through.
  article.querySelector(".answer").innerHTML = turn.html || "";
  const ended = !["queued", "streaming"].includes(turn.state);
  article.querySelector(".notice").textContent = turn.notice || (!turn.html && !ended ? say("waiting") : "");
  article.setAttribute("aria-busy", String(!ended));
  const tools = article.querySelector(".tools");
  tools.replaceChildren();
  if (!ended) return;
  if (turn.text) tools.append(button("copy", async (made) => {
    await navigator.clipboard.writeText(turn.text);
    made.textContent = say("copied");
  }));
  if (turn.text && turn === state.turns.at(-1)) tools.append(button("retry", () => ask("/retry")));
  if (turn.attachment) tools.append(button("download", () => download(turn.attachment)));
}

function download(attachment) {
  const bytes = Uint8Array.from(atob(attachment.content), (char) => char.charCodeAt(0));
  const link = element("a", "");
  link.href = URL.createObjectURL(new Blob([bytes], { type: attachment.type }));
  link.download = attachment.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

async function post(text, id) {
  return fetch(`/api/messages?language=${language}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id, conversation: state.conversation, text }),
  });
}

async function ask(text) {
  const id = newId();
  let turn = { id, question: text, state: "queued", html: "", text: "", notice: "" };
  if (text === "/retry" && state.turns.length) {
    turn = { ...turn, question: state.turns.at(-1).question };
    state.turns.pop();
  }
  state.turns.push(turn);
  draw();
  try {
    const response = await post(text, id);
    if (response.status === 401) return showLogin();
    if (!response.ok) throw new Error((await response.json()).error.message);
    turn.stream = (await response.json()).stream;
    save();
    follow(turn);
  } catch (error) {
    update(turn, { state: "failed", notice: `${say("failed")} ${error.message}` });
  }
}

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function follow(turn) {
  const source = new EventSource(`/api/streams/${turn.stream}`);
  running = turn;
  busy(true);
  source.onmessage = (event) => update(turn, JSON.parse(event.data));
  source.addEventListener("end", finish);
  source.onerror = () => {
    // While it is connecting again the browser does the work; a closed one will not come back.
    if (source.readyState === EventSource.CLOSED) {
      update(turn, { state: "failed", notice: say("gone") });
      finish();
    } else {
      update(turn, { ...turn, notice: say("lost") });
    }
  };
  function finish() {
    source.close();
    if (running === turn) { running = null; busy(false); }
    save();
  }
}

function update(turn, snapshot) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  Object.assign(turn, snapshot);
  const article = $(`turn-${turn.id}`);
  if (article) fill(article, turn);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function busy(is) {
  $("stop").hidden = !is;
  $("send").hidden = is;
}

function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight}px`;
}

function showLogin() {
  $("login").hidden = false;
  $("ask").hidden = true;
  log.hidden = true;
  $("token").focus();
}

$("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await fetch("/api/login", { method: "POST", body: JSON.stringify({ token: $("token").value }) });
  if (response.ok) location.reload();
  else $("login-error").textContent = say("wrong");
});

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || running) return;
  question.value = "";
  grow();
  ask(text);
});

question.addEventListener("input", grow);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});

$("stop").addEventListener("click", () => post("/stop", newId()));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && running) post("/stop", newId()); });

$("new").addEventListener("click", async () => {
  if (running) await post("/stop", newId());
  state = fresh();
  save();
  draw();
  question.focus();
});

$("language").addEventListener("click", () => {
  language = localStorage.language = language === "en" ? "zh" : "en";
  translate();
});

(async () => {
  translate();
  const hello = await fetch(`/api/hello?language=${language}`);
  if (hello.status === 401) return showLogin();
  const { model, precision } = await hello.json();
  $("model").textContent = `${model} · ${precision}`;
  const open = state.turns.filter((turn) => turn.stream && ["queued", "streaming"].includes(turn.state));
  for (const turn of open) follow(turn);
})();
