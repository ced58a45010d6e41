// Cases for chimirror.js, the same in a page and in Node. Each case gets the module, an
// address, `say` and `cue`. `say` sends a value to the test, and `cue` waits for the test.
// The test checks the returned value.

/** Converts an error to a comparable value. */
const told = ({ name, kind, message, closeCode, reason, code }) => ({
  name, kind, message, closeCode, reason, code,
});
const refusal = (promise) => promise.then(() => "no error", told);

async function all(stream) {
  const reader = stream.getReader();
  let [size, sum] = [0, 0];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { size, sum };
    size += value.length;
    for (const byte of value) sum = (sum * 31 + byte) % 4294967291;
  }
}

async function some(stream, size) {
  const reader = stream.getReader();
  let text = "";
  while (text.length < size) {
    text += new TextDecoder().decode((await reader.read()).value);
  }
  reader.releaseLock();
  return text;
}

export async function dialogue({ connect, lines, text }, url) {
  const session = await connect(url);
  const answers = lines(session.stdout);
  await session.sendLine("héllo");
  const first = (await answers.next()).value;
  await session.sendJSON({ a: [1] });
  const second = (await answers.next()).value;
  await session.eof();
  const rest = await answers.next();
  const stderr = await text(session.stderr);
  const { id, framing } = session;
  return { first, second, rest, stderr, id, framing, url: session.url, exit: await session.exit };
}

/** Bytes of every value and of many lengths, and text. One write has 3 MB. */
export async function bytes({ connect }, url) {
  const session = await connect(url);
  const every = Uint8Array.from({ length: 65536 + 255 }, (_, at) => at * 7);
  const large = new Uint8Array(3 << 20).fill(65);
  const writer = session.stdin.getWriter();
  const read = all(session.stdout);
  for (const size of [0, 1, 2, 3, 49151, 49152, 49153]) {
    await writer.write(every.subarray(1, size + 1));
  }
  await writer.write(every.buffer);
  await writer.write(new DataView(every.buffer, 3, 5));
  await writer.write(large);
  await writer.write("ä€🙂");
  await writer.close();
  const wrong = await refusal((await connect(url)).stdin.getWriter().write(3));
  return { ...(await read), exit: await session.exit, wrong };
}

export async function streams({ connect, text }, url) {
  const session = await connect(url);
  const both = await Promise.all([text(session.stdout), text(session.stderr)]);
  return { both, exit: await session.exit };
}

/** All events in order, from the first byte on. */
export async function events({ connect }, url, say, cue, options) {
  const session = await connect(url, options);
  const heard = [];
  const over = new Promise((resolve) => session.addEventListener("close", resolve));
  for (const name of ["stdout", "stderr"]) {
    session.addEventListener(name, ({ detail }) => {
      heard.push([name, new TextDecoder().decode(detail)]);
    });
  }
  session.addEventListener("stdout", { handleEvent: () => heard.push(["again", ""]) });
  session.addEventListener("exit", ({ detail }) => heard.push(["exit", detail]));
  session.addEventListener("error", ({ detail }) => heard.push(["error", told(detail)]));
  const { detail } = await over;
  return [...heard, ["close", detail], session.stdout.locked];
}

export async function signals({ connect }, url) {
  const session = await connect(url);
  await some(session.stdout, 1); // the trap is set
  session.signal("SIGUSR1");
  const answer = await some(session.stdout, 1);
  session.signal("KILL");
  return { answer, exit: await session.exit };
}

export async function mistake({ connect, lines }, url, say, cue, options) {
  const session = await connect(url, options);
  const error = new Promise((resolve) => session.addEventListener("error", resolve));
  if (session.framing === "stdio") session.signal("STOP");
  else await session.sendLine("oops");
  const { detail } = await error;
  await session.sendLine("{}");
  const answer = await lines(session.stdout).next();
  return { error: told(detail), answer, exit: await session.close() };
}

