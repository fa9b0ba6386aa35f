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

// A snapshot's blocks and text are what comes after those that stay.
export function grown(turn, snapshot) {
  if (!snapshot.blocks) return snapshot;
  const { from = 0, at = 0, blocks, text, ...rest } = snapshot;
  return { ...rest, blocks: [...(turn.blocks ?? []).slice(0, from), ...blocks], text: (turn.text ?? "").slice(0, at) + text };
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
  article.append(asked, element("div", "tools asked"), answer, element("p", "notice"), element("div", "tools answered"));
  return article;
}
