// SPDX-License-Identifier: MIT
/**
 * The page of the editor: one document and one language server.
 *
 * Guarantees: messages of a language server are shown as text, never as HTML, and are
 * cut to a readable length. Responses about an older text are dropped.
 */

import { LanguageServer } from "./lsp.js";
import { Explanation, List } from "./popups.js";
import { Sheet } from "./sheet.js";

const DOCUMENT = { uri: "file:///nowhere/example.py", languageId: "python" };
const MAX_PROBLEMS = 200; // shown
const MAX_LENGTH = 2000; // characters of a message
const HOVER_DELAY = 400; // ms that a pointer rests before a word is explained
const SEVERITIES = ["", "Error", "Warning", "Information", "Hint"];
const CAPABILITIES = {
  general: { positionEncodings: ["utf-16"] },
  textDocument: {
    publishDiagnostics: { versionSupport: true },
    completion: { contextSupport: false },
    hover: { contentFormat: ["plaintext"] },
  },
};

const at = (id) => document.getElementById(id);
const area = at("area");
const sheet = new Sheet(area, at("mirror"), at("gutter"));
const list = new List(at("completions"), area, accept);
const explanation = new Explanation(at("explanation"));

let link = null; // the language server
let server = null; // the same, once it knows the document
let leave = null; // ends or aborts the connection
let version = 0; // of the document
let question = 0; // number of the last request: older responses are dropped
let completing = false; // a completion was requested and typing goes on
let triggers = []; // characters that trigger a completion
let problems = [];
let judged = 0; // the version that they belong to
let resting = 0; // the timer of the pointer

// The connection

function show(state, text) {
  const engaged = state === "open" || state === "connecting";
  at("state").dataset.state = state;
  at("state").textContent = text.slice(0, MAX_LENGTH);
  at("connect").textContent = engaged ? "Disconnect" : "Reconnect";
  at("address").readOnly = engaged;
}

async function connect() {
  const giving = new AbortController();
  leave = () => giving.abort(new Error("given up"));
  show("connecting", "Connecting");
  try {
    const found = await LanguageServer.start(at("address").value.trim(), giving.signal);
    leave = () => found.close();
    link = found;
    found.addEventListener("notification", ({ detail }) => notified(found, detail));
    found.addEventListener("close", ({ detail }) => found === link && ended(detail));
    await introduce(found);
    leave = () => found.stop();
  } catch (error) {
    if (at("state").dataset.state !== "connecting") return; // its end is already shown
    link = server = null;
    show("failed", `Not connected: ${error.message}`);
    leave();
  }
}

async function introduce(found) {
  const asked = { processId: null, rootUri: null, capabilities: CAPABILITIES };
  const { capabilities, serverInfo } = (await found.request("initialize", asked)) ?? {};
  const told = capabilities?.completionProvider?.triggerCharacters;
  triggers = Array.isArray(told) ? told : [];
  server = found;
  version += 1;
  const textDocument = { ...DOCUMENT, version, text: sheet.text };
  server.notify("initialized", {});
  server.notify("textDocument/didOpen", { textDocument });
  const { name = "a language server", version: which = "" } = serverInfo ?? {};
  show("open", `Connected to ${name} ${which}`.trim());
}

function ended({ failed, text }) {
  server = null;
  close();
  diagnosed([]);
  at("count").textContent = "";
  show(failed ? "failed" : "ended", `${failed ? "Lost" : "Ended"}: ${text}`);
}

// Problems

function notified(from, { method, params }) {
  if (method !== "textDocument/publishDiagnostics" || from !== server) return;
  const late = Number.isInteger(params?.version) && params.version < version;
  if (late || params?.uri !== DOCUMENT.uri || !Array.isArray(params.diagnostics)) return;
  diagnosed(params.diagnostics);
}

function diagnosed(found) {
  judged = version;
  problems = found.slice(0, MAX_PROBLEMS).map((each) => ({
    start: each?.range?.start,
    end: each?.range?.end,
    severity: [1, 2, 3, 4].includes(each?.severity) ? each.severity : 1,
    text: typeof each?.message === "string" ? each.message.slice(0, MAX_LENGTH) : "",
  }));
  const offset = ({ start }) => sheet.offset(start);
  problems.sort((one, other) => offset(one) - offset(other));
  sheet.mark(problems);
  at("problems").replaceChildren(...problems.map(problemButton));
  const first = `, the first ${MAX_PROBLEMS} of which are shown`;
  const more = found.length > MAX_PROBLEMS ? first : "";
  const count = `${found.length} problem${found.length === 1 ? "" : "s"}${more}`;
  at("count").textContent = found.length ? count : "No problems found";
}