/** Bytes and text in pieces reach the application as lines, and lines come back. */
export async function messages({ connect, lines }, url, say, cue, options) {
  const session = await connect(url, options);
  const writer = session.stdin.getWriter();
  const piece = new TextEncoder().encode('"é"\r\n');
  for (const byte of piece) await writer.write(Uint8Array.of(byte));
  await writer.write('{"a":\t1}\n2\n"las');
  await writer.write('t"');
  writer.releaseLock();
  const ending = await refusal(session.eof());
  const found = [];
  for await (const line of lines(session.stdout)) {
    if (found.push(line) === 4) break; // which cancels the stream
  }
  const signalling = await refusal((async () => session.signal("INT"))());
  const control = await refusal(session.control.status());
  const end = await session.stdout.getReader().read();
  const { available } = session.control;
  const exit = await session.close();
  return { found, ending, signalling, control, available, end, exit };
}

/** A line longer than one read, which is cut inside a character. */
export async function long({ connect, lines }, url) {
  const session = await connect(url);
  const sizes = [];
  for await (const line of lines(session.stdout)) sizes.push([line.length, line.at(-1)]);
  const again = await connect(url);
  const over = await refusal(lines(again.stdout, { limit: 100 }).next());
  await again.close();
  return { sizes, over };
}

export async function refused({ connect }, url, say, cue, options) {
  return refusal(connect(url, options));
}

export async function abandoned({ connect }, url) {
  const { name } = await connect(url, { signal: AbortSignal.timeout(50) }).catch((e) => e);
  const before = await connect(url, { signal: AbortSignal.abort(4711) }).catch((e) => e);
  return [name, before];
}

/** An abort after the start has no effect. */
export async function abortedLate({ connect }, url) {
  const controller = new AbortController();
  const session = await connect(url, { signal: controller.signal });
  controller.abort();
  await session.eof();
  return session.exit;
}

/** The server ends. It is gone at the first `cue`, and back at the second. */
export async function lost({ connect }, url, say, cue) {
  const session = await connect(url);
  const writer = session.stdin.getWriter();
  const over = new Promise((resolve) => session.addEventListener("close", resolve));
  const failed = new Promise((resolve) => session.addEventListener("error", resolve));
  say("open");
  const exit = await session.exit;
  const reading = await refusal(session.stdout.getReader().read());
  const writing = await refusal(writer.write("x"));
  const error = told((await failed).detail);
  const close = (await over).detail;
  say("over");
  await cue(); // the server closes its listeners after its sessions
  const gone = await refusal(connect(url));
  say("gone");
  await cue();
  const next = await connect(url);
  await next.eof();
  return { exit, reading, writing, error, close, gone, next: await next.exit };
}

/** A close by the client: no error, and an unknown exit. */
export async function closing({ connect, text }, url) {
  const session = await connect(url);
  const read = text(session.stdout);
  const exit = await session.close();
  const write = await refusal(session.sendLine("x"));
  const signal = await refusal((async () => session.signal("INT"))());
  const aborted = await connect(url);
  await aborted.stdin.abort("half");
  return { exit, read: await read, write, signal, aborted: await aborted.exit };
}

/** Unread data block the close frame of the client. */
export async function stuck({ connect }, url, say, cue, { ending, ...options }) {
  const session = await connect(url, options);
  const writer = session.stdin.getWriter();
  const line = `"${"x".repeat(60000)}"\n`;
  const flood = refusal(writer.write(line.repeat(500)));
  if (ending === "abort") await writer.abort("enough");
  else await session.close();
  return { exit: await session.exit, again: await session.close(), flood: await flood };
}

/** Each call fails at once, without an event of the session. */
export async function misused({ connect }, url) {
  const session = await connect(url);
  const found = [
    await refusal(session.sendJSON(undefined)),
    await refusal(session.control.pause("stdin", "stdlog")),
    await refusal((async () => session.resize(80, 24))()),
  ];
  const { paused } = await session.control.status();
  await session.eof();
  await session.eof();
  const exit = await session.exit;
  await session.eof();
  const other = await connect(url);
  await other.close();
  return { found, paused, exit, late: await refusal(other.eof()) };
}

/** Unread output without back-pressure. Received data can still be read. */
export async function unread({ connect }, url, say, cue, options) {
  const session = await connect(url, options);
  const exit = await session.exit;
  const reader = session.stdout.getReader();
  let size = 0;
  const error = await refusal((async () => {
    for (;;) size += (await reader.read()).value.length;
  })());
  return { exit, size, error };
}

