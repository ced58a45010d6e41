// Runs cases in a page: `perform` runs a case, `messages` holds its messages so far.
import * as module from "/chimirror.js";
import * as cases from "/cases.js";

globalThis.messages = [];
globalThis.perform = async (name, address, options) => {
  const cue = () => new Promise((resolve) => (globalThis.cue = resolve));
  const say = (value) => messages.push({ said: value });
  const running = cases[name](module, address, say, cue, options);
  messages.push(await running.then((result) => ({ result }), (error) => ({ failed: error.stack })));
};
globalThis.ready = true;
