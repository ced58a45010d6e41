// SPDX-License-Identifier: MIT
/**
 * Keys for the controls in a scrolled element, of which there may be many.
 *
 * The Tab key leads from the element to one control and from that out of the element.
 * Arrow keys lead to the other controls.
 */

const STEPS = { ArrowUp: -1, ArrowDown: 1 };

/** Handles the keys of an element whose controls have the class "control". */
export function handleControlKeys(element) {
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const wanted = event.key === "Tab" ? fromOutside(element, event) : neighbour(element, event);
    if (!wanted) return;
    event.preventDefault();
    wanted.focus();
  });
}

const controls = (element) => [...element.querySelectorAll(".control")];

/** Returns the last control in view, else the last one. */
function fromOutside(element, { target }) {
  if (target !== element) return undefined;
  const found = controls(element);
  const { top, bottom } = element.getBoundingClientRect();
  const isShown = (control) => {
    const box = control.getBoundingClientRect();
    return box.top >= top && box.bottom <= bottom;
  };
  return found.findLast(isShown) ?? found.at(-1);
}

function neighbour(element, { key, target }) {
  if (!(key in STEPS) || !target.classList.contains("control")) return undefined;
  const found = controls(element);
  return found[found.indexOf(target) + STEPS[key]] ?? target;
}
