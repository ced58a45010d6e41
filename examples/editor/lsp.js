// SPDX-License-Identifier: MIT
/**
 * A client of a language server over a session: JSON-RPC 2.0 of LSP 3.17.
 *
 * Guarantees: every received value is checked, unexpected responses are dropped, and
 * each request settles once. Knows neither documents nor the page.
 */

import { connect, lines } from "./chimirror.js";

const STOP_TIMEOUT = 10000; // ms for a server to exit after `shutdown`
const NO_METHOD = -32601;

/** Connection to a server. Events: notification { method, params }, close { failed, text }. */
export class LanguageServer extends EventTarget {
  #session;
  #last = 0;
  #calls = new Map();
  #over = false;

  /** Starts a server, unless the signal aborts before it runs. */
  static async start(address, signal) {
    const server = new LanguageServer();
    server.#session = await connect(address, { framing: "lsp", signal });
    void server.#read();
    return server;
  }

  request(method, params) {
    const answer = Promise.withResolvers();
    if (this.#over) answer.reject(new Error("the language server has exited"));
    else this.#calls.set(++this.#last, answer);
    this.#send({ id: this.#last, method, params });
    return answer.promise;
  }

  notify(method, params) {
    this.#send({ method, params });
  }

  /** Stops the server by the shutdown sequence of LSP, then by closing the session. */
  async stop() {
    const timer = setTimeout(() => this.close(), STOP_TIMEOUT);
    await this.request("shutdown").catch(() => {});
    this.notify("exit");
    await this.#session.exit;
    clearTimeout(timer);
  }

  /** Closes the session at once. */
  close() {
    void this.#session.close();
  }

  #send(message) {
    // The end of the session is reported separately.
    if (!this.#over) this.#session.sendJSON({ jsonrpc: "2.0", ...message }).catch(() => {});
  }

  async #read() {
    let failure = "";
    try {
      for await (const line of lines(this.#session.stdout)) this.#dispatch(JSON.parse(line));
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

  #dispatch(message) {
    const { id, method, params, result, error } = message ?? {};
    if (method === undefined) {
      const answer = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) answer?.reject(new Error(`it says ${JSON.stringify(error)}`));
      else answer?.resolve(result);
    } else if (id === undefined) {
      this.#tell("notification", { method, params });
    } else {
      // The editor has announced no methods.
      this.#send({ id, error: { code: NO_METHOD, message: "this editor has no methods" } });
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
