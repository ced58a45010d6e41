/** The framings, as in chimirror-protocol(7). */
export type Framing = "stdio" | "json" | "lines" | "lsp";

/** The application's streams. */
export type StreamName = "stdin" | "stdout" | "stderr";

export interface ConnectOptions {
  /** Default: stdio, the only framing with `eof`, `signal` and `control`. */
  framing?: Framing;
  /** The server's own name for the framing, such as `mcp` for lines. */
  subprotocol?: string;
  /**
   * Bytes in each direction that cause back-pressure. Above it, writes wait for unsent
   * data, and the stream is paused for unread output. Default: 1 MiB.
   */
  highWaterMark?: number;
  /**
   * Limit for the unread bytes of a stream that cannot be paused: in framings other than
   * stdio, or until the pause takes effect. Above it, the session ends with an error of
   * the kind `unread`. Default: 64 MiB.
   */
  limit?: number;
  /**
   * The size of the client's terminal. An application with a terminal (--pty) has it from
   * its start. Without effect on others.
   */
  size?: TerminalSize;
  /** Milliseconds for each URL, until the application runs. Default: 10,000. */
  timeout?: number;
  /** Aborts connecting. Has no effect on an open session. */
  signal?: AbortSignal;
  /**
   * The token of a user, for a server that asks for one (Bearer), in the characters of RFC
   * 6750. A function is called for each URL and for the control connection, because tokens
   * expire.
   */
  token?: string | (() => string | Promise<string>);
}

/** Each from 1 to 65535. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/** End of a session. `code` and `signal` are null if the exit is unknown. */
export interface Exit {
  /** The exit code of the application. */
  code: number | null;
  /** The signal that ended the application, without SIG: `KILL`, or `40` from 32 on. */
  signal: string | null;
  /**
   * The reason of the close frame, such as `exit 0`, `idle`, `drain` or `closed by
   * operator`.
   */
  reason: string;
  /** The code of the close frame, 1006 without a close frame. */
  closeCode: number;
  /**
   * Whether a new session has a chance where this one ended: after a lost connection, or
   * at a restart of the server. False if the application has exited, if an operator or
   * this client has ended the session, and after every limit and fault.
   */
  retry: boolean;
}

/**
 * - `refused`: the session could not be opened.
 * - `lost`: the session ended and the exit of the application is unknown.
 * - `mistake`: the server did not deliver a message. The session continues.
 * - `protocol`: a message of the server violates the framing.
 * - `unread`: unread output exceeds the limit.
 * - `over`: the session has ended.
 * - `control`: a control call failed.
 * - `unsupported`: the browser or Node is too old.
 */
export type ErrorKind =
  | "refused"
  | "lost"
  | "mistake"
  | "protocol"
  | "unread"
  | "over"
  | "control"
  | "unsupported";

export class ChimirrorError extends Error {
  private constructor();
  readonly name: "ChimirrorError";
  readonly kind: ErrorKind;
  /**
   * Kind `refused`: the HTTP status of the server, and the seconds of its Retry-After.
   * Both are undefined if they are not known.
   */
  readonly status?: number;
  readonly retryAfter?: number;
  /**
   * Kind `refused` with the status 401, the server does not know the client: what it asks
   * for, such as `Bearer`, which is the option `token`. Empty if it names nothing.
   */
  readonly schemes?: readonly string[];
  /** Kind `refused` with several URLs: the error of each, in their order. */
  readonly errors?: readonly ChimirrorError[];
  /** Kind `lost`: as in `Exit`. */
  readonly closeCode?: number;
  readonly reason?: string;
  readonly retry?: boolean;
  /** Kind `control`: the error of JSON-RPC, if there was a response. */
  readonly code?: number;
  readonly data?: unknown;
}

export interface SessionEvents {
  /** Output. */
  stdout: CustomEvent<Uint8Array>;
  stderr: CustomEvent<Uint8Array>;
  /** Exit of the application, if it is known. */
  exit: CustomEvent<Exit>;
  /** An undelivered message, or the error that ended the session. */
  error: CustomEvent<ChimirrorError>;
  /** The last event. */
  close: CustomEvent<{ code: number; reason: string }>;
}

type Listener<E> = ((event: E) => void) | { handleEvent(event: E): void };

/** A remote process. It ends with its connection. There is no reconnection. */
export interface Session extends EventTarget {
  readonly url: string;
  readonly framing: Framing;
  /** The id in the server's records, null in framings other than stdio. */
  readonly id: string | null;
  /** Whether the application has a terminal. Known only with framing stdio. */
  readonly pty: boolean;
  /** "receive" or "send" if data go one way. Known only with framing stdio. */
  readonly direction: "both" | "receive" | "send";
  /** Whether the server ignores input and signals. Known only with framing stdio. */
  readonly readOnly: boolean;