/** Cancelled output is dropped, and the other stream is complete. */
export async function cancelled({ connect, text }, url) {
  const session = await connect(url, { limit: 1 << 20 });
  await session.stdout.cancel();
  return { stderr: await text(session.stderr), exit: await session.exit };
}

/** Writes wait until the application reads, and then all data arrive. */
export async function slowly({ connect, text }, url, say, cue) {
  const session = await connect(url, { highWaterMark: 1 << 18 });
  const writer = session.stdin.getWriter();
  const piece = new Uint8Array(1 << 16).fill(97);
  const total = 32 << 20;
  let [written, waiting] = [0, false];
  const watch = setInterval(() => say(written), 100);
  for (; written < total; written += piece.length) await writer.write(piece);
  clearInterval(watch);
  await writer.close();
  return { text: await text(session.stdout), exit: await session.exit, written };
}

/** Much data in one direction, delivered completely. */
export async function flood({ connect }, url, say, cue) {
  const session = await connect(url);
  say("open");
  await cue();
  await session.sendLine("go");
  const reader = session.stdout.getReader();
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
  }
  say({ size, exit: await session.exit });
  await cue(); // the test measures the memory
}

/** The members beside those of every EventTarget. */
export async function members(module, url) {
  const session = await module.connect(url);
  const of = (object) => {
    const inherited = Object.getOwnPropertyNames(Object.getPrototypeOf(object));
    const names = new Set([...inherited, ...Object.getOwnPropertyNames(object)]);
    return [...names].filter((name) => name !== "constructor").sort();
  };
  const found = { values: Object.keys(module).sort(), Session: of(session) };
  return { ...found, Control: of(session.control), exit: await session.close() };
}

/** The other direction. */
export async function pour({ connect, text }, url, say, cue) {
  const session = await connect(url);
  say("open");
  await cue();
  const writer = session.stdin.getWriter();
  const piece = new Uint8Array(1 << 16).fill(97);
  for (let at = 0; at < 400_000_000; at += 65536) await writer.write(piece);
  await writer.close();
  say({ text: await text(session.stdout), exit: await session.exit });
  await cue();
}

