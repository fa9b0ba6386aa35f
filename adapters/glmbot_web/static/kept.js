// What this browser remembers of its questions beside the server's history: those that were not sent or not answered,
// and how an answer ended where there is more to say than that it did.

import { say } from "/static/words.js";

const KEY = "questions", MOST = 200;
const read = () => { try { return JSON.parse(localStorage.getItem(KEY)) ?? []; } catch { return []; } };
const write = (entries) => { try { localStorage.setItem(KEY, JSON.stringify(entries.slice(-MOST))); } catch { /* private window, or full */ } };

export const remembered = (conversation) => read().filter((entry) => entry.conversation === conversation);

// The conversations that only this browser knows, with their first question.
export function unknown(chats) {
  const known = new Set(chats.map((chat) => chat.id)), found = new Map();
  for (const entry of read()) {
    if (!known.has(entry.conversation) && !found.has(entry.conversation)) found.set(entry.conversation, entry.question);
  }
  return [...found].map(([id, title]) => ({ id, title })).reverse();
}

export function remember(conversation, turn) {
  // Another page of this browser may have written meanwhile.
  const rest = read().filter((entry) => entry.conversation !== conversation || entry.ref !== turn.ref);
  const { ref, question, state, notice, actions, sent, text } = turn;
  write([...rest, { conversation, ref, question, state, notice, actions, sent, length: text?.length }]);
}

export function drop(conversation, ref) {
  write(read().filter((entry) => entry.conversation !== conversation || entry.ref !== ref));
}

export const forget = (conversation) => write(read().filter((entry) => entry.conversation !== conversation));
export const forgetAll = () => write([]);

// How an answer of the history ended, as this browser saw it; another version of it may have ended otherwise.
export function ended(entry, turn) {
  if (!entry || !["stopped", "final"].includes(entry.state)) return {};
  if (entry.length !== undefined && entry.length !== turn.text.length) return {};
  return { state: entry.state, notice: entry.notice, actions: entry.actions };
}

// Whether the history has its answer, if not in the branch that is shown.
export const elsewhere = ({ state, text, length }) => ["stopped", "final"].includes(state) && (length ?? text?.length ?? 0) > 0;

// A question that the history does not have.
export function unanswered(entry) {
  const turn = { ...entry, blocks: [], text: "", actions: [] };
  if (entry.state === "unsent") return turn;
  return { ...turn, state: "failed", notice: entry.state === "failed" && entry.notice ? entry.notice : say("unanswered") };
}
