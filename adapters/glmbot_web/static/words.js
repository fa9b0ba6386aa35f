// The pages' own words in both languages, the choice of language and of light or dark, and small shared parts.

const WORDS = {
  en: {
    chats: "Conversations", new: "New chat", question: "Ask something…", send: "Send", stop: "Stop", retry: "Retry",
    continue: "Continue", edit: "Edit", save: "Ask again", cancel: "Cancel", copy: "Copy", copied: "Copied",
    copyCode: "Copy code", download: "Download", delete: "Delete conversation", sure: "Delete this conversation for good?",
    waiting: "…", lost: "Connection lost; trying again…", failed: "The message was refused.",
    unsent: "Not sent yet; I try again by myself.", unanswered: "This question was not answered.", logout: "Log out", sureLogout: "Log out? This browser then no longer opens these conversations. Delete first what should not be kept.", slow: "Too many wrong tokens. Please wait.",
    token: "Token", tokenHint: "Whoever runs this server has set it.", enter: "Enter", wrong: "Wrong token.", language: "中文", theme: "Light or dark", menu: "Menu",
    welcome: "Ask anything.", hint: "/help shows what I can do. Enter sends, Shift+Enter makes a new line, Esc stops.",
    hintTouch: "/help shows what I can do.", away: "The server could not be reached. Please try again.",
    busy: "An answer is being written; wait for its end, or stop it.", more: "Older conversations…", versions: "Versions", earlier: "Earlier version", later: "Later version",
    answering: "The answer is being written.", answered: "The answer is complete.", you: "You", bot: "Answer",
    thinking: "Thinking…", thought: "Thoughts", thoughtFor: "Thought for {s} s",
    operator: "Operator", back: "Chat", skip: "To the question", log: "Messages", end: "To the end",
    // the operator's page
    running: "Answering", queue: "Waiting", finished: "Answers so far", refused: "Refused", dead: "Set aside (/dead)", speed: "Tokens/s",
    memory: "Memory", pace: "Speed", perSecond: "tokens/s", gathering: "Gathering the first minute…", weights: "Weights", precision: "Precision", switching: "Switching:", testing: "Trying the new weights…", underWay: "Under way…", quiet: "No answer is being written.", limitHint: "0: no limit; empty: as configured", streams: "Streams",
    models: "Models", loaded: "loaded", notLoaded: "not loaded", loading: "being loaded,", unloadable: "could not be loaded", budget: "Together at most",
    users: "People", errors: "Recent warnings and errors", nobody: "Nobody was let in, blocked or given a limit yet.", none: "None.",
    user: "Id", name: "Name", access: "Access", limit: "Limit an hour", asked: "Asked this hour", actions: "Actions",
    "access-admin": "administrator", "access-user": "user", "access-blocked": "blocked", "access-waiting": "waiting",
    allow: "Let in", block: "Block", setLimit: "Set", conversation: "Conversation", state: "State",
    length: "Characters", age: "For", notice: "Notice to every chat", say: "Send", reload: "Reload configuration",
    sureSay: "Send this to every chat of the last 30 days?", forbidden: "This page is for administrators: set [web] admin_token.",
    first: "First page", next: "Next page", code: "code", addUser: "Id, such as telegram:123456789",
    servers: "Tool servers (MCP)", address: "Where", tools: "Tools", secret: "secret", configured: "in the configuration", restart: "Restart",
    switchOff: "Switch off", switchOn: "Switch on", remove: "Remove", sureRemove: "Remove this server?",
    "server-ready": "connected", "server-connecting": "connecting…", "server-away": "away:", "server-off": "switched off", "server-waiting": "waiting",
    serverName: "Name: small letters, digits, -", serverWhere: "https://… or PROGRAM ARGUMENT …", serverSecrets: "Headers or variables, NAME=VALUE, one a line",
    serverNature: "What its tools do", natureUnsaid: "They act: closed", natureReads: "They read: asked about", naturePure: "They do no harm: open", serverAdd: "Add",
    addressesOnly: "Public addresses only; [plugins.mcp] from_page says what may be added.", addsNothing: "[plugins.mcp] from_page says whether servers can be added here.",
    toolLog: "What tools did", logFilter: "Person, conversation, tool, digest or outcome", look: "Look up", at: "When", tool: "Tool", digest: "Digest of the arguments", outcome: "Outcome", noCalls: "Nothing was called.",
  },
  zh: {
    chats: "对话", new: "新对话", question: "问点什么…", send: "发送", stop: "停止", retry: "重答",
    continue: "继续", edit: "修改", save: "重新提问", cancel: "取消", copy: "复制", copied: "已复制",
    copyCode: "复制代码", download: "下载", delete: "删除对话", sure: "永久删除这个对话？",
    waiting: "…", lost: "连接断开，正在重试…", failed: "消息没有被接受。",
    unsent: "还没有发出去，会自动重发。", unanswered: "这个问题没有得到回答。", logout: "退出", sureLogout: "确定退出吗？退出后，本浏览器将无法再打开这些对话；不想保留的请先删除。", slow: "口令错得太多，请稍等。",
    token: "口令", tokenHint: "由运行这台服务器的人设定。", enter: "进入", wrong: "口令不对。", language: "English", theme: "浅色或深色", menu: "菜单",
    welcome: "有问题直接问我。", hint: "/help 查看我会做什么。回车发送，Shift+回车换行，Esc 停止。",
    hintTouch: "/help 查看我会做什么。", away: "连不上服务器，请再试一次。",
    busy: "正在写回答，请等它写完，或先停止。", more: "更早的对话…", versions: "版本", earlier: "上一个版本", later: "下一个版本",
    answering: "正在写回答。", answered: "回答完成。", you: "你", bot: "回答",
    thinking: "正在思考…", thought: "思考过程", thoughtFor: "思考了 {s} 秒",
    operator: "管理", back: "聊天", skip: "跳到提问框", log: "消息", end: "到最后",
    running: "正在回答", queue: "排队", finished: "已完成回答", refused: "已拒绝", dead: "已搁置（/dead）", speed: "token/秒",
    memory: "内存", pace: "速度", perSecond: "token/秒", gathering: "正在收集第一分钟的数据…", weights: "权重", precision: "精度", switching: "切换中：", testing: "正在试用新权重…", underWay: "正在处理…", quiet: "现在没有正在写的回答。", limitHint: "0 为不限，留空为采用配置", streams: "进行中的回答",
    models: "模型", loaded: "已加载", notLoaded: "未加载", loading: "正在加载，", unloadable: "加载失败", budget: "一共最多",
    users: "用户", errors: "最近的警告和错误", nobody: "还没有允许、屏蔽或限制过任何人。", none: "没有。",
    user: "编号", name: "名字", access: "权限", limit: "每小时上限", asked: "本小时提问", actions: "操作",
    "access-admin": "管理员", "access-user": "已允许", "access-blocked": "已屏蔽", "access-waiting": "等待允许",
    allow: "允许", block: "屏蔽", setLimit: "设置", conversation: "对话", state: "状态",
    length: "字数", age: "已用", notice: "通知所有聊天", say: "发送", reload: "重新读取配置",
    sureSay: "发给最近 30 天的所有聊天？", forbidden: "这个页面只给管理员：请设置 [web] admin_token。",
    first: "第一页", next: "下一页", code: "配对码", addUser: "编号，如 telegram:123456789",
    servers: "工具服务器（MCP）", address: "位置", tools: "工具", secret: "密钥", configured: "写在配置里", restart: "重启",
    switchOff: "停用", switchOn: "启用", remove: "移除", sureRemove: "确定移除这个服务器？",
    "server-ready": "已连接", "server-connecting": "正在连接…", "server-away": "未连接：", "server-off": "已停用", "server-waiting": "等待中",
    serverName: "名称：小写字母、数字和 -", serverWhere: "https://… 或 程序 参数 …", serverSecrets: "请求头或环境变量，每行一个 名称=值",
    serverNature: "它的工具会做什么", natureUnsaid: "会改动东西：关闭", natureReads: "只读取：每次询问", naturePure: "无害：放开", serverAdd: "添加",
    addressesOnly: "只能添加公网地址；可以添加什么由 [plugins.mcp] from_page 规定。", addsNothing: "这里能否添加服务器由 [plugins.mcp] from_page 规定。",
    toolLog: "工具调用记录", logFilter: "用户、对话、工具、摘要或结果", look: "查询", at: "时间", tool: "工具", digest: "参数摘要", outcome: "结果", noCalls: "还没有调用过工具。",
  },
};

