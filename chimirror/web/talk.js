// SPDX-License-Identifier: MIT
/**
 * One session as the console sees it: how it is, what came, what may be said.
 *
 * Law: everything that comes is counted and told once, in order, as text of a stream.
 * What comes is read when what came before has been shown, where the session can be
 * paused (chimirror.js does that), and else at once. Ignorance: how anything is shown.
 */

import { connect } from "./chimirror.js";

const OUTPUT = ["stdout", "stderr"];
const encoder = new TextEncoder();

/** What to send for what somebody wrote; `note` says what became of it, if anything. */
export function message(text, framing) {
  if (framing === "stdio") return { lines: text.split("\n") };
  const value = parse(text);
  // Line breaks of a JSON text stand between its tokens.
  if (value !== undefined) return { lines: [text.trim().replace(/[\r\n]+/g, " ")] };
  if (framing === "lines") return { lines: text.split("\n") };
  if (framing === "json") {
    const said = JSON.stringify(text);
    return { lines: [said], note: `Not JSON: goes as the string ${said}` };
  }
  return { lines: [], note: "Not JSON: a language server takes nothing else" };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Told by events: state (of this), pause, data ({ name, text }), note (a text). */
export class Talk extends EventTarget {
  state = "idle"; // connecting, open, ended, failed
  text = "Not connected";
  framing = "";
  session = null;
  bytes = { stdin: 0, stdout: 0, stderr: 0 };
  exit = null;
  began = 0;
  ended = 0;
  #pause; // resolved when the output is resumed

  get live() {
    return this.state === "open";
  }

  /** Whether the application has a terminal of its own. */
  get pty() {
    return this.live && this.session.pty;
  }

  /** Whether the server can be asked about the session. */
  get steerable() {
    return this.live && this.session.control.available;
  }

  /** Whether the output is, because somebody wanted it. */
  get paused() {
    return this.#pause !== undefined;
  }

  async start(path, framing) {
    this.framing = framing;
    this.bytes = { stdin: 0, stdout: 0, stderr: 0 };
    this.exit = null;
    this.began = this.ended = 0;
    this.#become("connecting", "Connecting");
    try {
      const session = await connect(path, { framing });
      this.session = session;
      this.#listen(session);
      this.began = Date.now();
      this.#become("open", "Connected");
    } catch (error) {
      this.#become("failed", `Not connected: ${error.message}`);
    }
  }

  #listen(session) {
    let failure;
    const streams = OUTPUT.map((name) => this.#read(session, name));
    session.addEventListener("error", ({ detail }) => {
      if (detail.kind === "mistake") this.#tell("note", detail.message);
      else failure = detail;
    });
    session.addEventListener("close", async () => {
      this.#release();
      await Promise.all(streams);
      const { code, signal, reason } = await session.exit;
      this.ended = Date.now();
      this.session = null;
      if (code !== null) this.exit = `exit ${code}`;
      else if (signal !== null) this.exit = `signal ${signal}`;
      const text = failure?.message ?? this.exit ?? (reason || "closed from here");
      this.#become(failure ? "failed" : "ended", failure ? `Lost: ${text}` : `Ended: ${text}`);
    });
  }

  async #read(session, name) {
    const reader = session[name].getReader();
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    for (;;) {
      // (An error of the stream is told by the session.)
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      await this.#pause?.promise;
      this.bytes[name] += value?.length ?? 0;
      const text = decoder.decode(value, { stream: !done });
      if (text) this.#tell("data", { name, text });
      if (done) return;
      if (session.control.available) await this.onBehind();
    }
  }

  /** For the owner to define: waits until all that was told has been shown. */
  async onBehind() {}

  #become(state, text) {
    this.state = state;
    this.text = text;
    this.#tell("state", this);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Sends lines; a broken connection is told as such, and not here. */
  async send(lines) {
    for (const line of lines) await this.write(`${line}\n`);
  }

  async write(text) {
    if (!this.live) return;
    this.bytes.stdin += encoder.encode(text).length;
    const writer = this.session.stdin.getWriter();
    const written = writer.write(text);
    writer.releaseLock();
    await written.catch(() => {});
  }

  async eof() {
    await this.session?.eof().catch(() => {});
  }

  resize(columns, rows) {
    if (this.pty) this.session.resize(columns, rows);
  }

  interrupt() {
    if (this.live) this.session.signal("INT");
  }

  stop() {
    this.session?.close();
  }

  // Control

  /** Stops the output at once: here, and by and by at its source. */
  async pause() {
    if (!this.steerable || this.paused) return;
    this.#pause = Promise.withResolvers();
    this.#told("Connected, output paused");
    await this.#ask((control) => control.pause(...OUTPUT));
  }

  async resume() {
    if (!this.paused) return;
    this.#release();
    if (this.live) this.#told("Connected");
    await this.#ask((control) => control.resume(...OUTPUT));
  }

  #release() {
    this.#pause?.resolve();
    this.#pause = undefined;
  }

  #told(text) {
    this.text = text;
    this.#tell("pause");
  }

  /** What it is on the server's side; nothing if that cannot be found out. */
  async status() {
    return this.steerable ? this.session.control.status().catch(() => null) : null;
  }

  async #ask(call) {
    await call(this.session.control).catch(({ message }) => {
      if (this.live) this.#tell("note", `The server could not be told: ${message}`);
    });
  }
}
