// The list of conversations.

import { element, say } from "/static/words.js";

export function showChats(place, chats, current, open, remove) {
  place.replaceChildren(...chats.map((chat) => {
    const item = element("li");
    const title = element("button", "chat-title", chat.title || say("new"));
    title.type = "button";
    title.dir = "auto";
    title.title = chat.title || "";
    if (chat.id === current) title.setAttribute("aria-current", "true");
    title.addEventListener("click", () => open(chat));
    const gone = element("button", "icon", "✕");
    gone.type = "button";
    gone.title = say("delete");
    gone.setAttribute("aria-label", `${say("delete")}: ${chat.title}`);
    gone.addEventListener("click", () => remove(chat));
    item.append(title, gone);
    return item;
  }));
  place.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
}
