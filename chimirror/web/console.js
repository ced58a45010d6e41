// SPDX-License-Identifier: MIT
/**
 * Page of the console: selects an application, runs a session and shows its output.
 *
 * The address of the page names the application, so that it can be bookmarked. Its query
 * is for the application, until another one is chosen. All data of servers and
 * applications are shown as text.
 */

import { command } from "./command.js";
import { copies } from "./copy.js";
import { Login } from "./login.js";
import { Plot, size } from "./plot.js";
import { read } from "./requests.js";
import { remember } from "./settings.js";
import { message, Talk } from "./talk.js";
import { Transcript } from "./transcript.js";

// The server's own root, which a proxy may have below a path of its own.
const ROOT = new URL("../../../../", import.meta.url);
const at = (id) => document.getElementById(id);
const TERMINAL = "stdio"; // the only framing that carries single keys

const talk = new Talk();
const transcript = new Transcript(at("transcript"), at("latest"), refreshButtons);
const plot = new Plot(at("plot"));
const login = new Login(() => void begin());
const history = [];
let applications = [];
let application = null; // the entry of the catalog
let manifest = null;
let terminal = null;
let asking = false; // a status request is pending
let recalled = 0; // position in the history

// Selecting an application.

/** Returns the URL of a path below the root of the server. */
const place = (path) => new URL(`./${path}`, ROOT);
const manifestPath = ({ name }) => (name ? `${name}/asyncapi.json` : "asyncapi.json");

async function begin() {
  at("application").replaceChildren();
  application = null;
  let found;
  try {
    found = await read(place(".well-known/chimirror"), login.token);
  } catch (error) {
    login.welcome(""); // a token that is refused otherwise can be forgotten
    refuse(`Cannot read the catalog: ${error.message}`, error);
    return refresh();
  }
  const wasAsked = login.welcome(found.user);
  ({ applications } = found.document);
  const here = location.pathname.slice(ROOT.pathname.length).split("/")[0];
  const isListed = applications.some(({ name }) => name === here);
  const refusal = here && !isListed ? await refusalOf(here) : undefined;
  if (refusal?.schemes) {
    refuse("", refusal);
    return refresh();
  }
  if (!applications.length) {
    const reason = refusal?.message ?? "no application is served";
    show("failed", `Cannot read the catalog: ${reason}`);
    return refresh();
  }
  for (const each of applications) at("application").add(new Option(label(each), each.name));
  if (isListed) at("application").value = here;
  if (refusal) show("failed", refusal.message);
  else show("idle", "Not connected");
  const chosen = choose(location.search);
  if (wasAsked) at("connect").focus();
  await chosen;
}

/** Returns why an application is not for this user, undefined if there is none. */
async function refusalOf(name) {
  try {
    await read(place(manifestPath({ name })), login.token);
  } catch (error) {
    if ([401, 403].includes(error.status)) return error;
  }
  return undefined;
}

/** Shows a refusal. The user may have to log in. */
function refuse(text, { schemes, elsewhere, message }) {
  const names = elsewhere ? [] : schemes;
  if (!names) show("failed", text);
  else if (login.ask(names, message)) show("failed", "The token was refused");
  else show("idle", "Not logged in");
}

function label({ name, title }) {
  return title && name ? `${title} (${name})` : title || name || "The application";
}

/** Chooses the selected application. The query of another one is not for it. */
async function choose(query) {
  const chosen = applications.find(({ name }) => name === at("application").value);
  application = chosen;
  manifest = null;
  const address = place(chosen.name).pathname + query;
  const here = location.pathname + location.search;
  if (here !== address) window.history.replaceState(null, "", address);
  document.title = `${chosen.title || chosen.name || "chimirror"} – chimirror console`;
  at("purpose").textContent = chosen.purpose;
  at("framing").replaceChildren(...chosen.framings.map((name) => new Option(name)));
  // The most capable. Beside lsp its stream has headers, which are not typed.
  const { framings } = chosen;
  if (framings.includes(TERMINAL) && !framings.includes("lsp")) at("framing").value = TERMINAL;
  at("manifest-link").href = place(manifestPath(chosen)).pathname;
  at("manifest-link").hidden = login.token !== undefined; // a link sends no token
  at("manifest").textContent = "";
  refresh();
  try {
    const { document: found } = await read(place(manifestPath(chosen)), login.token);
    if (application !== chosen) return;
    manifest = found;
    at("manifest").textContent = JSON.stringify(found, null, 2);
  } catch (error) {
    at("manifest").textContent = error.message;
  }
  refresh();
}

