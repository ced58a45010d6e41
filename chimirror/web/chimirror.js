// SPDX-License-Identifier: MIT
/**
 * The client for browsers and Node: a remote process as Web Streams and as events.
 *
 * Law: what arrives is handed on in order and whole, or the stream says why not; no
 * more is kept in memory than is stated. Types and contracts are in chimirror.d.ts,
 * the messages in chimirror-protocol(7). Ignorance: no page, no reconnection.
 */

const PIECE = 48 << 10; // bytes of standard input in one message
const HIGH = 1 << 20; // bytes that may wait, in each direction, before it is stopped
const LIMIT = 64 << 20; // bytes that may wait where it cannot be stopped
const BLOCK = 16 << 10; // bytes of small pieces that are kept as one
const DRAINING = 5; // ms between two looks at bufferedAmount, of which no event tells
const CLOSING = 2000; // ms for an answer to our close, until we insist
const AGAIN = 500; // ms between two attempts to resume a stream
const PATIENCE = 5000; // ms for an answer when something is wrong
const GIVEN_UP = 4000; // the close code where we are the ones who cannot go on
const STREAMS = ["stdin", "stdout", "stderr"];

export class ChimirrorError extends Error {
  /** The kind is one of refused, lost, mistake, protocol, unread, over and control. */
  constructor(kind, message, more = {}) {
    super(message, more);
    this.name = "ChimirrorError";
    Object.assign(this, more, { kind });
  }
}

/** Starts a session: resolves once the application runs. */
export async function connect(url, options = {}) {
  const { framing = "stdio", signal } = options;
  if (!Object.hasOwn(FRAMINGS, framing)) {
    const known = Object.keys(FRAMINGS).join(", ");
    throw new TypeError(`no framing is called ${framing}; there are ${known}`);
  }
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = ""; // WebSocket refuses one
  signal?.throwIfAborted();
  return Session.open(address.href, { ...options, framing });
}

/** The lines of a stream of bytes, without their ends; to leave early cancels it. */
export async function* lines(stream, { limit = LIMIT } = {}) {
  const reader = stream.getReader();
  const cutter = new Cutter(new TextDecoder("utf-8", { ignoreBOM: true }));
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
    await reader.cancel().catch(() => {}); // its error has been thrown already
    reader.releaseLock();
  }
}

/** All of a stream of bytes as one text. */
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

/** Cuts what comes in pieces, bytes or text, into lines. */
class Cutter {
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

/** stdio, from us: any bytes, in pieces. */
class Pieces {
  *encode(chunk) {
    const bytes = bytesOf(chunk);
    for (let at = 0; at < bytes.length; at += PIECE) {
      const payload = toBase64(bytes.subarray(at, at + PIECE));
      yield JSON.stringify({ type: "stdin", payload });
    }
  }

  *end() {
    yield JSON.stringify({ type: "eof" });
  }
}

/** The other framings, from us: each line is a message. */
class Lines {
  #cutter = new Cutter(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }));

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

/** To us: an object of a known type. */
const wrapped = (message) => JSON.parse(message);
/** To us: a text that is a line of standard output. */
const line = (message) => ({ type: "stdout", text: `${message}\n` });
/** To us: a JSON text, whose line breaks stand between its tokens. */
const folded = (message) => line(message.replace(/[\r\n]+/g, " "));

const FRAMINGS = {
  stdio: { Input: Pieces, decode: wrapped },
  json: { Input: Lines, decode: wrapped },
  lines: { Input: Lines, decode: line },
  lsp: { Input: Lines, decode: folded },
};

/** Bytes that wait; small pieces are put together, or each would cost 400 more. */
class Backlog {
  size = 0;
  #blocks = [];
  #last = new Uint8Array(0);
  #filled = 0;

