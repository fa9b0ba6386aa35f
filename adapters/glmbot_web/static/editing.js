// A question that is being put in other words, in its own place.

import { composing, sends } from "/static/keys.js";
import { button, element, say } from "/static/words.js";

// `save` is told the new words, and the question stands there again unless it returns false.
export function editForm(question, text, save) {
  const form = element("form", "edit"), area = element("textarea");
  area.value = text;
  area.dir = "auto";
  area.setAttribute("aria-label", say("edit"));
  const close = () => form.replaceWith(question);
  form.append(area, element("button", "primary", say("save")), button("cancel", close));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (save(area.value.trim()) !== false) close();
  });
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !composing(event)) { event.stopPropagation(); close(); }
    if (sends(event)) { event.preventDefault(); form.requestSubmit(); }
  });
  question.replaceWith(form);
  area.focus();
  area.style.height = `${area.scrollHeight}px`;
}
