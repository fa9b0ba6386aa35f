// koishi's OneBot adapter against the OneBot server of our tests (RIG_URL). It asks for what people should do, and
// says what it saw, a line of JSON each.
import { createRequire } from 'node:module'

// Its packages as modules of ES do not load in each other.
const require = createRequire(import.meta.url)
const { Context, h } = require('koishi')
const http = require('@koishijs/plugin-http')
const OneBot = require('koishi-plugin-adapter-onebot')

const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')
const check = (what, ok, why = '') => say({ check: what, ok: !!ok, why: String(why).slice(0, 300) })

const app = new Context({ logger: { levels: { base: 0 } } })
const HTTP = http.default ?? http
if (!app.http) app.plugin(HTTP)
app.plugin(OneBot.default ?? OneBot, {
  selfId: process.env.RIG_SELF, protocol: 'ws', endpoint: process.env.RIG_URL, token: process.env.RIG_TOKEN,
})

const waiting = []
const seen = []
const came = (type) => new Promise((resolve, reject) => {
  const at = seen.findIndex((each) => each.type === type)
  if (at >= 0) return resolve(seen.splice(at, 1)[0])
  waiting.push({ type, resolve })
  setTimeout(() => reject(new Error(`no ${type} came`)), 30000)
})
for (const type of ['message', 'message-deleted']) {
  app.on(type, (session) => {
    const at = waiting.findIndex((each) => each.type === type)
    if (at >= 0) waiting.splice(at, 1)[0].resolve(session)
    else seen.push(session)
  })
}

async function talk(bot) {
  const login = await bot.getLogin()
  check('the login is read', login.user.id === process.env.RIG_SELF, JSON.stringify(login))
  say({ want: 'say', text: 'hello <b> & [CQ:face,id=1]', private: true })
  const first = await came('message')
  check('a private message', first.isDirect && first.userId === '7', first.userId)
  check('its words are as they were said', h.select(first.elements, 'text').map((each) => each.attrs.content).join('') === 'hello <b> & [CQ:face,id=1]', first.content)
  const [id] = await bot.sendMessage(first.channelId, h.text('[CQ:at,qq=all] & back'))
  check('what is sent has an id', !!id, id)
  const got = await bot.getMessage(first.channelId, id)
  check('and can be asked for', got.content.includes('back'), got.content)
  await bot.deleteMessage(first.channelId, id)
  const again = await bot.deleteMessage(first.channelId, id).then(() => '', (error) => error.message)
  check("what is gone can't be recalled again", again !== '', again)
  say({ want: 'say', text: 'in the group', at: true })
  const group = await came('message')
  check('a message in a group, with a mention', group.guildId === '5' && group.elements.some((each) => each.type === 'at' && each.attrs.id === process.env.RIG_SELF), group.content)
  const replied = await bot.sendMessage(group.channelId, h('message', h.quote(group.messageId), 'reply'), group.guildId)
  check('a reply is sent', replied.length === 1, JSON.stringify(replied))
  say({ want: 'recall' })
  const gone = await came('message-deleted')
  check('a recall', gone.messageId === group.messageId, gone.messageId)
  const groups = await bot.getGuildList()
  check('groups are listed', groups.data[0].id === '5', JSON.stringify(groups))
}

app.on('login-updated', async (session) => {
  if (session.bot.status !== 1 || app.begun) return
  app.begun = true
  try {
    await talk(session.bot)
  } catch (error) {
    check('the conversation came to its end', false, error.stack)
  }
  say({ end: true })
  process.exit(0)
})
await app.start()
