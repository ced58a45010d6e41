// SPDX-License-Identifier: MIT
/**
 * Session of the console: its state, output and input.
 *
 * Counts all output and dispatches it once, in order, as text of a stream. If chimirror.js
 * can slow the application down, output is read after earlier output was drawn. That
 * takes a terminal, which has a window, or a control connection. Else output is read at
 * once. Knows nothing of drawing.
 */

import { connect } from "./chimirror.js";

const OUTPUT = ["stdout", "stderr"];
const encoder = new TextEncoder();

/** Converts typed text to lines to send. `note` describes a conversion. */
export function message(text, framing) {
  if (framing === "stdio") return { lines: text.split("\n") };
  const value = parse(text);
  // Line breaks in a JSON text are only between its tokens.
  if (value !== undefined) return { lines: [text.trim().replace(/[\r\n]+/g, " ")] };
  if (framing === "lines") return { lines: text.split("\n") };
  if (framing === "json") {
    const said = JSON.stringify(text);
    return { lines: [said], note: `Not JSON: sent as the string ${said}` };
  }
  return { lines: [], note: "Not JSON: a language server accepts nothing else" };
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Dispatches the events state (this), pause, data ({ name, text }) and note (text). */
export class Talk extends EventTarget {
  state = "idle"; // connecting, open, ended, failed
  text = "Not connected";
  framing = "";
  session = null;
  bytes = { stdin: 0, stdout: 0, stderr: 0 };
  exit = null;
  refusal = null; // error of a session that did not begin
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

  /** Whether the application takes no input. */
  get mute() {
    return this.live && this.session.direction === "receive";
  }

  /** Whether the session has a control connection. */
  get hasControl() {
    return this.live && this.session.control.available;
  }

  /** Whether the user has paused the output. */
  get paused() {
    return this.#pause !== undefined;
  }

  /**
   * @param size a promise: the size of the terminal, or undefined
   * @param token the token of the user, or undefined
   */
  async start(path, framing, size, token) {
    this.framing = framing;
    this.refusal = null;
    this.bytes = { stdin: 0, stdout: 0, stderr: 0 };
    this.exit = null;
    this.began = this.ended = 0;
    this.#become("connecting", "Connecting");
    try {
      const session = await connect(path, { framing, size: await size, token });
      this.session = session;
      this.#listen(session);
      this.began = Date.now();
      this.#become("open", "Connected");
    } catch (error) {
      this.refusal = error;
      const again = error.retryAfter ? `, in ${error.retryAfter} s` : "";
      this.#become("failed", `Not connected: ${error.message}${again}`);
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
      const text = failure?.message ?? this.exit ?? (reason || "closed by this page");
      this.#become(failure ? "failed" : "ended", failure ? `Lost: ${text}` : `Ended: ${text}`);
    });
  }

  async #read(session, name) {
    const reader = session[name].getReader();
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    for (;;) {
      // The session reports an error of the stream.
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      await this.#pause?.promise;
      this.bytes[name] += value?.length ?? 0;
      const text = decoder.decode(value, { stream: !done });
      if (text) this.#tell("data", { name, text });
      if (done) return;
      if (session.pty || session.control.available) await this.onBehind();
    }
  }

  /** Set by the owner: waits until all dispatched output is drawn. */
  async onBehind() {}

  #become(state, text) {
    this.state = state;
    this.text = text;
    this.#tell("state", this);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** Sends lines. A lost connection is reported by its event, not here. */
  async send(lines) {
    if (lines.length) await this.write(`${lines.join("\n")}\n`);
  }

  async write(text) {
    if (!this.live || this.mute) return;
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
    if (this.live && !this.mute) this.session.signal("INT");
  }

  stop() {
    this.session?.close();
  }

  // Control

  /** Pauses the output: at once in this page, later at the server. */
  async pause() {
    if (!this.hasControl || this.paused) return;
    this.#pause = Promise.withResolvers();
    this.#setText("Connected, output paused");
    await this.#ask((control) => control.pause(...OUTPUT));
  }

  async resume() {
    if (!this.paused) return;
    this.#release();
    if (this.live) this.#setText("Connected");
    await this.#ask((control) => control.resume(...OUTPUT));
  }

  #release() {
    this.#pause?.resolve();
    this.#pause = undefined;
  }

  #setText(text) {
    this.text = text;
    this.#tell("pause");
  }

  /** Returns the status on the server, null if it is unavailable. */
  async status() {
    return this.hasControl ? this.session.control.status().catch(() => null) : null;
  }

  async #ask(call) {
    await call(this.session.control).catch(({ message }) => {
      if (this.live) this.#tell("note", `The request to the server failed: ${message}`);
    });
  }
}
