// The same for a page: `perform` plays a case, `told` is what has been told so far.
import * as module from "/chimirror.js";
import * as cases from "/cases.js";

globalThis.told = [];
globalThis.perform = async (name, address, options) => {
  const cue = () => new Promise((resolve) => (globalThis.cue = resolve));
  const say = (value) => told.push({ said: value });
  const play = cases[name](module, address, say, cue, options);
  told.push(await play.then((result) => ({ result }), (error) => ({ failed: error.stack })));
};
globalThis.ready = true;
