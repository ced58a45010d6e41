// SPDX-License-Identifier: MIT
/**
 * One session as the console sees it: how it is, what came, what may be said.
 *
 * Law: everything that comes is counted and told once, in order, as text of a stream.
 * Ignorance: how anything is shown.
 */

import { connect } from "./chimirror.js";

const PAUSE = 30; // ms in which pieces are put together
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

/** Told by events: state (of this), data ({ name, text }), note (a text). */
export class Talk extends EventTarget {
  state = "idle"; // connecting, open, ended, failed
  text = "Not connected";
  framing = "";
  session = null;
  bytes = { stdin: 0, stdout: 0, stderr: 0 };
  exit = null;
  began = 0;
  ended = 0;
  #waiting = []; // [name, bytes] that came and are not told yet
  #decoders = {};
  #timer = 0;

  get live() {
    return this.state === "open";
  }

  /** Whether the application has a terminal of its own. */
  get pty() {
    return this.live && this.session.pty;
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
    for (const name of ["stdout", "stderr"]) {
      this.#decoders[name] = new TextDecoder("utf-8", { ignoreBOM: true });
      session.addEventListener(name, ({ detail }) => {
        this.bytes[name] += detail.length;
        this.#waiting.push([name, detail]);
        this.#timer ||= setTimeout(() => this.flush(), PAUSE);
      });
    }
    session.addEventListener("error", ({ detail }) => {
      if (detail.kind === "mistake") this.#tell("note", detail.message);
      else failure = detail;
    });
    session.addEventListener("close", async () => {
      this.flush();
      const { code, signal, reason } = await session.exit;
      this.ended = Date.now();
      this.session = null;
      if (code !== null) this.exit = `exit ${code}`;
      else if (signal !== null) this.exit = `signal ${signal}`;
      const text = failure?.message ?? this.exit ?? (reason || "closed from here");
      this.#become(failure ? "failed" : "ended", failure ? `Lost: ${text}` : `Ended: ${text}`);
    });
  }

  /** Tells what has come: in few big pieces, however many small ones there were. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const waiting = this.#waiting;
    this.#waiting = [];
    let text = "";
    waiting.forEach(([name, bytes], index) => {
      text += this.#decoders[name].decode(bytes, { stream: true });
      if (waiting[index + 1]?.[0] === name) return;
      this.#tell("data", { name, text });
      text = "";
    });
  }

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
}