  push(bytes) {
    this.size += bytes.length;
    if (this.#filled + bytes.length > this.#last.length) {
      this.#seal();
      if (bytes.length >= BLOCK) return void this.#blocks.push(bytes);
      this.#last = new Uint8Array(BLOCK);
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

/** One of stdout and stderr: what has arrived goes to who reads it, or waits. */
class Outlet {
  #controller; // none any more once the stream is at its end
  #high;
  #hold;
  #backlog = new Backlog();
  #awaited = false; // somebody reads
  #end; // what to do once nothing waits any more

  /** `hold` is told whether the other side had better wait. */
  constructor(high, hold) {
    this.#high = high;
    this.#hold = hold;
    const source = {
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#finish(),
    };
    this.stream = new ReadableStream(source, { highWaterMark: 0 });
  }

  get unread() {
    return this.#backlog.size;
  }

  push(bytes) {
    if (!bytes.length || !this.#controller || this.#end) return;
    if (this.#awaited) {
      this.#awaited = false;
      this.#controller.enqueue(bytes);
    } else {
      this.#backlog.push(bytes);
      if (this.unread >= this.#high) this.#hold(true);
    }
  }

  /** Nothing more comes; an error says why, once all has been read. */
  end(error) {
    this.#end ??= (controller) => (error ? controller.error(error) : controller.close());
    if (!this.unread) this.#finish();
  }

  #pull() {
    this.#awaited = !this.unread;
    if (this.unread) this.#controller.enqueue(this.#backlog.shift());
    if (this.unread <= this.#high / 4) this.#hold(false);
    if (!this.unread && this.#end) this.#finish();
  }

  #finish() {
    const controller = this.#controller;
    this.#controller = undefined;
    this.#backlog = new Backlog();
    this.#hold(false);
    if (controller) this.#end?.(controller);
  }
}

class Session extends EventTarget {
  url;
  framing;
  id = null;
  pty = false;
  stdin;
  stdout;
  stderr;
  exit;
  control;
  #socket;
  #input; // makes messages of what is written to stdin
  #decode; // makes objects of the messages that come
  #high;
  #limit;
  #stdin; // the controller of the stream
  #outlets = Object.create(null); // what comes from afar is looked up in it
  #pumps = {}; // what makes events of a stream, by its name
  #status; // how the application ended
  #failure; // why we have given up
  #opened = false;
  #closing = false;
  #closed = false;
  #timer; // of a close that is not answered
  #eof; // a promise
  #begun = Promise.withResolvers();
  #ended = Promise.withResolvers();

  constructor(address, options) {
    super();
    const { framing, highWaterMark = HIGH, limit = LIMIT } = options;
    const { subprotocol = `chimirror.${framing}.v1` } = options;
    const { Input, decode } = FRAMINGS[framing];
    this.url = address;
    this.framing = framing;
    this.exit = this.#ended.promise;
    this.#input = new Input();
    this.#decode = decode;
    this.#high = highWaterMark;
    this.#limit = limit;
    this.control = new Control(address, framing);
    this.#socket = new WebSocket(address, subprotocol);
    this.#socket.onopen = () => this.#open();
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => this.#finish(code, reason);
    // (Where a policy forbids it, this is all that Chromium tells.)
    this.#socket.onerror = () => this.#opened || this.#finish(1006, "");
    this.stdin = new WritableStream({
      start: (controller) => {
        this.#stdin = controller;
        // Half an input is none. (A method `abort` would wait for a write that waits.)
        controller.signal.addEventListener("abort", () => this.close());
      },
      write: (chunk) => this.#send(this.#input.encode(chunk)),
      close: () => this.#send(this.#input.end()),
    });
    for (const name of ["stdout", "stderr"]) {
      const hold = (held) => this.control.hold(name, "unread", held).catch(() => {});
      this.#outlets[name] = new Outlet(highWaterMark, hold);
      this[name] = this.#outlets[name].stream;
    }
  }

  static async open(address, options) {
    const { signal } = options;
    const session = new Session(address, options);
    const inquiry = new Inquiry(address);
    const abort = () => session.close();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await session.#begun.promise;
      return session;
    } catch (error) {
      signal?.throwIfAborted();
      throw error ?? new ChimirrorError("refused", await inquiry.explain());
    } finally {
      signal?.removeEventListener("abort", abort);
      inquiry.end();
    }
  }

  async sendLine(line) {
    const writer = this.stdin.getWriter();
    const written = writer.write(`${line}\n`);
    writer.releaseLock();
    return written;
  }

  async sendJSON(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`nothing in JSON is ${typeof value}`);
    return this.sendLine(text);
  }

  async eof() {
    this.#eof ??= this.#end();
    return this.#eof;
  }

  async #end() {
    try {
      this.#check();
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
    this.#command({ type: "resize", columns, rows });
  }

  #command(message) {
    if (this.framing !== "stdio") {
      throw new TypeError(`only the framing stdio has a ${message.type}`);
    }
    this.#check();
    this.#socket.send(JSON.stringify(message));
  }

  close() {
    if (!this.#closing && !this.#closed) {
      this.#closing = true;
      this.#socket.close(1000);
      this.#timer = setTimeout(() => this.#insist(), CLOSING);
    }
    return this.exit;
  }

  /** Our close is not answered: what was sent before may be in its way. */
  async #insist() {
    const asked = this.control.close().then(() => [1000, "closed"]);
    const late = new Promise((_, reject) => setTimeout(reject, PATIENCE));
    this.#finish(...(await Promise.race([asked, late]).catch(() => [1006, ""])));
  }

  addEventListener(type, listener, options) {
    if (type in this.#outlets) {
      this.#pumps[type] ??= this.#pump(type, this[type].getReader());
    }
    super.addEventListener(type, listener, options);
  }

  async #pump(name, reader) {
    for (;;) {
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      if (done) return; // an error is told as an event of its own
      this.#tell(name, value);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #check() {
    if (this.#socket.readyState !== WebSocket.OPEN) throw this.#over();
  }

  #over() {
    return this.#failure ?? new ChimirrorError("over", "the session is over");
  }

  async #send(messages) {
    for (const message of messages) {
      this.#check();
      this.#socket.send(message);
      while (this.#socket.bufferedAmount > this.#high) {
        await new Promise((resolve) => setTimeout(resolve, DRAINING));
        this.#check();
      }
    }
  }

