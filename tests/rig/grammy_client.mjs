// grammY against our Telegram server: its polling, its context shortcuts, its errors.
import { Bot, GrammyError, InlineKeyboard, InputFile } from "grammy";

const USER = 7;
const say = (what) => console.log(JSON.stringify(what));
const waiting = [];
const seen = [];
const next = (kind) => new Promise((done, fail) => {
  const found = seen.findIndex((ctx) => ctx.update[kind]);
  if (found >= 0) return done(seen.splice(found, 1)[0]);
  waiting.push([kind, done]);
  setTimeout(() => fail(new Error(`no ${kind} came`)), 10000);
});

async function check(name, work) {
  try {
    const result = await work();
    say({ check: name, ok: result !== false });
    return result;
  } catch (error) {
    say({ check: name, ok: false, why: String(error) });
    return null;
  }
}

const refused = async (work, code, words) => {
  try { await work; } catch (error) {
    return error instanceof GrammyError && error.error_code === code && error.description.includes(words);
  }
  return false;
};

const bot = new Bot(process.env.RIG_TOKEN, { client: { apiRoot: process.env.RIG_URL } });
bot.use((ctx) => {
  const place = waiting.findIndex(([kind]) => ctx.update[kind]);
  if (place >= 0) waiting.splice(place, 1)[0][1](ctx); else seen.push(ctx);
});
bot.catch((error) => say({ check: "grammY handled an update", ok: false, why: String(error.error) }));

await check("init (getMe)", () => bot.init());
const polling = bot.start({ allowed_updates: ["message", "edited_message", "callback_query", "my_chat_member"] });

say({ want: "say", text: "/start hello" });
const first = await check("a message, with its command", async () => {
  const ctx = await next("message");
  if (!ctx.hasCommand("start")) throw new Error("no command in it");
  return ctx;
});
say({ want: "say", text: "@glm_test_bot hi", chat: -100 });
await check("a mention in a group", async () => (await next("message")).entities("mention").length === 1);
say({ want: "topic", text: "@glm_test_bot in a topic" });
await check("a message in a topic", async () => (await next("message")).message.is_topic_message === true);
const keyboard = new InlineKeyboard().text("Stop", "stop:7").text("Retry", "retry:7");
const sent = await check("reply with entities and a keyboard", () => first.reply("bold text", {
  entities: [{ type: "bold", offset: 0, length: 4 }], reply_markup: keyboard,
}));
say({ want: "press", button: "retry" });
const press = await check("a press", () => next("callback_query"));
await check("answerCallbackQuery", () => press.answerCallbackQuery("Stopped."));
await check("editMessageText from the press", () => press.editMessageText("changed", { reply_markup: keyboard }));
await check("an unchanged edit is refused", () => refused(
  press.editMessageText("changed", { reply_markup: keyboard }), 400, "not modified"));
say({ want: "edit", text: "reworded" });
await check("an edited question", async () => (await next("edited_message")).editedMessage.text === "reworded");
await check("sendChatAction", () => first.replyWithChatAction("typing"));
await check("sendDocument", () => first.replyWithDocument(new InputFile(new TextEncoder().encode("{}"), "export.json")));
await check("setMyCommands", () => bot.api.setMyCommands([{ command: "help", description: "help" }], {
  scope: { type: "all_private_chats" }, language_code: "zh" }));
await check("getMyCommands", async () => (await bot.api.getMyCommands({
  scope: { type: "all_private_chats" }, language_code: "zh" }))[0].command === "help");
await check("deleteMessage", () => bot.api.deleteMessage(USER, sent.message_id));
await check("editing what is gone is refused", () => refused(
  bot.api.editMessageText(USER, sent.message_id, "gone"), 400, "not found"));
say({ want: "hold", seconds: 2 });
await new Promise((done) => setTimeout(done, 200));
await check("a flood names its seconds", async () => {
  try { await bot.api.sendMessage(USER, "fast"); } catch (error) { return error.parameters.retry_after >= 2; }
  return false;
});
say({ want: "block" });
await check("a block", async () => (await next("my_chat_member")).myChatMember.new_chat_member.status === "kicked");
await check("who blocked the bot can't be written to", () => refused(bot.api.sendMessage(USER, "hi"), 403, "blocked"));
await bot.stop();
await polling;
say({ end: true });
process.exit(0);