/** Unread output is paused, and resumed for a reader unless the user paused it. */
/** Returns the paused streams once there are some. */
async function pausedStreams(control) {
  for (;;) {
    const { paused } = await control.status();
    if (paused.length) return paused;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export async function paused({ connect }, url, say, cue) {
  const session = await connect(url);
  const { control, stdout } = session;
  const unread = await pausedStreams(control);
  say("paused");
  await cue();
  await control.pause("stdout");
  let size = (await some(stdout, 900000)).length; // below the low mark
  const asked = (await control.status()).paused;
  await control.resume("stdout");
  size += (await all(stdout)).size;
  return { unread, asked, size, exit: await session.exit };
}

export async function steered({ connect, lines }, url) {
  const session = await connect(url);
  const { control } = session;
  const answers = lines(session.stdout);
  await session.sendLine("one");
  const one = (await answers.next()).value;
  await control.pause();
  await session.sendLine("two");
  const statuses = control.subscribe(0.1);
  const { paused, id, framing } = (await statuses.next()).value;
  await control.resume("stdin", "stdout");
  const two = (await answers.next()).value;
  let changed;
  do changed = (await statuses.next()).value;
  while (changed.paused.length === 3);
  await statuses.return();
  const unknown = await refusal(control.call("dance", { a: 1 }));
  const wrong = await refusal(control.signal("STOP"));
  const { asyncapi } = await control.manifest();
  const wait = control.subscribe();
  await wait.next();
  const last = wait.next();
  await control.close();
  const exit = await session.exit;
  const known = [id === session.id, framing];
  const still = changed.paused;
  const after = await refusal(control.status());
  const ended = await last;
  return { one, two, known, paused, still, asyncapi, unknown, wrong, exit, after, ended };
}

/** A signal that overtakes the input. */
export async function ahead({ connect }, url, say) {
  const session = await connect(url);
  const flood = refusal(session.stdin.getWriter().write("x".repeat(32 << 20)));
  await session.control.signal("SIGKILL");
  return { exit: await session.exit, flood: await flood };
}

export async function watched({ connect, lines }, url) {
  const session = await connect(url);
  const shown = (await lines(session.stdout).next()).value;
  session.resize(132, 43);
  await session.sendLine("ignored");
  await session.eof();
  session.signal("USR1");
  const { direction, readOnly } = session;
  return { direction, readOnly, shown, code: (await session.exit).code };
}

export async function terminal({ connect, lines }, url) {
  const session = await connect(url);
  const answers = lines(session.stdout);
  await answers.next(); // the echo has stopped
  session.resize(132, 43);
  await session.sendLine("stty size");
  const shown = (await answers.next()).value;
  await session.sendLine("exit 3");
  const { code } = await session.exit;
  const without = (await connect(url, { framing: "json" })).pty;
  return { pty: session.pty, shown, code, without };
}

/** An unread terminal waits for its window, and not for a pause. Nothing is lost. */
export async function windowed({ connect, text }, url, say, cue) {
  const session = await connect(url);
  say("open");
  await cue();
  const { paused } = await session.control.status();
  const found = (await text(session.stdout)).split("\r\n");
  const whole = found.every((line, at) => line === (at < 100_000 ? `${at + 1}` : ""));
  const dropped = await connect(url, { highWaterMark: 4096 });
  await dropped.stdout.cancel();
  const { code } = await dropped.exit;
  const smallest = await connect(url, { highWaterMark: 0.5 });
  let mistakes = 0;
  smallest.addEventListener("error", () => ++mistakes);
  const same = (await text(smallest.stdout)) === found.join("\r\n");
  const exit = await session.exit;
  return { paused, lines: found.length, whole, exit, code, same, mistakes };
}

/** Redirects control connections. */
function divert(elsewhere, subprotocol) {
  globalThis.WebSocket = class extends WebSocket {
    constructor(address, asked) {
      if (asked[0] === "chimirror.control.v1") super(elsewhere, subprotocol);
      else super(address, asked);
    }
  };
}

/** The pause cannot reach the server. */
export async function uncontrolled({ connect }, url) {
  divert("ws://127.0.0.1:1/");
  const session = await connect(url, { limit: 1 << 21 });
  const exit = await session.exit;
  const error = await refusal(all(session.stdout));
  return { exit, error };
}

/** The control connection is lost while a stream is paused, and cannot be reopened. */
export async function severed({ connect }, url, say, cue) {
  const Real = WebSocket;
  const cables = [];
  let severed = false;
  globalThis.WebSocket = class extends Real {
    constructor(address, subprotocol) {
      const control = subprotocol[0] === "chimirror.control.v1";
      super(control && severed ? "ws://127.0.0.1:1/" : address, subprotocol);
      if (control) cables.push(this);
    }
  };
  const session = await connect(url);
  const { available } = session.control;
  await pausedStreams(session.control);
  say("paused");
  await cue();
  severed = true;
  cables.at(-1).close();
  const unpaused = await refusal(session.control.pause("stderr"));
  const reading = all(session.stdout);
  const before = cables.length;
  while (cables.length === before) await new Promise((resolve) => setTimeout(resolve, 10));
  severed = false;
  const { size } = await reading;
  globalThis.WebSocket = Real;
  return { available, unpaused, size, exit: await session.exit };
}

/** A server that violates the protocol. */
export async function odd({ connect }, url, say, cue, options) {
  const session = await connect(url, options);
  divert(url, options.subprotocol);
  const control = await refusal(session.control.status());
  const statuses = session.control.subscribe();
  const watch = await refusal(statuses.next());
  await session.sendLine("go on");
  const exit = await session.exit;
  const text = await some(session.stdout, 2);
  const error = await refusal(all(session.stdout));
  return { id: session.id, text, error, control, watch, exit };
}

/** The application has its own methods and sends a notification. */
export async function asked({ connect }, url) {
  const { control } = await connect(url);
  const unasked = new Promise((resolve) => control.addEventListener("notification", resolve));
  const sum = await control.call("add", { a: 1, b: 2 });
  const { detail } = await unasked;
  return { sum, detail, refused: await refusal(control.call("subtract")) };
}

/** Many sessions with a hostile server. Leaves some early, and counts what is kept. */
export async function hostile({ connect }, url, say, cue, { kinds, count }) {
  const { setTimeout } = globalThis;
  const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));
  globalThis.setTimeout = (call, time, ...more) => setTimeout(call, time / 20, ...more);
  const opened = [];
  const visit = async (kind) => {
    const signal = kind === "silent" ? AbortSignal.timeout(50) : undefined;
    const timeout = 20 * 10_000;
    const options = { limit: 1 << 19, highWaterMark: 1 << 16, timeout, signal };
    const session = await connect(url + kind, options).catch(() => {});
    if (!session) return;
    opened.push(new WeakRef(session), new WeakRef(session.control));
    const unanswered = session.control.call("x").catch(() => {});
    session.control.subscribe().next().catch(() => {});
    if (["drops", "endless"].includes(kind)) await pause(20);
    else await session.exit;
    await session.close();
    await unanswered;
  };
  for (let n = 0; n < count; n += 1) await Promise.all(kinds.map(visit));
  say(opened.length);
  await cue(); // all connections are closed
  globalThis.gc?.();
  say(opened.filter((each) => each.deref()).length);
}

