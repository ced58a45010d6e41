// SPDX-License-Identifier: MIT
/**
 * Client for browsers and Node: a remote process as Web Streams and as events.
 *
 * Guarantees: data are delivered completely and in order, or the stream ends with an
 * error. Memory stays below the stated limits. Types and contracts are in
 * chimirror.d.ts, the messages in chimirror-protocol(7). Knows nothing of pages and
 * does not reconnect.
 */

const PIECE_SIZE = 48 << 10; // bytes of standard input in one message
const HIGH_WATER_MARK = 1 << 20; // bytes in each direction that cause back-pressure
const WINDOW = 128 << 10; // bytes of a terminal's output beyond those that were read
const MIN_WINDOW = 4 << 10; // bytes: with less, each byte would wait for a message
const MAX_UNREAD = 64 << 20; // bytes of unread output without back-pressure
const BLOCK_SIZE = 16 << 10; // bytes of a block that joins small pieces
const DRAIN_INTERVAL = 5; // ms between checks of bufferedAmount, which has no event
const CLOSE_TIMEOUT = 2000; // ms for the closing handshake
const RETRY_DELAY = 500; // ms until the next attempt to resume a stream, then doubled
const MAX_RETRY_DELAY = 30_000; // ms
const RESPONSE_TIMEOUT = 5000; // ms for a response after a failure
const CONNECT_TIMEOUT = 10_000; // ms for each URL, until the application runs
const MAX_RETRY_AFTER = 30; // seconds of a Retry-After that is waited for
const WAIT_STATUSES = [429, 503]; // whose Retry-After is waited for
const MAX_DELAY = 2 ** 31 - 1; // ms, of setTimeout
const FAILURE_CODE = 4000; // close code for failures of the client
const ALIVE = "chimirror.alive.v1"; // asks for messages that show that the server is alive
const LATE = 1000; // ms after which a timer was held up: by the browser, or while asleep
const BEARER = "chimirror.bearer."; // before a token, which WebSocket has no field for
const STREAMS = ["stdin", "stdout", "stderr"];

export class ChimirrorError extends Error {
  /** `kind`: refused, lost, mistake, protocol, unread, over, control or unsupported. */
  constructor(kind, message, more = {}) {
    super(message, more);
    this.name = "ChimirrorError";
    Object.assign(this, more, { kind });
  }
}

/** Starts a session. Resolves once the application runs. */
export async function connect(urls, options = {}) {
  requireRuntime();
  const { framing = "stdio", size, signal, token } = options;
  if (!Object.hasOwn(FRAMINGS, framing)) {
    const known = Object.keys(FRAMINGS).join(", ");
    throw new TypeError(`unknown framing ${framing}; write one of ${known}`);
  }
  if (!["undefined", "string", "function"].includes(typeof token)) throw notToken();
  const { subprotocol = `chimirror.${framing}.v1` } = options;
  const subprotocols = [subprotocol];
  if (framing === "stdio") subprotocols.push(ALIVE);
  if (size) subprotocols.push(sizeSubprotocol(size));
  const addresses = [urls].flat().map(addressOf);
  if (!addresses.length) throw new TypeError("there is no URL to connect to");
  signal?.throwIfAborted();
  return openFirst(addresses, { ...options, framing, subprotocols });
}

function requireRuntime() {
  const { WebSocket } = globalThis;
  const needed = { WebSocket, "Promise.withResolvers": Promise.withResolvers };
  const missing = Object.keys(needed).filter((name) => !needed[name]);
  if (!missing.length) return;
  const text = "chimirror.js needs Node 22 or newer, or a browser of 2024 or newer";
  throw new ChimirrorError("unsupported", `${text}; missing here: ${missing.join(", ")}`);
}

/** Returns the URL for WebSocket, which accepts neither a fragment nor credentials. */
function addressOf(url) {
  if (/[\x00-\x1f\x7f]/.test(url)) throw new TypeError("the URL has control characters");
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace(/^http/, "ws");
  const { protocol, username, password } = address;
  if (!["ws:", "wss:"].includes(protocol)) {
    const text = `a WebSocket of JavaScript cannot connect to ${protocol}`;
    throw new TypeError(`${text}; write ws:, wss:, http: or https:`);
  }
  if (username || password) {
    const cure = "let the page log in, so that the browser sends its cookie";
    throw new TypeError(`WebSocket sends no user and password of a URL; ${cure}`);
  }
  address.hash = "";
  return address.href;
}

/** Returns the subprotocol that tells the size of the client's terminal. */
function sizeSubprotocol({ columns, rows }) {
  const fits = (each) => Number.isInteger(each) && each > 0 && each < 65536;
  if (fits(columns) && fits(rows)) return `chimirror.size.${columns}x${rows}`;
  const text = "the columns and rows of a size are integers from 1 to 65535";
  throw new TypeError(`${text}, not ${columns} and ${rows}`);
}

const TOKEN = /^[\w.~+/-]+=*$/; // RFC 6750, 2.1

function notToken() {
  const text = "a token has letters, digits and -._~+/ alone, and = at its end";
  return new TypeError(`${text}; a function may return it`);
}