function problemButton(problem) {
  const button = document.createElement("button");
  const where = document.createElement("span");
  button.type = "button";
  button.className = `severity-${problem.severity}`;
  const line = sheet.place(sheet.offset(problem.start)).line + 1;
  where.textContent = `Line ${line}: ${SEVERITIES[problem.severity]}`;
  button.append(where, problem.text);
  button.addEventListener("click", () => showProblem(problem));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function showProblem({ start, end }) {
  sheet.select(sheet.offset(start), sheet.offset(end));
}

function showNextProblem() {
  const after = problems.find(({ start }) => sheet.offset(start) > area.selectionStart);
  const next = after ?? problems[0];
  if (!next) return say("No problems found");
  showProblem(next);
  say(next.text);
}

// Requests

/** Resolves to the response, or undefined if there is none or it is outdated. */
async function ask(what, offset) {
  const asked = ++question;
  const position = sheet.place(offset);
  const about = { textDocument: { uri: DOCUMENT.uri }, position };
  const answer = await server?.request(`textDocument/${what}`, about).catch(() => {});
  return asked === question ? answer : undefined;
}

async function complete() {
  completing = true;
  const offset = sheet.caret;
  const [begun] = /[\p{L}\p{N}_]*$/u.exec(sheet.text.slice(0, offset));
  const answer = await ask("completion", offset);
  if (answer === undefined) return;
  const count = list.open(answer, begun, sheet.rectangle(offset - begun.length));
  completing = count > 0;
  say(count ? `${count} completion${count === 1 ? "" : "s"}` : "No completions");
}

function accept({ text, range }, begun) {
  const end = range ? sheet.offset(range.end) : sheet.caret;
  const start = range ? sheet.offset(range.start) : end - begun.length;
  close();
  sheet.replace(start, Math.max(start, end), text);
}

async function explain(offset, aloud) {
  const answer = await ask("hover", offset);
  if (answer === undefined) return;
  const marked = problems.filter(({ start, end }) => {
    const over = sheet.offset(start) <= offset && offset <= sheet.offset(end);
    return over && judged === version;
  });
  const found = explanation.open(answer, marked, sheet.rectangle(offset));
  if (aloud) say(found || "Nothing is known of this");
}

function say(text) {
  at("said").textContent = text;
}

function close() {
  question += 1;
  completing = false;
  clearTimeout(resting);
  list.close();
  explanation.close();
}

/** Closes what has moved away. Typing scrolls too: its completions are still to come. */
function scrolled() {
  if (!completing || list.isOpen) close();
}

// User input

function changed(event) {
  const before = completing;
  close();
  sheet.draw();
  version += 1;
  server?.notify("textDocument/didChange", {
    textDocument: { uri: DOCUMENT.uri, version },
    contentChanges: [{ text: sheet.text }],
  });
  const last = sheet.text[sheet.caret - 1] ?? "";
  const typed = event.inputType === "insertText" && !event.isComposing;
  const goesOn = before && (/[\p{L}\p{N}_]/u.test(last) || triggers.includes(last));
  if (goesOn || (typed && event.data === last && triggers.includes(last))) void complete();
}

/** Indents a new line as the one before it, and further after a colon. */
function breakLine() {
  const { selectionStart, selectionEnd } = area;
  const line = sheet.text.slice(0, selectionStart).split("\n").at(-1);
  const indent = /^[ \t]*/.exec(line)[0] + (line.trimEnd().endsWith(":") ? "    " : "");
  sheet.replace(selectionStart, selectionEnd, `\n${indent}`);
}

const KEYS = {
  "Control+ ": () => complete(),
  F1: () => explain(sheet.caret, true),
  F8: () => showNextProblem(),
  Enter: () => (list.isOpen ? list.take() : breakLine()),
  Tab: () => list.isOpen && list.take(),
  ArrowDown: () => list.isOpen && list.move(1),
  ArrowUp: () => list.isOpen && list.move(-1),
};

area.addEventListener("keydown", (event) => {
  const name = `${event.ctrlKey ? "Control+" : ""}${event.key}`;
  const bent = event.altKey || event.metaKey || event.shiftKey || event.isComposing;
  if (bent || !Object.hasOwn(KEYS, name)) return;
  if (KEYS[name]() !== false) event.preventDefault();
});
addEventListener("keydown", ({ key, target }) => {
  if (key !== "Escape") return;
  if (target === at("explanation")) area.focus();
  close();
});
area.addEventListener("input", changed);
area.addEventListener("blur", ({ relatedTarget }) => {
  if (relatedTarget !== at("explanation")) close();
});
at("explanation").addEventListener("blur", close);
at("sheet").addEventListener("scroll", scrolled);
addEventListener("scroll", scrolled);
addEventListener("resize", close);
area.addEventListener("pointerdown", close);
area.addEventListener("pointermove", ({ clientX, clientY, pointerType }) => {
  clearTimeout(resting);
  if (pointerType !== "mouse" || list.isOpen) return;
  resting = setTimeout(() => {
    const offset = sheet.at(clientX, clientY);
    if (offset === null) explanation.close();
    else void explain(offset, false);
  }, HOVER_DELAY);
});
for (const element of [area, at("explanation")]) {
  element.addEventListener("pointerleave", () => {
    clearTimeout(resting);
    const over = () => at("explanation").matches(":hover");
    resting = setTimeout(() => over() || explanation.close(), HOVER_DELAY);
  });
}
for (const [id, key] of [["complete", "Control+ "], ["explain", "F1"], ["next", "F8"]]) {
  // The text keeps the focus, and a touch device its keyboard.
  at(id).addEventListener("pointerdown", (event) => event.preventDefault());
  at(id).addEventListener("click", () => {
    area.focus();
    KEYS[key]();
  });
}
at("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  void (at("address").readOnly ? leave() : connect());
});

// A bookmark can name another server: #ws://127.0.0.1:4711/name
if (location.hash.length > 1) at("address").value = location.hash.slice(1);
void connect();