/** Returns the manifest's example messages for a framing, as a user types them. */
function examples(framing) {
  const channel = manifest?.channels?.[framing];
  const operation = manifest?.operations?.[`receive-${framing}`];
  const names = (operation?.messages ?? []).map(({ $ref }) => $ref.split("/").at(-1));
  return names.flatMap((name) => {
    const { contentType = "", examples: found = [] } = channel?.messages?.[name] ?? {};
    return found.map(({ payload }) => written(payload, framing, contentType)).filter(Boolean);
  });
}

function written(payload, framing, contentType) {
  if (framing === TERMINAL) {
    if (payload?.type !== "stdin") return "";
    const bytes = Uint8Array.from(atob(payload.payload), (char) => char.charCodeAt(0));
    return new TextDecoder().decode(bytes).replace(/\r?\n$/, "");
  }
  const plain = typeof payload === "string" && contentType.startsWith("text/");
  return plain ? payload : JSON.stringify(payload);
}

// Updating the page.

function show(state, text) {
  at("state").dataset.state = state;
  at("state").textContent = text;
}

/** The address of the chosen application, with the query of the page. */
const address = () => place(application.name + location.search).href;
const view = () => document.querySelector("[name=view]:checked").value;
const framing = () => at("framing").value;

function refresh() {
  const open = talk.live;
  const busy = open || talk.state === "connecting";
  const terminals = framing() === TERMINAL;
  const [lines, screen] = document.querySelectorAll("[name=view]");
  screen.disabled = !terminals;
  if (!terminals) lines.checked = true;
  at("framing-title").textContent = manifest?.channels?.[framing()]?.title ?? "";
  at("application").disabled = at("framing").disabled = busy;
  const again = ["ended", "failed"].includes(talk.state);
  at("connect").disabled = busy;
  at("connect").textContent = !application ? "Try again" : again ? "Reconnect" : "Connect";
  login.allowForgetting(!busy);
  at("about").disabled = at("command").disabled = !application;
  at("disconnect").disabled = !open;
  const mute = talk.mute || application?.direction === "receive";
  at("send").disabled = !open || mute;
  at("line").disabled = mute;
  for (const id of ["pause", "interrupt", "eof"]) at(id).hidden = !terminals;
  // An application that only sends would end. Disconnect is for that.
  at("interrupt").disabled = at("eof").disabled = !open || mute;
  at("hint").textContent = mute ? "This application accepts no input." : "";
  const found = mute ? [] : examples(framing());
  at("examples").hidden = !found.length;
  at("examples").replaceChildren(...found.map(exampleButton));
  at("fold").hidden = !open;
  refreshView();
  refreshButtons();
  refreshPause();
}

/** Folds the form to what a session needs, or unfolds it. Wide pages show it all. */
function fold(folded) {
  at("setup").classList.toggle("folded", folded);
  at("fold").setAttribute("aria-expanded", String(!folded));
}

function refreshPause() {
  at("pause").disabled = !talk.hasControl;
  at("pause").textContent = talk.paused ? "Resume" : "Pause";
}

function refreshView() {
  const screen = view() === "terminal";
  at("transcript").hidden = at("composer").hidden = at("looks").hidden = screen;
  for (const id of ["terminal", "keys", "reading"]) at(id).hidden = !screen;
  if (!screen) return;
  if (terminal) terminal.fit();
  else void openTerminal();
}

/** Returns the size of the terminal view if a session begins in it. */
async function screenSize() {
  if (application.pty && framing() === TERMINAL) {
    document.querySelector("[value=terminal]").checked = true;
    refreshView();
  }
  if (view() !== "terminal") return undefined;
  await openTerminal();
  return terminal.size;
}

async function openTerminal() {
  const { Terminal } = await import("./terminal.js");
  if (terminal) return;
  terminal = new Terminal(at("terminal"), talk, at("keys"));
  remember(at("reader"), (on) => terminal.setReader(on));
  terminal.onLines = say;
  if (talk.state === "connecting") return; // the earlier session is not shown
  for (const { name, text } of transcript.said()) terminal.add(name, text);
  if (talk.live) terminal.focus();
}

function refreshButtons() {
  at("save").disabled = at("clear").disabled = !transcript.length;
}

function exampleButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.addEventListener("click", () => {
    if (talk.live) return submit(text);
    at("line").value = text;
    at("line").focus();
  });
  return button;
}

/** Formats a time in seconds. */
function duration(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const parts = [hours && `${hours} h`, seconds >= 60 && `${minutes} min`];
  return [...parts, `${Math.floor(seconds) % 60} s`].filter(Boolean).join(" ");
}

function showTraffic() {
  for (const [name, bytes] of Object.entries(talk.bytes)) {
    at(`bytes-${name}`).textContent = size(bytes);
  }
  at("exit").textContent = talk.exit ?? (talk.ended ? "unknown" : "none yet");
  at("time").textContent = duration(talk.began ? ((talk.ended || Date.now()) - talk.began) / 1000 : 0);
}