  /**
   * Accepts text and bytes. A write waits while too much is unsent. In framings other
   * than stdio, each line is a message and the stream cannot be closed: `pipeTo` needs
   * `preventClose`. Aborting the stream ends the session.
   */
  readonly stdin: WritableStream<string | BufferSource>;
  /**
   * An unread stream stops the application, as a full pipe does: cancel streams that are
   * not needed. A terminal is at most 128 KiB ahead of its reader. In lines and lsp, each
   * message is a line. After a lost connection, the stream ends with an error, after all
   * received data.
   */
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;

  /** Writes one line to stdin. */
  sendLine(line: string): Promise<void>;
  /** Writes one line to stdin: the value as JSON. */
  sendJSON(value: unknown): Promise<void>;
  /** Closes stdin after all written data. May be repeated. Framing stdio only. */
  eof(): Promise<void>;
  /** Sends a signal to the application: INT, TERM, … Framing stdio only. */
  signal(name: string): void;
  /**
   * Sets the size of the terminal. Throws a TypeError unless `pty` is true. Without effect
   * after the end of the session.
   */
  resize(columns: number, rows: number): void;
  /**
   * Ends the session: the server stops the application. Written data are sent first, for
   * at most two seconds. Resolves after at most seven seconds.
   */
  close(): Promise<Exit>;

  /** Resolves at the end of the session and never rejects. */
  readonly exit: Promise<Exit>;
  readonly control: Control;

  /** A listener for stdout or stderr reads and therefore locks that stream. */
  addEventListener<K extends keyof SessionEvents>(
    type: K,
    listener: Listener<SessionEvents[K]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof SessionEvents>(
    type: K,
    listener: Listener<SessionEvents[K]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/** Status of a session, as in chimirror-protocol(7). May have more members. */
export interface Status {
  id: string;
  application: string;
  framing: Framing;
  state: "open" | "closing";
  bytes_in: number;
  bytes_out: number;
  messages_in: number;
  messages_out: number;
  /** Seconds. */
  age: number;
  /** Bytes that the application has not read. */
  backlog_in: number;
  /** Bytes that the client has not received. */
  backlog_out: number;
  paused: StreamName[];
}

export interface ControlEvents {
  /** A notification of the application over its control channel. */
  notification: CustomEvent<{ method: string; params?: unknown }>;
}

/**
 * Calls about the session, over a second connection that the first call opens. They
 * need the framing stdio. A failed call rejects with an error of the kind `control`.
 */
export interface Control extends EventTarget {
  /** Whether the server offers control for this session. */
  readonly available: boolean;
  /** Pauses streams, by default all, until they are resumed. */
  pause(...streams: StreamName[]): Promise<void>;
  resume(...streams: StreamName[]): Promise<void>;
  status(): Promise<Status>;
  /** Sends a signal ahead of waiting input. */
  signal(name: string): Promise<unknown>;
  /** Ends the session, as `close` of the session does. */
  close(): Promise<unknown>;
  /** The manifest of the application, an AsyncAPI 3.0 document. */
  manifest(): Promise<Record<string, unknown>>;
  /** Calls any method. Methods unknown to the server go to the application. */
  call(method: string, params?: object): Promise<unknown>;
  /** Yields the status now and after changes, at most once per interval (seconds). */
  subscribe(interval?: number): AsyncGenerator<Status, void, void>;

  addEventListener<K extends keyof ControlEvents>(
    type: K,
    listener: Listener<ControlEvents[K]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof ControlEvents>(
    type: K,
    listener: Listener<ControlEvents[K]> | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * Starts a session. Resolves once the application runs.
 *
 * With several URLs, the first one that gives a session is taken. The next one is tried if
 * there is no connection or no answer in time, and after the statuses 408, 429 and 5xx,
 * never after any other refusal that is known. If all have failed and a server has asked
 * to wait for at most 30 s (Retry-After with 429 or 503), all are tried once more after
 * that time.
 *
 * @param urls ws:, wss:, http: or https:, or relative to the page. No user and password.
 * @throws ChimirrorError of the kind `refused`, with the reason as far as it is known. A
 *   browser gives no reason to a page of another origin.
 */
export function connect(
  urls: string | URL | readonly (string | URL)[],
  options?: ConnectOptions,
): Promise<Session>;

/**
 * Iterates over the lines of a stream, without line breaks. Leaving the loop cancels the
 * stream. To continue later, keep the iterator and call `next()`.
 *
 * @param options.limit Maximum length of a line in characters. Default: 64 Mi.
 */
export function lines(
  stream: ReadableStream<Uint8Array>,
  options?: { limit?: number },
): AsyncGenerator<string, void, void>;

/**
 * Returns the names of the schemes that a response asks for (WWW-Authenticate), such as
 * `Bearer`. For requests of the caller's own, such as one for the manifest.
 */
export function schemes(response: Response): string[];

/** Reads a stream to its end, as one text. */
export function text(stream: ReadableStream<Uint8Array>): Promise<string>;