/** Returns the token for one connection. `given` is a text, a function, or undefined. */
async function readToken(given, signal = undefined) {
  if (given === undefined) return undefined;
  const token = typeof given === "function" ? await beforeAbort(given, signal) : given;
  if (typeof token !== "string" || !TOKEN.test(token)) throw notToken();
  return token;
}

/** Returns the result of a function, unless the signal ends the wait with its reason. */
async function beforeAbort(work, signal) {
  const aborted = Promise.withResolvers();
  const abort = () => aborted.reject(signal.reason);
  signal?.addEventListener("abort", abort);
  try {
    return await Promise.race([work(), aborted.promise]);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

/** Returns the subprotocols to offer. Pages cannot set fields, so one has the token. */
function withToken(subprotocols, token) {
  if (token === undefined) return subprotocols;
  const text = btoa(token).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  return [...subprotocols, BEARER + text];
}

/** Opens a session at the first URL that gives one. Several may be tried twice. */
async function openFirst(addresses, options) {
  let found = await tryInOrder(addresses, options);
  if (addresses.length === 1) {
    if (found.session) return found.session;
    throw found.errors[0];
  }
  const delay = Math.min(...found.errors.map(waitOf));
  if (!found.session && !found.errors.some(isFinal) && delay <= MAX_RETRY_AFTER) {
    await sleep(1000 * delay, options.signal);
    found = await tryInOrder(addresses, options);
  }
  if (found.session) return found.session;
  throw joined(addresses, found.errors);
}

/** Returns a session, or the errors of the URLs up to one whose refusal is final. */
async function tryInOrder(addresses, options) {
  const errors = [];
  for (const address of addresses) {
    try {
      return { session: await Session.open(address, options), errors };
    } catch (error) {
      if (error?.kind !== "refused") throw error;
      errors.push(error);
      if (isFinal(error)) break;
    }
  }
  return { errors };
}

/** Whether no other server is asked: the request or the trust is wrong, not a server. */
function isFinal({ status = 500, final = false }) {
  return final || (status < 500 && ![408, 429].includes(status));
}

/** Returns the seconds after which a server wants to be asked again. */
function waitOf({ status, retryAfter = Infinity }) {
  return WAIT_STATUSES.includes(status) ? retryAfter : Infinity;
}

/** Returns one error for all URLs. Their queries may hold secrets. */
function joined(addresses, errors) {
  const shown = errors.map(({ message }, at) => {
    return `\n  ${addresses[at].replace(/\?.*/, "")}: ${message}`;
  });
  const text = `no session at any of ${errors.length} URLs`;
  return new ChimirrorError("refused", `${text}:${shown.join("")}`, { errors });
}

/** Waits, unless the signal ends that with its reason. */
async function sleep(time, signal = undefined) {
  const over = Promise.withResolvers();
  const abort = () => over.reject(signal.reason);
  const timer = setTimeout(over.resolve, time);
  signal?.addEventListener("abort", abort);
  try {
    signal?.throwIfAborted();
    await over.promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** Iterates over the lines of a stream of bytes. Leaving the loop cancels the stream. */
export async function* lines(stream, { limit = MAX_UNREAD } = {}) {
  const reader = stream.getReader();
  const cutter = new LineSplitter(new TextDecoder("utf-8", { ignoreBOM: true }));
  try {
    for (;;) {
      const { done, value } = await reader.read();
      yield* cutter.cut(value, done);
      if (done) return;
      if (cutter.rest.length > limit) {
        throw new ChimirrorError("unread", `a line is longer than ${limit}`);
      }
    }
  } finally {
    await reader.cancel().catch(() => {}); // the error was already thrown
    reader.releaseLock();
  }
}

/** Reads a stream of bytes to its end, as text. */
export async function text(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let whole = "";
  for (;;) {
    const { done, value } = await reader.read();
    whole += decoder.decode(value, { stream: !done });
    if (done) return whole;
  }
}

/** Splits chunks of bytes or text into lines. */
class LineSplitter {
  rest = "";

  constructor(decoder) {
    this.decoder = decoder;
  }

  cut(chunk, last = false) {
    const known = typeof chunk === "string";
    const text = known ? chunk : this.decoder.decode(chunk, { stream: !last });
    const found = text.split("\n");
    found[0] = this.rest + found[0];
    this.rest = found.pop();
    if (last && this.rest) found.push(this.rest);
    return found.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  }
}

/** Encoder for framing stdio: bytes, in pieces. */
class StdioEncoder {
  *encode(chunk) {
    const bytes = bytesOf(chunk);
    for (let at = 0; at < bytes.length; at += PIECE_SIZE) {
      const payload = toBase64(bytes.subarray(at, at + PIECE_SIZE));
      yield JSON.stringify({ type: "stdin", payload });
    }
  }

  *end() {
    yield JSON.stringify({ type: "eof" });
  }
}

/** Encoder for the other framings: each line is a message. */
class LineEncoder {
  #cutter = new LineSplitter(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));

  encode(chunk) {
    return this.#cutter.cut(typeof chunk === "string" ? chunk : bytesOf(chunk));
  }

  *end() {
    yield* this.#cutter.cut(undefined, true);
    throw new TypeError(
      "only the framing stdio can end standard input; close() ends the session",
    );
  }
}

/** Decodes a message that is a JSON object with a type. */
const decodeObject = (message) => JSON.parse(message);
/** Decodes a text message to a line of standard output. */
const decodeLine = (message) => ({ type: "stdout", text: `${message}\n` });
/** Decodes a JSON text to a line: its line breaks are only between tokens. */
const decodeJsonLine = (message) => decodeLine(message.replace(/[\r\n]+/g, " "));

const FRAMINGS = {
  stdio: { Input: StdioEncoder, decode: decodeObject },
  json: { Input: LineEncoder, decode: decodeObject },
  lines: { Input: LineEncoder, decode: decodeLine },
  lsp: { Input: LineEncoder, decode: decodeJsonLine },
};

/** Queue of bytes. Joins small pieces: each separate piece costs 400 bytes more. */
class ByteQueue {
  size = 0;
  #blocks = [];
  #last = new Uint8Array(0);
  #filled = 0;

  push(bytes) {
    this.size += bytes.length;
    if (this.#filled + bytes.length > this.#last.length) {
      this.#seal();
      if (bytes.length >= BLOCK_SIZE) return void this.#blocks.push(bytes);
      this.#last = new Uint8Array(BLOCK_SIZE);
    }
    this.#last.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  shift() {
    if (!this.#blocks.length) this.#seal();
    const bytes = this.#blocks.shift();
    this.size -= bytes.length;
    return bytes;
  }

  #seal() {
    if (this.#filled) this.#blocks.push(this.#last.subarray(0, this.#filled));
    this.#last = new Uint8Array(0);
    this.#filled = 0;
  }
}

/** Detects a silent server. Pages cannot see pings, and hidden pages have late timers. */
class SilenceTimer {
  #limit = 0; // ms, 0 until the start
  #heard = 0;
  #due = 0;
  #wasLate = false;
  #timer;
  #onSilent;

  start(limit, onSilent) {
    this.#limit = limit;
    this.#onSilent = onSilent;
    this.hear();
    this.#wait(limit);
  }

  /** Called with each message. */
  hear() {
    if (!this.#limit) return;
    this.#heard = performance.now();
    this.#wasLate = false;
  }

  end() {
    clearTimeout(this.#timer);
  }

  #wait(time) {
    this.#due = performance.now() + time;
    this.#timer = setTimeout(() => this.#check(), Math.min(time, MAX_DELAY));
  }

  #check() {
    const now = performance.now();
    const rest = this.#heard + this.#limit - now;
    // Messages may wait behind a late timer, so another period decides.
    const late = now - this.#due > LATE && !this.#wasLate;
    if (rest > 0 || late) {
      this.#wasLate = late;
      this.#wait(late ? this.#limit : rest);
    } else {
      this.#onSilent(this.#limit);
    }
  }
}

/** Window of a terminal: permits output in proportion to what was read. */
class OutputWindow {
  #ahead = 0; // bytes beyond those that were read
  #send; // undefined if there is no window
  #taken = 0;
  #permitted = 0;

  /** Calls `send` with each number of bytes that are permitted in all. */
  start(ahead, send) {
    this.#ahead = ahead;
    this.#send ??= send;
    this.#permit();
  }

  /** Called when bytes were read or dropped. */
  take(size) {
    this.#taken += size;
    if (this.#permitted - this.#taken <= this.#ahead / 2) this.#permit();
  }

  #permit() {
    this.#permitted = this.#taken + this.#ahead;
    this.#send?.(this.#permitted);
  }
}

/** Output stream, stdout or stderr: passes bytes to the reader, or queues them. */
class OutputStream {
  #controller; // undefined after the end of the stream
  #high;
  #hold;
  #window;
  #queue = new ByteQueue();
  #held = false; // `hold` was called last with this
  #awaited = false; // a read is pending
  #end; // called when the queue is empty

  /** Calls `hold` with true to pause the sender, and with false to resume it. */
  constructor(high, hold, window) {
    this.#high = high;
    this.#hold = hold;
    this.#window = window;
    const source = {
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#finish(),
    };
    this.stream = new ReadableStream(source, { highWaterMark: 0 });
  }

  get unread() {
    return this.#queue.size;
  }

  push(bytes) {
    if (!bytes.length || this.#end) return;
    if (!this.#controller) {
      this.#window.take(bytes.length);
    } else if (this.#awaited) {
      this.#awaited = false;
      this.#give(bytes);
    } else {
      this.#queue.push(bytes);
      if (this.unread > this.#high) this.#pause(true);
    }
  }

  #give(bytes) {
    this.#controller.enqueue(bytes);
    this.#window.take(bytes.length);
  }

  /** Each call of `hold` may wait for a response, so only changes call it. */
  #pause(held) {
    if (held === this.#held) return;
    this.#held = held;
    this.#hold(held);
  }

  /** Ends the stream after all queued bytes, with the error if there is one. */
  end(error) {
    this.#end ??= (controller) => (error ? controller.error(error) : controller.close());
    if (!this.unread) this.#finish();
  }

  #pull() {
    this.#awaited = !this.unread;
    if (this.unread) this.#give(this.#queue.shift());
    if (this.unread <= this.#high / 4) this.#pause(false);
    if (!this.unread && this.#end) this.#finish();
  }

  #finish() {
    const controller = this.#controller;
    this.#controller = undefined;
    this.#window.take(this.unread);
    this.#queue = new ByteQueue();
    this.#pause(false);
    if (controller) this.#end?.(controller);
  }
}

class Session extends EventTarget {
  url;
  framing;
  id = null;
  pty = false;
  direction = "both";
  readOnly = false;
  stdin;
  stdout;
  stderr;
  exit;
  control;
  #socket;
  #input; // encoder for stdin
  #decode; // decoder for messages of the server
  #high;
  #limit;
  #stdin; // the controller of the stream
  #outputs = Object.create(null); // no prototype: the keys come from the server
  #window = new OutputWindow();
  #silence = new SilenceTimer();
  #pumps = {}; // promises of readers that dispatch events, by stream
  #status; // exit of the application
  #failure; // error that ended the session
  #opened = false;
  #closing = false;
  #closed = false;
  #timer; // of the closing handshake
  #eof; // a promise
  #opening = Promise.withResolvers();
  #ended = Promise.withResolvers();

  constructor(address, options, token) {
    super();
    const { framing, subprotocols } = options;
    const { highWaterMark = HIGH_WATER_MARK, limit = MAX_UNREAD } = options;
    const { Input, decode } = FRAMINGS[framing];
    this.url = address;
    this.framing = framing;
    this.exit = this.#ended.promise;
    this.#input = new Input();
    this.#decode = decode;
    this.#high = highWaterMark;
    this.#limit = limit;
    this.control = new Control(address, framing, options.token);
    this.#socket = new WebSocket(address, withToken(subprotocols, token));
    this.#socket.onopen = () => this.#open();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#finish(code, reason);
    // If a policy forbids the connection, Chromium only dispatches this event.
    this.#socket.onerror = () => this.#opened || this.#finish(1006, "");
    this.stdin = new WritableStream({
      start: (controller) => {
        this.#stdin = controller;
        // An incomplete input ends the session. A method `abort` would wait for a
        // pending write.
        controller.signal.addEventListener("abort", () => this.close());
      },
      write: (chunk) => this.#send(this.#input.encode(chunk)),
      close: () => this.#send(this.#input.end()),
    });
    for (const name of ["stdout", "stderr"]) {
      const hold = (held) => this.control.hold(name, "unread", held).catch(() => {});
      this.#outputs[name] = new OutputStream(highWaterMark, hold, this.#window);
      this[name] = this.#outputs[name].stream;
    }
  }

  static async open(address, options) {
    const { signal, timeout = CONNECT_TIMEOUT } = options;
    const token = await readToken(options.token, signal);
    const session = new Session(address, options, token);
    const refusal = new RefusalReason(address, options.subprotocols, token);
    const abort = () => session.#giveUp(signal.reason);
    const timer = setTimeout(() => session.#giveUp(refusal.late(timeout)), timeout);
    signal?.addEventListener("abort", abort);
    try {
      await session.#opening.promise;
      return session;
    } catch (error) {
      throw error ?? (await refusal.explain(signal));
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      refusal.end();
    }
  }

  /** Stops connecting, without waiting for the server. */
  #giveUp(error) {
    this.#opening.reject(error);
    this.close();
  }

  async sendLine(line) {
    const writer = this.stdin.getWriter();
    const written = writer.write(`${line}\n`);
    writer.releaseLock();
    return written;
  }

  async sendJSON(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${typeof value} is not a JSON value`);
    return this.sendLine(text);
  }

  async eof() {
    this.#eof ??= this.#end();
    return this.#eof;
  }

  async #end() {
    try {
      this.#requireOpen();
      await this.stdin.close();
    } catch (error) {
      this.#eof = undefined;
      throw error;
    }
  }

  signal(name) {
    this.#command({ type: "signal", name: name.replace(/^SIG/, "") });
  }

  resize(columns, rows) {
    if (!this.pty) throw new TypeError("the application has no terminal");
    if (this.#isOpen) this.#command({ type: "resize", columns, rows });
  }

  #command(message) {
    if (this.framing !== "stdio") {
      throw new TypeError(`only the framing stdio has a ${message.type}`);
    }
    this.#requireOpen();
    this.#socket.send(JSON.stringify(message));
  }

  close() {
    if (!this.#closing && !this.#closed) {
      this.#closing = true;
      this.#socket.close(1000);
      this.#timer = setTimeout(() => this.#closeOverControl(), CLOSE_TIMEOUT);
    }
    return this.exit;
  }

  /** Closes over the control connection: unsent data may block the close frame. */
  async #closeOverControl() {
    const asked = this.control.close().then(() => [1000, "closed"]);
    const late = Promise.withResolvers();
    this.#timer = setTimeout(late.reject, RESPONSE_TIMEOUT);
    this.#finish(...(await Promise.race([asked, late.promise]).catch(() => [1006, ""])));
  }

  addEventListener(type, listener, options) {
    if (type in this.#outputs) {
      this.#pumps[type] ??= this.#pump(type, this[type].getReader());
    }
    super.addEventListener(type, listener, options);
  }

  async #pump(name, reader) {
    for (;;) {
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      if (done) return; // the session dispatches an event for an error
      this.#dispatch(name, value);
    }
  }

  #dispatch(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  get #isOpen() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  #requireOpen() {
    if (!this.#isOpen) throw this.#over();
  }

  #over() {
    return this.#failure ?? new ChimirrorError("over", "the session is over");
  }

  async #send(messages) {
    for (const message of messages) {
      this.#requireOpen();
      this.#socket.send(message);
      while (this.#socket.bufferedAmount > this.#high) {
        await sleep(DRAIN_INTERVAL);
        this.#requireOpen();
      }
    }
  }

  #open() {
    this.#opened = true;
    if (this.framing !== "stdio") this.#opening.resolve();
  }

  #receive(message) {
    this.#silence.hear();
    try {
      this.#handle(this.#decode(message));
    } catch (cause) {
      const shown = String(message).slice(0, 80);
      const text = `a message violates framing ${this.framing}: ${shown}`;
      this.#fail(new ChimirrorError("protocol", text, { cause }));
    }
  }

  /** Handles a message. Unknown types are ignored. */
  #handle(message) {
    const { type, payload, text, id, secret, code = null, signal = null } = message;
    if (type in this.#outputs) {
      this.#push(type, text === undefined ? fromBase64(payload) : encoder.encode(text));
    } else if (type === "session") {
      this.id = id;
      this.pty = message.pty === true;
      this.readOnly = message.read_only === true;
      if (["send", "receive"].includes(message.direction)) this.direction = message.direction;
      this.control.authorize(id, secret);
      if (message.window === true) this.#startWindow();
      const limit = 1000 * (message.ping_interval + message.ping_timeout);
      if (limit > 0) this.#silence.start(limit, () => this.#onSilent(limit));
      this.#opening.resolve();
    } else if (type === "exit") {
      this.#status = { code, signal };
    } else if (type === "error") {
      const mistake = new TextDecoder().decode(fromBase64(payload));
      this.#dispatch("error", new ChimirrorError("mistake", mistake));
    }
  }

  #onSilent(limit) {
    const text = `the connection was lost: nothing has arrived for ${limit / 1000} s`;
    const more = { closeCode: 1006, reason: "", retry: true };
    if (!this.#status) this.#failure = new ChimirrorError("lost", text, more);
    this.#socket.close(FAILURE_CODE);
    this.#finish(1006, "");
  }

  #startWindow() {
    const ahead = Math.ceil(Math.min(WINDOW, Math.max(MIN_WINDOW, this.#high)));
    this.#window.start(ahead, (bytes) => {
      if (this.#isOpen) this.#socket.send(JSON.stringify({ type: "window", bytes }));
    });
  }

  #push(name, bytes) {
    const output = this.#outputs[name];
    output.push(bytes);
    if (output.unread <= this.#limit) return;
    const cure = "read it, cancel it or set a higher limit";
    const text = `${output.unread} bytes of ${name} wait unread: ${cure}`;
    this.#fail(new ChimirrorError("unread", text));
  }

  /** Ends the session with an error, without waiting for the server. */
  #fail(error) {
    this.#failure = error;
    this.#socket.close(FAILURE_CODE);
    this.#finish(FAILURE_CODE, "");
  }

  async #finish(closeCode, reason) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#silence.end();
    const none = { onopen: null, onmessage: null, onclose: null, onerror: null };
    Object.assign(this.#socket, none);
    const [, code, signal] = /^(?:exit (\d+)|signal (\w+))$/.exec(reason) ?? [];
    if (code) this.#status ??= { code: Number(code), signal: null };
    if (signal) this.#status ??= { code: null, signal };
    const regular = this.#status || this.#closing || closeCode === 1000;
    const retry = !regular && worthRetry(closeCode, reason);
    if (!regular) this.#failure ??= lost(closeCode, reason, retry);
    this.#opening.reject(this.#opened ? this.#over() : undefined);
    this.#stdin.error(this.#over());
    this.control.end();
    for (const output of Object.values(this.#outputs)) output.end(this.#failure);
    await Promise.all(Object.values(this.#pumps));
    const end = { reason, closeCode, retry };
    this.#ended.resolve({ code: null, signal: null, ...this.#status, ...end });
    if (this.#status) this.#dispatch("exit", await this.exit);
    if (this.#failure) this.#dispatch("error", this.#failure);
    this.#dispatch("close", { code: closeCode, reason });
  }
}

/** Close reasons of chimirror-protocol(7) that need more words for a user. */
const REASONS = new Map([["drain", "the server is shutting down"]]);

/** Close codes of a lost connection, a restart, an overload and a lost server. */
const RETRY_CODES = [1006, 1012, 1013, 1014];
const RETRY_REASONS = ["", "drain"]; // with 1001

/** Whether another attempt may succeed, as in chimirror-protocol(7). */
function worthRetry(closeCode, reason) {
  if (closeCode === 1001) return RETRY_REASONS.includes(reason);
  return RETRY_CODES.includes(closeCode);
}

function lost(closeCode, reason, retry) {
  const text =
    closeCode === 1006
      ? "the connection was lost: the network or the server has failed"
      : (REASONS.get(reason) ?? `the server closed the session: ${reason || closeCode}`);
  return new ChimirrorError("lost", text, { closeCode, reason, retry });
}

/** Control connection: JSON-RPC about the session, opened for the first call. */
class Control extends EventTarget {
  #address;
  #framing;
  #token; // as given to `connect`
  #credentials; // parameters of authorize
  #opening; // the promise of an authorized socket
  #calls = new Map();
  #last = 0;
  #held = Object.fromEntries(STREAMS.map((name) => [name, new Set()]));
  /** Last acknowledged state of each stream, undefined while it is unknown. */
  #paused = Object.fromEntries(STREAMS.map((name) => [name, false]));
  #settling = {}; // promises, by stream
  #watchers = new Set();
  #over = false;
  #socket; // the newest one
  #reject; // of the promise that it opens
  #lost; // error of the connection that was lost last
  #timer; // of the last responses after the end of the session

  constructor(address, framing, token) {
    super();
    this.#address = address;
    this.#framing = framing;
    this.#token = token;
  }

  authorize(session, secret) {
    if (secret) this.#credentials = { session, secret };
  }

  get available() {
    return this.#credentials !== undefined;
  }

  async call(method, params) {
    if (this.#over) throw new ChimirrorError("over", "the session is over");
    const socket = await (this.#opening ??= this.#open().catch((error) => {
      this.#opening = undefined;
      throw error;
    }));
    return this.#ask(socket, method, params);
  }

  pause(...streams) {
    return this.#switch(streams, true);
  }

  resume(...streams) {
    return this.#switch(streams, false);
  }

  async #switch(streams, held) {
    const named = streams.length ? streams : STREAMS;
    const wrong = named.find((name) => !STREAMS.includes(name));
    if (wrong !== undefined) {
      throw new TypeError(`unknown stream ${wrong}; write one of ${STREAMS.join(", ")}`);
    }
    await Promise.all(named.map((name) => this.hold(name, "asked", held)));
  }

  /** Adds or removes a reason to pause a stream, and pauses or resumes it. */
  async hold(name, reason, held) {
    if (held) this.#held[name].add(reason);
    else this.#held[name].delete(reason);
    if (this.#isSettled(name)) return;
    await (this.#settling[name] ??= this.#settle(name));
  }

  #isSettled(name) {
    return this.#over || this.#paused[name] === this.#held[name].size > 0;
  }

  async #settle(name) {
    try {
      let delay = RETRY_DELAY;
      while (!this.#isSettled(name)) {
        if (await this.#sendPause(name, this.#held[name].size > 0)) continue;
        await sleep(delay);
        delay = Math.min(2 * delay, MAX_RETRY_DELAY);
      }
    } finally {
      delete this.#settling[name];
    }
  }

  /** Returns false if the connection was lost: a stream must not stay paused by that. */
  async #sendPause(name, pause) {
    this.#paused[name] = undefined;
    try {
      await this.call(pause ? "pause" : "resume", { streams: [name] });
      this.#paused[name] = pause;
      return true;
    } catch (error) {
      if (pause || error.code !== undefined) throw error;
      return false;
    }
  }

  status() {
    return this.call("status");
  }

  manifest() {
    return this.call("manifest");
  }

  signal(name) {
    return this.call("signal", { name: name.replace(/^SIG/, "") });
  }

  close() {
    return this.call("close");
  }

  /** Yields the status now and after each change. A slow reader gets the newest. */
  async *subscribe(interval = 1) {
    const watcher = new LatestValue();
    this.#watchers.add(watcher);
    try {
      yield await this.call("subscribe", { interval });
      for (;;) {
        const status = await watcher.take();
        if (!status) return;
        if (status instanceof ChimirrorError) throw status;
        yield status;
      }
    } finally {
      this.#watchers.delete(watcher);
      const idle = this.#opening && !this.#over && !this.#watchers.size;
      if (idle) await this.call("unsubscribe");
    }
  }

  /** Called at the end of the session. Pending calls may still get a response in time. */
  end() {
    this.#over = true;
    for (const watcher of this.#watchers) watcher.give(undefined);
    if (this.#opening) this.#timer = setTimeout(() => this.#abandon(), RESPONSE_TIMEOUT);
    this.#closeIfIdle();
  }

  #closeIfIdle() {
    if (this.#over && !this.#calls.size && this.#socket?.readyState === WebSocket.OPEN) {
      this.#abandon();
    }
  }

  /** Closes the connection without waiting for the server, which may never respond. */
  #abandon(error = new ChimirrorError("over", "the session is over"), code = 1000) {
    const socket = this.#socket;
    if (!socket) return;
    Object.assign(socket, { onopen: null, onmessage: null, onclose: null, onerror: null });
    socket.close(code);
    this.#disconnected(error, this.#over ? undefined : error);
  }

  async #open() {
    if (!this.#credentials) throw new ChimirrorError("control", this.#missingReason());
    const offered = ["chimirror.control.v1"];
    // A balancer reads the id, to find the host of the session. Servers ignore it.
    const { session } = this.#credentials;
    if (/^[0-9A-Za-z]{1,64}$/.test(session)) offered.push(`chimirror.session.${session}`);
    if (this.#token !== undefined) offered.push(...(await this.#readBearer()));
    const socket = new WebSocket(this.#address, offered);
    this.#socket = socket;
    const opened = Promise.withResolvers();
    this.#reject = opened.reject;
    socket.onopen = opened.resolve;
    socket.onmessage = ({ data }) => {
      try {
        this.#receive(JSON.parse(data));
        this.#closeIfIdle();
      } catch {
        const text = "the control connection ended: a message is not JSON-RPC";
        this.#abandon(new ChimirrorError("control", text), FAILURE_CODE);
      }
    };
    socket.onclose = ({ code, reason }) => {
      const text = `the control connection ended: ${REASONS.get(reason) ?? (reason || code)}`;
      const error = new ChimirrorError("control", text);
      this.#disconnected(error, code === 1000 ? undefined : error);
    };
    await opened.promise;
    await this.#ask(socket, "authorize", this.#credentials);
    return socket;
  }

  async #readBearer() {
    const token = await readToken(this.#token);
    if (this.#over) throw new ChimirrorError("over", "the session is over");
    return withToken([], token);
  }

  #missingReason() {
    return this.#framing === "stdio"
      ? "the server has no control connections"
      : "control needs the framing stdio, which carries the control secret";
  }

  #ask(socket, method, params) {
    if (socket !== this.#socket) throw this.#lost;
    const id = ++this.#last;
    const answer = Promise.withResolvers();
    this.#calls.set(id, answer);
    socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return answer.promise;
  }

  #receive({ id, method, params, result, error }) {
    if (method === "status") {
      for (const watcher of this.#watchers) watcher.give(params);
    } else if (method) {
      this.dispatchEvent(new CustomEvent("notification", { detail: { method, params } }));
    } else if (error) {
      const { code, message, data } = error;
      this.#calls.get(id)?.reject(new ChimirrorError("control", message, { code, data }));
    } else {
      this.#calls.get(id)?.resolve(result);
    }
    this.#calls.delete(id);
  }

  /** Rejects all calls, and gives the error or an end to watchers. */
  #disconnected(error, given) {
    clearTimeout(this.#timer);
    this.#socket = this.#opening = undefined;
    this.#lost = error;
    this.#reject?.(error);
    for (const answer of this.#calls.values()) answer.reject(error);
    this.#calls.clear();
    for (const watcher of this.#watchers) watcher.give(given);
  }
}

/** Holder of the latest value, which is taken once. */
class LatestValue {
  #value;
  #come = Promise.withResolvers();

  give(value) {
    this.#value = value;
    this.#come.resolve();
  }

  /** Waits for a value. Returns undefined after `give(undefined)`. */
  async take() {
    await this.#come.promise;
    const value = this.#value;
    if (value !== undefined) this.#come = Promise.withResolvers();
    this.#value = undefined;
    return value;
  }
}

/** Words for what a server asks for. */
const SCHEMES = new Map([
  ["basic", "a user and a password (Basic)"],
  ["bearer", "a token (Bearer)"],
  ["chimirror", "a proxy, a certificate, a local socket or a cookie that tells who you are"],
]);
const MAX_SCHEMES = 8;
const QUOTED = /"(?:[^"\\]|\\.)*"/g;
// A scheme is a word alone, or before a space. The name of a parameter is before "=".
const SCHEME = /^\s*([\w!#$%&'*+.^`|~-]+)(?:\s+(?![\s=])|\s*$)/;

/** Returns the schemes that a Response asks for, such as Bearer (RFC 9110, 11.6.1). */
export function schemes(response) {
  const field = response.headers.get("www-authenticate") ?? "";
  const found = new Map();
  for (const part of field.replace(QUOTED, '""').split(",")) {
    const [, name] = SCHEME.exec(part) ?? [];
    if (!name || found.size === MAX_SCHEMES) continue;
    if (!found.has(name.toLowerCase())) found.set(name.toLowerCase(), name);
  }
  return [...found.values()];
}

const OTHER_REASONS =
  "the application or framing does not exist, it needs a login, a limit is reached, or " +
  "the program cannot be started: the server's log gives the reason";

const WOULD_ACCEPT =
  "would start a session now, so try again; if that fails too, a proxy in between does " +
  "not pass on WebSocket (Upgrade), or the program cannot be started: the server's log " +
  "gives the reason";

const TRUST = "trust its authority with NODE_EXTRA_CA_CERTS";

/** Codes of Node for a certificate that is not trusted, and why. */
const CERTIFICATE_FAULTS = [
  ["DEPTH_ZERO_SELF_SIGNED_CERT", "it is self-signed; if it is your own, " + TRUST],
  ["CERT_HAS_EXPIRED", "it has expired; the server needs a new one"],
  ["CERT_NOT_YET_VALID", "it is not valid yet; check the clocks of both machines"],
  ["ERR_TLS_CERT_ALTNAME_INVALID", "it is for other names; use one of them in the URL"],
  [/ISSUER|SIGNATURE|_IN_CHAIN$|_CA$/, "its authority is not known here; " + TRUST],
  [/CERT|HOSTNAME/, "Node does not accept it"],
];

/** Codes of Node for other faults of TLS. */
const TLS_FAULTS = [
  [/WRONG_VERSION|PACKET_LENGTH|RECORD_LAYER/, "does not speak TLS; use ws://"],
  [/ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL/, "shares no version of TLS with Node"],
  [/ALERT_.*(CERTIFICATE|_CA$)/, "requires a client certificate, or refuses it"],
  [/ALERT_HANDSHAKE/, "requires a client certificate, or shares no cipher with Node"],
];

/** Returns the row of a table whose first column matches a code. */
function rowOf(faults, code = "") {
  return faults.find(([key]) => (key.test ? key.test(code) : key === code));
}

/** Finds the reason for a failed connection, as far as a browser allows. */
class RefusalReason {
  #address;
  #subprotocols;
  #token;
  #page = globalThis.document ?? globalThis;
  #forbidden = false;
  /** @param {any} event of the type securitypolicyviolation */
  #watch = (event) => {
    this.#forbidden ||=
      event.effectiveDirective === "connect-src" &&
      event.disposition === "enforce" &&
      event.blockedURI.split("/")[2] === this.#address.host;
  };

  constructor(address, subprotocols, token) {
    this.#address = new URL(address.replace("ws", "http"));
    this.#subprotocols = subprotocols;
    this.#token = token;
    this.#page.addEventListener?.("securitypolicyviolation", this.#watch);
  }

  end() {
    this.#page.removeEventListener?.("securitypolicyviolation", this.#watch);
  }

  /** Returns the error of a server that has not answered in time (ms). */
  late(timeout) {
    return this.#refused(`${this.#address.host} has not answered within ${timeout} ms`);
  }

  #refused(message, more = {}) {
    return new ChimirrorError("refused", message, more);
  }

  /** Returns the error. Browsers hide the reason, so a plain GET asks for it. */
  async explain(signal) {
    const { host, origin } = this.#address;
    const own = globalThis.location?.origin;
    if (this.#forbidden) {
      return this.#refused(`the page's Content-Security-Policy has no connect-src for ${host}`);
    }
    if (own && own !== origin) {
      const more = `it does not serve pages of ${own} (--origin), or ${OTHER_REASONS}`;
      return this.#refused(`no connection to ${host}: nothing listens there, ${more}`);
    }
    try {
      return await this.#ask(signal);
    } catch ({ cause }) {
      signal?.throwIfAborted();
      const [, fault] = rowOf(TLS_FAULTS, cause?.code) ?? [];
      if (fault) return this.#refused(`${host} ${fault} (${cause.code})`);
      const [, reason] = rowOf(CERTIFICATE_FAULTS, cause?.code) ?? [];
      if (!reason) return this.#refused(`no reachable server answers at ${host}`);
      const text = `the certificate of ${host} is not trusted: ${reason} (${cause.code})`;
      return this.#refused(text, { final: true });
    }
  }

  async #ask(given) {
    const { host } = this.#address;
    const limits = [AbortSignal.timeout(RESPONSE_TIMEOUT), given].filter(Boolean);
    const signal = AbortSignal.any(limits);
    const own = globalThis.location?.origin;
    const headers = { "Chimirror-Subprotocol": this.#subprotocols.join(", ") };
    if (own) headers["Chimirror-Origin"] = own;
    if (this.#token !== undefined) headers.Authorization = `Bearer ${this.#token}`;
    const response = await fetch(this.#address, {
      cache: "no-store",
      redirect: "manual",
      headers,
      signal,
    });
    const { status } = response;
    const told = await firstLine(response);
    if (status === 204) return this.#refused(`${host} ${WOULD_ACCEPT}`);
    if (status < 200 || (status >= 300 && status < 400)) {
      const text = `${host} redirects, perhaps to a login: open it as a page`;
      return this.#refused(text, { status: status || undefined, final: true });
    }
    if (status < 400) {
      const text = `${host} answers, but starts no session: ${OTHER_REASONS}`;
      return this.#refused(text, { status });
    }
    const seconds = Number.parseInt(response.headers.get("retry-after"), 10);
    const retryAfter = seconds >= 0 ? seconds : undefined;
    const names = status === 401 ? schemes(response) : undefined;
    const more = { status, retryAfter, schemes: names };
    return this.#refused(`${host} answers: ${told}${wanted(names)}`, more);
  }
}

/** Returns the end of a sentence that says what a server asks for. */
function wanted(names = []) {
  const words = names.map((name) => SCHEMES.get(name.toLowerCase()) ?? name);
  return words.length ? ` (it asks for ${words.join(" or ")})` : "";
}

/** Returns the first line of a text, or the status in place of a page of a proxy. */
async function firstLine({ status, statusText, headers, body }) {
  const isPage = headers.get("content-type")?.startsWith("text/html");
  if (isPage || !body) {
    await body?.cancel();
    return `${status} ${statusText}`.trim();
  }
  const answer = lines(body, { limit: 300 });
  const { value } = await answer.next();
  await answer.return();
  return value || String(status);
}

const encoder = new TextEncoder();

function bytesOf(chunk) {
  if (typeof chunk === "string") return encoder.encode(chunk);
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  if (ArrayBuffer.isView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  throw new TypeError("standard input accepts only text and bytes");
}

// The built-in methods are ten times as fast, but Node 24 lacks them.

/** @param {any} bytes */
function toBase64(bytes) {
  if (bytes.toBase64) return bytes.toBase64();
  let binary = "";
  for (let at = 0; at < bytes.length; at += 4096) {
    binary += String.fromCharCode.apply(null, bytes.subarray(at, at + 4096));
  }
  return btoa(binary);
}

/** @param {any} of */
function fromBase64(payload, of = Uint8Array) {
  if (of.fromBase64) return of.fromBase64(payload);
  const binary = atob(payload);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}