/** Shows the status of the session on the server while its panel is visible. */
async function showServer() {
  if (asking || !at("server").open || document.hidden) return;
  asking = true;
  const status = await talk.status();
  asking = false;
  at("server-facts").hidden = !status;
  const unknown = talk.hasControl
    ? "The server does not answer."
    : "Available in sessions with framing stdio.";
  at("server-note").textContent = status ? "" : unknown;
  if (!status) return;
  at("age").textContent = duration(status.age);
  at("backlog-in").textContent = `${size(status.backlog_in)} wait`;
  at("backlog-out").textContent = `${size(status.backlog_out)} wait`;
  at("paused").textContent = status.paused.join(", ") || "nothing";
}

function tick() {
  showTraffic();
  void showServer();
  const { stdin, stdout, stderr } = talk.bytes;
  if (talk.live) plot.tick(stdin, stdout + stderr);
}

// Session.

async function say(lines) {
  for (const line of lines) transcript.line("stdin", line);
  await talk.send(lines);
}

async function submit(text) {
  const { lines, note = "" } = message(text, talk.framing);
  at("hint").textContent = note;
  if (lines.length) {
    if (history.at(-1) !== text) history.push(text);
    recalled = history.length;
    at("line").value = "";
    fitLine();
  }
  await say(lines);
}

function recall(step) {
  recalled = Math.max(0, Math.min(history.length, recalled + step));
  at("line").value = history[recalled] ?? "";
  fitLine();
}

function fitLine() {
  const line = at("line");
  line.rows = Math.min(8, line.value.split("\n").length);
}

function keepPage(event) {
  event.preventDefault();
}

function save() {
  const url = URL.createObjectURL(new Blob(transcript.saved(), { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  const name = application?.name || "session";
  link.download = `${name}-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.txt`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

talk.addEventListener("state", () => {
  if (talk.state === "failed") refuse(talk.text, talk.refusal ?? {});
  else show(talk.state, talk.text);
  if (talk.live) transcript.begin(label(application), talk.session);
  else if (talk.state !== "connecting") transcript.end(talk.state, talk.text);
  if (talk.pty) document.querySelector("[value=terminal]").checked = true;
  fold(talk.live);
  // The browser asks before it closes a page with a session.
  (talk.live ? addEventListener : removeEventListener)("beforeunload", keepPage);
  if (talk.live) terminal?.renew();
  else terminal?.attach();
  refresh();
  showTraffic();
  void showServer();
  if (talk.live) (view() === "terminal" ? terminal : at("line"))?.focus();
});
talk.addEventListener("data", ({ detail: { name, text } }) => {
  transcript.add(name, text);
  terminal?.add(name, text);
});
talk.addEventListener("pause", () => {
  show(talk.state, talk.text);
  refreshPause();
});
talk.onBehind = () => Promise.all([transcript.drawn(), terminal?.drawn()]);
talk.addEventListener("note", ({ detail }) => transcript.line("note", detail));

at("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!application) return void begin();
  plot.reset();
  void talk.start(address(), framing(), screenSize(), login.token);
});
at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("send").disabled) void submit(at("line").value);
});
at("line").addEventListener("keydown", (event) => {
  const single = !at("line").value.includes("\n");
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    at("composer").requestSubmit();
  } else if (single && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    recall(event.key === "ArrowUp" ? -1 : 1);
  }
});
at("line").addEventListener("input", fitLine);
at("application").addEventListener("change", () => choose(""));
at("fold").addEventListener("click", () => fold(!at("setup").classList.contains("folded")));
at("framing").addEventListener("change", refresh);
for (const radio of document.querySelectorAll("[name=view]")) {
  radio.addEventListener("change", refreshView);
}
at("times").checked = matchMedia("(min-width: 761px)").matches;
remember(at("times"), (shown) => transcript.showTimes(shown));
remember(at("colours"), (shown) => transcript.set("colours", shown));
remember(at("unfold"), (shown) => transcript.set("unfold", shown));
copies(at("command"), () => command(address(), framing(), application.framings));
at("disconnect").addEventListener("click", () => talk.stop());
at("interrupt").addEventListener("click", () => talk.interrupt());
at("eof").addEventListener("click", () => talk.eof());
at("pause").addEventListener("click", () => (talk.paused ? talk.resume() : talk.pause()));
at("about").addEventListener("click", () => at("sheet").showModal());
at("close").addEventListener("click", () => at("sheet").close());
at("sheet").addEventListener("click", ({ target }) => {
  if (target === at("sheet")) target.close(); // a click outside the dialog
});
at("server").addEventListener("toggle", showServer);
at("save").addEventListener("click", save);
at("clear").addEventListener("click", () => {
  transcript.clear();
  terminal?.clear();
});
at("unloaded").remove();
setInterval(tick, 1000);
void begin();
