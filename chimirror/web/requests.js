// SPDX-License-Identifier: MIT
/** Requests of the console for documents of the server: its catalog and manifests. */

import { schemes } from "./chimirror.js";

/**
 * A document that did not arrive. `schemes` is what the server asks for, with 401, and
 * undefined with other answers. `elsewhere` tells that a proxy redirects.
 */
export class Refusal extends Error {
  constructor(message, { status = 0, schemes: names = undefined, elsewhere = false } = {}) {
    super(message);
    this.status = status;
    this.schemes = names;
    this.elsewhere = elsewhere;
  }
}

/**
 * Reads a document in JSON, with a token if there is one.
 *
 * @returns the document, and the name of the user, "" if the server knows none
 */
export async function read(url, token) {
  const headers = { Accept: "application/json" };
  if (token !== undefined) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { headers, redirect: "manual" });
  const { ok, status, type } = response;
  if (type === "opaqueredirect") {
    throw new Refusal("a proxy in front redirects", { elsewhere: true });
  }
  // The page of a proxy has no line that says the reason.
  const isPage = response.headers.get("Content-Type")?.startsWith("text/html");
  if (!ok) {
    const line = !isPage && (await response.text()).split("\n")[0];
    const names = status === 401 ? schemes(response) : undefined;
    throw new Refusal(line || String(status), { status, schemes: names });
  }
  if (isPage) throw new Refusal(`a proxy in front does not pass on ${url.pathname}`);
  const user = decodeURIComponent(response.headers.get("Chimirror-User") ?? "");
  return { document: await response.json(), user };
}