/** Connects to the first of several URLs that gives a session. */
export async function failover({ connect }, url, say, cue, { urls, ...options }) {
  try {
    const session = await connect(urls, options);
    await session.eof().catch(() => {}); // it may have ended
    return { url: session.url, exit: await session.exit };
  } catch (error) {
    const { status, retryAfter, schemes, errors = [] } = error;
    const each = errors.map((one) => [one.kind, one.status ?? null, one.message]);
    return { ...told(error), status, retryAfter, schemes, errors: each };
  }
}

/** The arguments of WebSocket for each URL, or the name and message of the error. */
export async function addresses({ connect }, url, say, cue, { urls, size }) {
  let asked;
  globalThis.WebSocket = class {
    constructor(address, subprotocols) {
      asked = [address, ...subprotocols];
      throw new Error("not connected");
    }
  };
  const found = [];
  for (const each of urls) {
    asked = undefined;
    const { name, message } = await refusal(connect(each, { size }));
    found.push(asked ?? [name, message]);
  }
  return found;
}

/** Whether each of several sessions may be tried again. */
export async function retries({ connect }, url, say, cue, { count }) {
  const found = [];
  while (found.length < count) {
    const session = await connect(url);
    found.push((await session.exit).retry);
  }
  return found;
}

/** A line of a session with a token of this kind, and its state over control. */
export async function who({ connect, lines }, url, say, cue, { kind, token: value }) {
  const kinds = { text: value, function: () => value, promise: async () => value };
  const session = await connect(url, { token: kinds[kind] });
  const { value: line } = await lines(session.stdout).next();
  const { state } = await session.control.status();
  await session.close();
  return { line, state };
}

/** The subprotocols of each connection, with a token of this kind. */
export async function tokens({ connect }, url, say, cue, { kind, token }) {
  const real = globalThis.WebSocket;
  const offered = [];
  globalThis.WebSocket = class extends real {
    constructor(address, subprotocols) {
      super(address, subprotocols);
      offered.push(subprotocols);
    }
  };
  let count = 0;
  const kinds = {
    text: token,
    function: () => token + ++count,
    promise: () => Promise.resolve(token + ++count),
  };
  const session = await connect(url, { token: kinds[kind] });
  await session.control.status();
  await session.close();
  return offered;
}

export async function wrongTokens({ connect }, url, say, cue, { tokens: given }) {
  const found = [];
  for (const token of given) {
    found.push(await refusal(connect(url, { token })));
    found.push(await refusal(connect(url, { token: () => token })));
  }
  const fail = () => Promise.reject(new RangeError("no token"));
  return [...found, await refusal(connect(url, { token: fail }))];
}

/** A signal aborts the wait for a token that does not come. */
export async function lateToken({ connect }, url) {
  const controller = new AbortController();
  const token = () => {
    queueMicrotask(() => controller.abort(new Error("enough")));
    return new Promise(() => {});
  };
  return refusal(connect(url, { token, signal: controller.signal }));
}

export async function schemeNames({ schemes }, url, say, cue, { fields }) {
  return fields.map((each) => {
    const headers = new Headers();
    for (const field of each) headers.append("WWW-Authenticate", field);
    return schemes(new Response("", { headers }));
  });
}
