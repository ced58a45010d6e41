/** The framings, as in chimirror-protocol(7). */
export type Framing = "stdio" | "json" | "lines" | "lsp";

/** The application's streams. */
export type StreamName = "stdin" | "stdout" | "stderr";

export interface ConnectOptions {
  /** By default stdio, the only one with `eof`, `signal` and `control`. */
  framing?: Framing;
  /** Another name that the server has for the framing, such as `mcp` for lines. */
  subprotocol?: string;
  /**
   * Bytes that may wait in each direction before it is stopped: unsent ones, until a
   * write waits, and unread ones, until the stream is paused. By default 1 MiB.
   */
  highWaterMark?: number;
  /**
   * Bytes of one stream that may wait unread where it cannot be paused: without the
   * framing stdio, or while the pause is on its way. Beyond, the session ends with an
   * error of the kind `unread`. By default 64 MiB.
   */
  limit?: number;
  /** Gives up connecting; it does nothing to a session that has begun. */
  signal?: AbortSignal;
}

/** How a session ended; nothing is known of an application that has not told. */
export interface Exit {
  /** The exit code of the application. */
  code: number | null;
  /** The signal that ended it, without SIG. */
  signal: string | null;
  /** The reason of the close frame, such as `exit 0`, `idle` or `drain`. */
  reason: string;
  /** The code of the close frame; 1006 if there was none. */
  closeCode: number;
}

/**
 * - `refused`: there was no session.
 * - `lost`: the session ended, and the application's exit is unknown.
 * - `mistake`: the server did not deliver a message; the session goes on.
 * - `protocol`: the server said what this framing cannot mean.
 * - `unread`: more was to be kept than the limit allows.
 * - `over`: the session has ended.
 * - `control`: a control call failed.
 */
export type ErrorKind =
  | "refused"
  | "lost"
  | "mistake"
  | "protocol"
  | "unread"
  | "over"
  | "control";

export class ChimirrorError extends Error {
  private constructor();
  readonly name: "ChimirrorError";
  readonly kind: ErrorKind;
  /** Of `lost`: the code and the reason of the close frame. */
  readonly closeCode?: number;
  readonly reason?: string;
  /** Of `control`: the error of JSON-RPC, if there was an answer. */
  readonly code?: number;
  readonly data?: unknown;
}

export interface SessionEvents {
  /** A piece of output. */
  stdout: CustomEvent<Uint8Array>;
  stderr: CustomEvent<Uint8Array>;
  /** How the application ended, if that was told. */
  exit: CustomEvent<Exit>;
  /** A mistake, or what ended the session. */
  error: CustomEvent<ChimirrorError>;
  /** The last event. */
  close: CustomEvent<{ code: number; reason: string }>;
}

type Listener<E> = ((event: E) => void) | { handleEvent(event: E): void };

/** A remote process. It lives as long as its connection, which is never made anew. */
export interface Session extends EventTarget {
  readonly url: string;
  readonly framing: Framing;
  /** The id in the server's records; only the framing stdio tells it. */
  readonly id: string | null;
  /** Whether the application has a terminal; only the framing stdio tells it. */
  readonly pty: boolean;

  /**
   * Takes text and bytes; a write waits while too much is unsent. With other framings
   * than stdio each line is a message, and the stream cannot be closed (`pipeTo` wants
   * `preventClose`). To abort it ends the session.
   */
  readonly stdin: WritableStream<string | BufferSource>;
  /**
   * A stream that nobody reads stops the application, as a full pipe does: cancel what
   * is not wanted. With lines and lsp each message is a line. A stream whose end was
   * not told ends in an error, after all that has come.
   */
  readonly stdout: ReadableStream<Uint8Array>;
  readonly stderr: ReadableStream<Uint8Array>;

  /** Writes one line to stdin. */
  sendLine(line: string): Promise<void>;
  /** Writes one line to stdin: the value as JSON. */
  sendJSON(value: unknown): Promise<void>;
  /** Closes stdin, after what has been written; again is no error. Framing stdio. */
  eof(): Promise<void>;
  /** Signals the application: INT, TERM, … Framing stdio. */
  signal(name: string): void;
  /** Sets the size of the terminal; a TypeError where `pty` is not true. */
  resize(columns: number, rows: number): void;
  /**
   * Ends the session: the server stops the application. What was written goes first, as
   * far as it can in two seconds; after seven at most there is an end.
   */
  close(): Promise<Exit>;

  /** Resolves when the session is over, and never rejects. */
  readonly exit: Promise<Exit>;
  readonly control: Control;

  /**
   * Who listens to stdout or stderr reads that stream, which is locked from then on.
   */
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

/** How a session is, as in chimirror-protocol(7); there may be more members. */
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
  /** Bytes that wait for the application. */
  backlog_in: number;
  /** Bytes that wait for the client. */
  backlog_out: number;
  paused: StreamName[];
}

export interface ControlEvents {
  /** What the application says of itself, where it has a control channel. */
  notification: CustomEvent<{ method: string; params?: unknown }>;
}

/**
 * Calls about the session over a second connection, made for the first of them; they
 * need the framing stdio. Each rejects with an error of the kind `control`.
 */
export interface Control extends EventTarget {
  /** Whether the server offers it for this session. */
  readonly available: boolean;
  /** Stops streams, all by default, until they are resumed. */
  pause(...streams: StreamName[]): Promise<void>;
  resume(...streams: StreamName[]): Promise<void>;
  status(): Promise<Status>;
  /** As the session's, but ahead of the input that waits. */
  signal(name: string): Promise<unknown>;
  /** Ends the session, as `close` of the session does. */
  close(): Promise<unknown>;
  /** How the application describes itself, in AsyncAPI 3.0. */
  manifest(): Promise<Record<string, unknown>>;
  /** Any method; those that are not the server's are the application's. */
  call(method: string, params?: object): Promise<unknown>;
  /** The status now, and when it has changed, at most once per interval (seconds). */
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
 * Starts a session: resolves once the application runs.
 *
 * @param url ws:, wss:, http: or https:, or relative to the page.
 * @throws ChimirrorError of the kind `refused`, with what can be said of the reason; a
 *   browser tells a page of another origin nothing.
 */
export function connect(
  url: string | URL,
  options?: ConnectOptions,
): Promise<Session>;

/**
 * The lines of a stream, without their ends. To leave the loop cancels the stream; to
 * read on later, keep the iterator and call `next()`.
 *
 * @param options.limit Characters of a line, 64 Mi by default; a longer one is an error.
 */
export function lines(
  stream: ReadableStream<Uint8Array>,
  options?: { limit?: number },
): AsyncGenerator<string, void, void>;

/** All of a stream as one text, when it has come to its end. */
export function text(stream: ReadableStream<Uint8Array>): Promise<string>;