  #open() {
    this.#opened = true;
    if (this.framing !== "stdio") this.#begun.resolve();
  }

  #receive(message) {
    try {
      this.#obey(this.#decode(message));
    } catch (cause) {
      const text = `what came is not ${this.framing}: ${String(message).slice(0, 80)}`;
      this.#fail(new ChimirrorError("protocol", text, { cause }));
    }
  }

  /** Does what a message says; types that we do not know are passed over. */
  #obey({ type, payload, text, id, secret, pty, code = null, signal = null }) {
    if (type in this.#outlets) {
      this.#push(type, text === undefined ? fromBase64(payload) : encoder.encode(text));
    } else if (type === "session") {
      this.id = id;
      this.pty = pty === true;
      this.control.authorize(id, secret);
      this.#begun.resolve();
    } else if (type === "exit") {
      this.#status = { code, signal };
    } else if (type === "error") {
      const mistake = new TextDecoder().decode(fromBase64(payload));
      this.#tell("error", new ChimirrorError("mistake", mistake));
    }
  }

  #push(name, bytes) {
    const outlet = this.#outlets[name];
    outlet.push(bytes);
    if (outlet.unread <= this.#limit) return;
    const cure = "read it, cancel it, or let a higher limit be";
    const text = `${outlet.unread} bytes of ${name} wait unread: ${cure}`;
    this.#fail(new ChimirrorError("unread", text));
  }

  /** Ends the session from here; what is still on its way is not waited for. */
  #fail(error) {
    this.#failure = error;
    this.#socket.close(GIVEN_UP);
    this.#finish(GIVEN_UP, "");
  }

  async #finish(closeCode, reason) {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    Object.assign(this.#socket, { onmessage: null, onclose: null, onerror: null });
    const [, code, signal] = /^(?:exit (\d+)|signal (\w+))$/.exec(reason) ?? [];
    if (code) this.#status ??= { code: Number(code), signal: null };
    if (signal) this.#status ??= { code: null, signal };
    const regular = this.#status || this.#closing || closeCode === 1000;
    if (!regular) this.#failure ??= lost(closeCode, reason);
    this.#begun.reject(this.#opened ? this.#over() : undefined);
    this.#stdin.error(this.#over());
    this.control.end();
    for (const outlet of Object.values(this.#outlets)) outlet.end(this.#failure);
    await Promise.all(Object.values(this.#pumps));
    this.#ended.resolve({ code: null, signal: null, ...this.#status, reason, closeCode });
    if (this.#status) this.#tell("exit", await this.exit);
    if (this.#failure) this.#tell("error", this.#failure);
    this.#tell("close", { code: closeCode, reason });
  }
}

function lost(closeCode, reason) {
  const text =
    closeCode === 1006
      ? "the connection was lost: the network or the server has failed"
      : `the server closed the session: ${reason || closeCode}`;
  return new ChimirrorError("lost", text, { closeCode, reason });
}

/** The second connection, opened when it is needed first: JSON-RPC about the session. */
class Control extends EventTarget {
  #address;
  #framing;
  #ticket; // what authorizes us
  #opening; // the promise of an authorized socket
  #calls = new Map();
  #last = 0;
  #held = Object.fromEntries(STREAMS.map((name) => [name, new Set()]));
  /** What the server was told last, by stream; undefined where that is not known. */
  #paused = Object.fromEntries(STREAMS.map((name) => [name, false]));
  #settling = {}; // promises, by stream
  #watchers = new Set();
  #over = false;

  constructor(address, framing) {
    super();
    this.#address = address;
    this.#framing = framing;
  }

  authorize(session, secret) {
    if (secret) this.#ticket = { session, secret };
  }

  get available() {
    return this.#ticket !== undefined;
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
      throw new TypeError(`no stream is called ${wrong}; there are ${STREAMS.join(", ")}`);
    }
    await Promise.all(named.map((name) => this.hold(name, "asked", held)));
  }

  /** Pauses a stream as long as there is any reason to. */
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
      while (!this.#isSettled(name)) await this.#tell(name, this.#held[name].size > 0);
    } finally {
      delete this.#settling[name];
    }
  }

  async #tell(name, pause) {
    this.#paused[name] = undefined;
    try {
      await this.call(pause ? "pause" : "resume", { streams: [name] });
      this.#paused[name] = pause;
    } catch (error) {
      // A connection that broke is no reason for a stream to stay paused.
      if (pause || error.code !== undefined) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN));
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

  /** The status, and again whenever it has changed; of several changes, the last. */
  async *subscribe(interval = 1) {
    const watcher = new Latest();
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

  /** The session is over; what was asked before may still be answered. */
  end() {
    this.#over = true;
    this.#opening?.then((socket) => this.#leave(socket), () => {});
    for (const watcher of this.#watchers) watcher.give(undefined);
  }

  #leave(socket) {
    if (this.#over && !this.#calls.size) socket.close(1000);
  }

  async #open() {
    if (!this.#ticket) throw new ChimirrorError("control", this.#lacking());
    const socket = new WebSocket(this.#address, "chimirror.control.v1");
    const opened = Promise.withResolvers();
    socket.onopen = opened.resolve;
    socket.onmessage = ({ data }) => {
      try {
        this.#heed(JSON.parse(data));
        this.#leave(socket);
      } catch {
        socket.close(GIVEN_UP); // this is not JSON-RPC
      }
    };
    socket.onclose = ({ code, reason }) => {
      const text = `the control connection ended: ${reason || code}`;
      const error = new ChimirrorError("control", text);
      opened.reject(error);
      this.#forget(error);
      for (const watcher of this.#watchers) watcher.give(code === 1000 ? undefined : error);
    };
    await opened.promise;
    await this.#ask(socket, "authorize", this.#ticket);
    return socket;
  }

  #lacking() {
    return this.#framing === "stdio"
      ? "the server has no control connections"
      : "control needs the framing stdio, which tells the secret of the session";
  }

  #ask(socket, method, params) {
    const id = ++this.#last;
    const answer = Promise.withResolvers();
    this.#calls.set(id, answer);
    socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return answer.promise;
  }

  #heed({ id, method, params, result, error }) {
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

  /** The connection is gone; the next call opens another. */
  #forget(error) {
    this.#opening = undefined;
    for (const answer of this.#calls.values()) answer.reject(error);
    this.#calls.clear();
  }
}

/** A place for the latest of some values; who waits gets it once. */
class Latest {
  #value;
  #come = Promise.withResolvers();

  give(value) {
    this.#value = value;
    this.#come.resolve();
  }

  /** Undefined once `give(undefined)` has said that no more come. */
  async take() {
    await this.#come.promise;
    const value = this.#value;
    if (value !== undefined) this.#come = Promise.withResolvers();
    this.#value = undefined;
    return value;
  }
}

const OTHERWISE =
  "there is no such application or framing, no room, or the program cannot be started: " +
  "the server's log says which";

/** Why no connection came about, as far as that can be found out. */
class Inquiry {
  #address;
  #page = globalThis.document ?? globalThis;
  #forbidden = false;
  /** @param {any} event of the type securitypolicyviolation */
  #watch = (event) => {
    this.#forbidden ||=
      event.effectiveDirective === "connect-src" &&
      event.disposition === "enforce" &&
      URL.parse(event.blockedURI)?.host === this.#address.host;
  };

  constructor(address) {
    this.#address = new URL(address.replace("ws", "http"));
    this.#page.addEventListener?.("securitypolicyviolation", this.#watch);
  }

  end() {
    this.#page.removeEventListener?.("securitypolicyviolation", this.#watch);
  }

  /** A browser does not say; what the address answers to a plain GET may. */
  async explain() {
    const { host, origin } = this.#address;
    const own = globalThis.location?.origin;
    if (this.#forbidden) {
      return `the page's Content-Security-Policy has no connect-src for ${host}`;
    }
    if (own && own !== origin) {
      const more = `it does not serve pages of ${own} (--origin), or ${OTHERWISE}`;
      return `no connection to ${host}: nothing listens there, ${more}`;
    }
    try {
      const signal = AbortSignal.timeout(PATIENCE);
      const response = await fetch(this.#address, { cache: "no-store", signal });
      const answer = lines(response.body, { limit: 300 });
      const { value } = await answer.next();
      await answer.return();
      if (response.status >= 400 && response.status !== 426) {
        return `${host} answers: ${value || response.status}`;
      }
    } catch {
      return `nothing that can be reached answers at ${host}`;
    }
    return `${host} answers, but starts no session: ${OTHERWISE}`;
  }
}

const encoder = new TextEncoder();

function bytesOf(chunk) {
  if (typeof chunk === "string") return encoder.encode(chunk);
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk);
  if (ArrayBuffer.isView(chunk)) {
    return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  }
  throw new TypeError("standard input takes text and bytes");
}

// The methods are ten times as fast, and not yet everywhere (Node 24 lacks them).

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
