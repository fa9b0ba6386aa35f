// What stands in the same place of a conversation: the question in other words, another answer.

import { element, say } from "/static/words.js";

// Shown as "2 / 3" between two arrows; `choose` is told the number of the turn that is wanted.
export function switcher(turn, choose) {
  const at = turn.branches.indexOf(turn.number), count = turn.branches.length;
  const group = element("span", "branches");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", say("versions"));
  const arrow = (sign, label, to) => {
    const made = element("button", "", sign);
    made.type = "button";
    made.title = say(label);
    made.setAttribute("aria-label", say(label));
    made.disabled = to === undefined;
    made.addEventListener("click", () => choose(to));
    return made;
  };
  group.append(
    arrow("‹", "earlier", turn.branches[at - 1]),
    element("span", "count", `${at + 1} / ${count}`),
    arrow("›", "later", turn.branches[at + 1]),
  );
  return group;
}