const STATES = { queued: "queue", streaming: "running" };
const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const keep = (name, value) => { try { localStorage.setItem(name, value); } catch { /* private window */ } };

export let language = kept("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
export const say = (key) => WORDS[language][key] ?? key;
export const sayState = (state) => say(STATES[state] ?? state);
export const $ = (id) => document.getElementById(id);

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function button(key, act, className = "") {
  const made = element("button", className, say(key));
  made.type = "button";
  made.addEventListener("click", () => act(made));
  return made;
}

export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const each of document.querySelectorAll("[data-text]")) each.textContent = say(each.dataset.text);
  for (const each of document.querySelectorAll("[data-label]")) {
    each.setAttribute("aria-label", say(each.dataset.label));
    each.title = say(each.dataset.label);
  }
  for (const each of document.querySelectorAll("[data-placeholder]")) each.placeholder = say(each.dataset.placeholder);
}

// The buttons that both pages have: language, and light or dark (a third press follows the system again).
export function setUp(redraw) {
  const theme = kept("theme");
  if (theme) document.documentElement.dataset.theme = theme;
  $("language").addEventListener("click", () => {
    language = language === "en" ? "zh" : "en";
    keep("language", language);
    translate();
    redraw();
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const order = dark ? ["", "light", "dark"] : ["", "dark", "light"];
    const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % 3];
    if (next) root.dataset.theme = next; else delete root.dataset.theme;
    keep("theme", next);
  });
  $("login").addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = JSON.stringify({ token: $("token").value });
    const response = await fetch("/api/login", { method: "POST", body });
    if (response.ok) location.reload();
    else { $("login-error").textContent = say(response.status === 429 ? "slow" : "wrong"); $("token").select(); }
  });
  translate();
}

