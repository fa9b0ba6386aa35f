// What a key means to a field of several lines.

export const touch = matchMedia("(pointer: coarse)");

// The key belongs to an input method. Safari ends a composition before it tells of the Enter that ended it, and leaves
// only the old number of such keys.
export const composing = (event) => event.isComposing || event.keyCode === 229;

// A telephone's keyboard has no Shift+Enter: there Enter makes a line, and the button sends.
export function sends(event) {
  if (event.key !== "Enter" || event.shiftKey || composing(event)) return false;
  return event.ctrlKey || event.metaKey || !touch.matches;
}
