// SPDX-License-Identifier: MIT
/**
 * Login of the console: a form for a token, and the name of the user.
 *
 * The token is in the memory of this page alone, and in no storage and no address. It is
 * gone with the page. A browser asks for a user and a password by itself, and sends
 * cookies by itself. Knows nothing of catalogs and sessions.
 */

import { visible } from "./elements.js";

const MAX_TEXT_LENGTH = 300; // characters of names and reasons of the server
const at = (id) => document.getElementById(id);
const short = (text) => visible(text.slice(0, MAX_TEXT_LENGTH));

export class Login {
  /** The token, undefined without one. */
  token;
  #onChange;

  /** Calls `onChange` when the user has entered a token, forgets it or tries again. */
  constructor(onChange) {
    this.#onChange = onChange;
    at("login-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enter(at("token").value.trim());
    });
    at("forget").addEventListener("click", () => this.#change(undefined));
    at("login-again").addEventListener("click", () => this.#change(undefined));
  }

  #enter(text) {
    if (!/^[\w.~+/-]+=*$/.test(text)) {
      at("login-text").textContent =
        "A token has letters, digits and -._~+/ alone, and = at its end.";
      at("token").focus();
      return;
    }
    this.#change(text);
  }

  #change(token) {
    at("token").value = "";
    this.token = token;
    this.#onChange();
  }

  /**
   * Hides the form, and shows the user if the server or the page knows one.
   *
   * @returns whether the form was shown
   */
  welcome(user) {
    const wasShown = !at("login").hidden;
    this.#show(false);
    at("user").textContent = user ? `User ${short(user)}` : "With a token";
    at("identity").hidden = !user && this.token === undefined;
    at("forget").hidden = this.token === undefined;
    return wasShown;
  }

  /** Whether the user may forget the token now. */
  allowForgetting(allowed) {
    at("forget").disabled = !allowed;
  }

  /**
   * Asks the user to log in, in the way that a refusal of the server names.
   *
   * @param names the schemes that the server asks for
   * @param reason the text of the server
   * @returns whether a token was refused
   */
  ask(names, reason) {
    const known = names.map((name) => name.toLowerCase());
    const hadToken = this.token !== undefined;
    const wantsToken = known.includes("bearer");
    this.token = undefined;
    this.#show(true);
    at("identity").hidden = true;
    at("login-form").hidden = !wantsToken;
    at("login-more").hidden = wantsToken;
    at("login-reason").textContent = short(reason);
    at("login-text").textContent = instruction(known, names);
    (wantsToken ? at("token") : at("login-again")).focus();
    return hadToken;
  }

  #show(shown) {
    at("login").hidden = !shown;
    at("setup").hidden = shown;
  }
}

/** Returns what a user can do. */
function instruction(known, names) {
  if (known.includes("bearer")) return "This server asks for a token.";
  if (known.includes("basic")) {
    return "This server asks for a user and a password. Try again, and the browser asks for them.";
  }
  const cure = "Log in where this site does that, and load this page again.";
  if (known.includes("chimirror")) {
    return `A proxy in front, a certificate, a local socket or a cookie tells this server who you are. ${cure}`;
  }
  if (!names.length) return `This server asks for a login. ${cure}`;
  return `This server asks for ${short(names.join(" or "))}. ${cure}`;
}