// JSON from our server; null after a 401, when the login is shown instead.
export async function ask(path, body) {
  const separator = path.includes("?") ? "&" : "?";
  const response = await fetch(`${path}${separator}language=${language}`, body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  });
  if (response.status === 401) {
    document.body.classList.add("locked");
    $("login").hidden = false;
    $("token").focus();
    return null;
  }
  // A proxy in between answers with a page of its own.
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error?.message ?? response.statusText), { status: response.status });
  return answer;
}

// What `work` returns, tried again for as long as `wanted` while the server is away; null when nobody wants it any more.
export async function patiently(work, wanted, lost) {
  while (wanted()) {
    try {
      return await work();
    } catch (error) {
      lost(error);
      if (error.status >= 400 && error.status < 500) return null;
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
  return null;
}

export function download(attachment) {
  const bytes = Uint8Array.from(atob(attachment.content), (char) => char.charCodeAt(0));
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: attachment.type }));
  link.download = attachment.name;
  link.click();
  URL.revokeObjectURL(link.href);
}

export async function copy(text, made) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https browsers hide the clipboard; selecting and copying is still there.
    const area = element("textarea", "unseen");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const before = made.textContent;
  made.textContent = say("copied");
  setTimeout(() => { made.textContent = before; }, 1500);
}
