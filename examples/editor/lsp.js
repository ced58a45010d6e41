// SPDX-License-Identifier: MIT
/**
 * A language server at the other end of a session: JSON-RPC 2.0, as LSP 3.17 has it.
 *
 * Law: nothing that comes is taken for granted, not even that it is a message; what
 * nobody waits for is dropped, and every request settles once.
 * Ignorance: what a document is, and how anything is shown.
 */

import { connect, lines } from "./chimirror.js";

const PATIENCE = 10000; // ms for a server to go after `shutdown`
const NO_METHOD = -32601;

/** Told by events: notification ({ method, params }) and, last, close ({ failed, text }). */
export class LanguageServer extends EventTarget {
  #session;
  #last = 0;
  #calls = new Map();
  #over = false;

  /** Starts one, unless the signal says otherwise before it runs. */
  static async start(address, signal) {
    const server = new LanguageServer();
    server.#session = await connect(address, { framing: "lsp", signal });
    void server.#read();
    return server;
  }

  request(method, params) {
    const answer = Promise.withResolvers();
    if (this.#over) answer.reject(new Error("the language server has gone"));
    else this.#calls.set(++this.#last, answer);
    this.#send({ id: this.#last, method, params });
    return answer.promise;
  }

  notify(method, params) {
    this.#send({ method, params });
  }

  /** Ends it as LSP wants it, and whoever does not comply without asking. */
  async stop() {
    const timer = setTimeout(() => this.close(), PATIENCE);
    await this.request("shutdown").catch(() => {});
    this.notify("exit");
    await this.#session.exit;
    clearTimeout(timer);
  }

  /** Ends it at once. */
  close() {
    void this.#session.close();
  }

  #send(message) {
    // A session that is over has told so by its end.
    if (!this.#over) this.#session.sendJSON({ jsonrpc: "2.0", ...message }).catch(() => {});
  }

  async #read() {
    let failure = "";
    try {
      for await (const line of lines(this.#session.stdout)) this.#heed(JSON.parse(line));
    } catch (error) {
      failure = error.message;
      this.close();
    }
    const { reason } = await this.#session.exit;
    this.#over = true;
    for (const { reject } of this.#calls.values()) reject(new Error("no answer"));
    this.#calls.clear();
    const failed = Boolean(failure);
    this.#tell("close", { failed, text: failure || reason || "closed from here" });
  }

  #heed(message) {
    const { id, method, params, result, error } = message ?? {};
    if (method === undefined) {
      const answer = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) answer?.reject(new Error(`it says ${JSON.stringify(error)}`));
      else answer?.resolve(result);
    } else if (id === undefined) {
      this.#tell("notification", { method, params });
    } else {
      // We have not said that we could do anything.
      this.#send({ id, error: { code: NO_METHOD, message: "this editor has no methods" } });
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
