// discord.js against our Discord server: gateway, cache, REST with its own rate limiter, interactions.
import { ActionRowBuilder, ButtonBuilder, ButtonStyle, Client, Events, GatewayIntentBits, Partials } from "discord.js";

const CHANNEL = "300000000000000000";
const say = (what) => console.log(JSON.stringify(what));
const event = (client, name, which = () => true) => new Promise((done, fail) => {
  const listen = (...got) => {
    if (!which(...got)) return;
    client.off(name, listen);
    done(got);
  };
  client.on(name, listen);
  setTimeout(() => fail(new Error(`no ${name} came`)), 10000);
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

const client = new Client({
  intents: [GatewayIntentBits.Guilds, GatewayIntentBits.GuildMessages, GatewayIntentBits.DirectMessages],
  partials: [Partials.Channel, Partials.Message],
  rest: { api: process.env.RIG_URL, version: "10" },
  allowedMentions: { parse: [] },
});
client.on("error", (error) => say({ check: "discord.js saw no error", ok: false, why: String(error) }));

await check("login, READY and GUILD_CREATE", async () => {
  const ready = event(client, Events.ClientReady);
  await client.login(process.env.RIG_TOKEN);
  await ready;
  return client.guilds.cache.size === 1 && client.user.id === "100000000000000001";
});
const channel = client.channels.cache.get(CHANNEL);
await check("the channel is in its cache", () => Promise.resolve(channel?.isTextBased() === true));

let heard = event(client, Events.MessageCreate);
say({ want: "say", text: "<@100000000000000001> hello" });
const [message] = await heard;
await check("a mention, with its content and member", () => Promise.resolve(
  message.mentions.users.has(client.user.id) && message.content.includes("hello") && message.member !== null));
heard = event(client, Events.MessageCreate);
say({ want: "say", text: "just talking" });
await check("without the intent other content is hidden", async () => (await heard)[0].content === "");
heard = event(client, Events.MessageCreate);
say({ want: "say", text: "in private", direct: true });
await check("a direct message", async () => (await heard)[0].content === "in private");

const row = new ActionRowBuilder().addComponents(
  new ButtonBuilder().setCustomId("glmbot:stop:7").setLabel("Stop").setStyle(ButtonStyle.Secondary));
const reply = await check("reply with a button", () => message.reply({ content: "answer", components: [row] }));
await check("the button is parsed", () => Promise.resolve(reply.components[0].components[0].customId === "glmbot:stop:7"));
await check("edit", async () => (await reply.edit({ content: "better", components: [row] })).content === "better");
let used = event(client, Events.InteractionCreate);
say({ want: "press", button: "stop" });
await check("a press, deferred", async () => {
  const [press] = await used;
  await press.deferUpdate();
  return press.isButton() && press.message.id === reply.id;
});
let changed = event(client, Events.MessageUpdate);
say({ want: "say", text: "<@100000000000000001> first" });
await event(client, Events.MessageCreate);
say({ want: "edit", text: "<@100000000000000001> second" });
await check("an edit", async () => (await changed)[1].content.includes("second"));
let gone = event(client, Events.MessageDelete);
say({ want: "delete" });
await check("a deletion", async () => (await gone)[0].id !== undefined);

await check("commands are published", async () => (await client.application.commands.set([
  { name: "ask", description: "ask", options: [{ name: "question", description: "q", type: 3 }] },
  { name: "precision", description: "p", options: [{ name: "value", description: "v", type: 3, autocomplete: true }] },
])).size === 2);
used = event(client, Events.InteractionCreate, (each) => each.isChatInputCommand());
say({ want: "use", command: "ask", options: { question: "what?" } });
await check("a slash command: defer, edit, follow up", async () => {
  const [command] = await used;
  await command.deferReply();
  const edited = await command.editReply({ content: "answer" });
  const more = await command.followUp({ content: "more" });
  await command.webhook.deleteMessage(more.id);
  return command.options.getString("question") === "what?" && edited.content === "answer";
});
used = event(client, Events.InteractionCreate, (each) => each.isAutocomplete());
say({ want: "complete", command: "precision", typed: "int" });
await check("autocompletion", async () => {
  const [typed] = await used;
  await typed.respond([{ name: "int8", value: "int8" }]);
  return typed.options.getFocused() === "int";
});
const thread = await check("a thread of a message", () => message.startThread({ name: "A question" }));
await check("the thread has the message's id", () => Promise.resolve(thread.id === message.id && thread.isThread()));
await check("a message in the thread", () => thread.send("inside"));
heard = event(client, Events.MessageCreate);
say({ want: "say", text: "<@100000000000000001> in the thread", thread: message.id });
await check("a message heard in the thread", async () => (await heard)[0].channel.isThread());
await check("typing", () => channel.sendTyping());
await check("a file", () => channel.send({ files: [{ attachment: Buffer.from("{}"), name: "export.json" }] }));
await check("its rate limiter reads our headers: twelve sends, none refused for good", async () => {
  for (let number = 0; number < 12; number += 1) await channel.send(`number ${number}`);
});
await check("delete", () => reply.delete());
await check("deleting it twice is refused with Discord's code", async () => {
  try { await reply.delete(); } catch (error) { return error.code === 10008; }
  return false;
});
const resumed = event(client, Events.ShardResume);
say({ want: "drop" });
await check("a lost connection is resumed", () => resumed);
heard = event(client, Events.MessageCreate);
say({ want: "say", text: "<@100000000000000001> afterwards" });
await check("and goes on", async () => (await heard)[0].content.includes("afterwards"));
say({ end: true });
await client.destroy();
process.exit(0);
