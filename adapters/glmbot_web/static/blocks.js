// An answer's blocks in the page, changed only where they changed: what somebody has selected stays selected.

import { element, say } from "/static/words.js";

export function show(answer, blocks, decorate) {
  blocks.forEach((html, index) => {
    let block = answer.children[index];
    if (!block) {
      block = document.createElement("div");
      block.className = "block";
      answer.append(block);
    }
    if (block.made === html) return;
    block.made = html;
    const template = document.createElement("template");
    // The server renders the Markdown and lets no HTML of the model's through.
    template.innerHTML = html;
    decorate(template.content);
    become(block, template.content);
  });
  while (answer.children.length > blocks.length) answer.lastElementChild.remove();
}

function become(old, wanted) {
  const nodes = [...wanted.childNodes];
  nodes.forEach((node, index) => {
    const there = old.childNodes[index];
    if (!there) old.append(node);
    else if (there.nodeName !== node.nodeName) there.replaceWith(node);
    else if (node.nodeType === Node.TEXT_NODE) {
      if (node.data.startsWith(there.data)) there.appendData(node.data.slice(there.length));
      else there.data = node.data;
    } else if (node.nodeName !== "BUTTON") {
      for (const { name } of [...there.attributes]) if (!node.hasAttribute(name)) there.removeAttribute(name);
      for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
      become(there, node);
    }
  });
  while (old.childNodes.length > nodes.length) old.lastChild.remove();
}

// A snapshot's blocks, text and thought are what comes after those that stay. How long it was thought is this page's to know.
export function grown(turn, snapshot) {
  if (!snapshot.blocks) return snapshot;
  const { from = 0, at = 0, blocks, text, thought_at = 0, thought: more = "", ...rest } = snapshot;
  const thought = (turn.thought ?? "").slice(0, thought_at) + more, all = (turn.text ?? "").slice(0, at) + text;
  const thinksSince = turn.thinksSince ?? (thought && !all ? Date.now() : undefined);
  const thought_s = turn.thought_s ?? (thinksSince && all ? Math.max(1, Math.round((Date.now() - thinksSince) / 1000)) : undefined);
  return { ...rest, blocks: [...(turn.blocks ?? []).slice(0, from), ...blocks], text: all, thought, thinksSince, thought_s };
}

// What the model thought before its answer, folded until somebody opens it; a text that only grows, so that it stays selected.
export function showThought(details, turn, ended) {
  const [summary, body] = details.children, thought = turn.thought ?? "";
  details.hidden = !thought;
  const words = !turn.text && !ended ? say("thinking") : turn.thought_s ? say("thoughtFor").replace("{s}", turn.thought_s) : say("thought");
  if (summary.textContent !== words) summary.textContent = words;
  if (!body.firstChild) body.append("");
  const there = body.firstChild;
  if (!thought.startsWith(there.data)) there.data = thought;
  else if (thought.length > there.data.length) there.appendData(thought.slice(there.data.length));
}

// A turn's place in the page, where everything in it has yet to be filled in.
export function frame(turn) {
  const article = element("article", "turn"), asked = element("div", "question", turn.question), answer = element("div", "answer");
  article.id = `turn-${turn.ref}`;
  for (const [part, name] of [[asked, "you"], [answer, "bot"]]) {
    part.setAttribute("role", "group");
    part.setAttribute("aria-label", say(name));
  }
  asked.dir = "auto";
  const thought = element("details", "thought"), words = element("div");
  words.dir = "auto";
  thought.append(element("summary"), words);
  article.append(asked, element("div", "tools asked"), thought, answer, element("p", "notice"), element("div", "tools answered"));
  return article;
}
