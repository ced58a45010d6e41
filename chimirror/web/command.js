// SPDX-License-Identifier: MIT
/** The command line of chimirror-connect(1) for a session of this page. */

const PREFERRED = ["stdio", "json", "lines", "lsp"]; // by chimirror-connect, in this order

/** Returns a command for a POSIX shell. @param address the URL, as for a WebSocket */
export function command(address, framing, framings) {
  const preferred = PREFERRED.find((name) => framings.includes(name));
  const option = framing === preferred ? [] : ["--framing", framing];
  const url = new URL(address);
  url.protocol = url.protocol.replace(/^http/, "ws");
  url.hash = "";
  return ["chimirror-connect", ...option, url.href].map(quoted).join(" ");
}

function quoted(word) {
  return /^[\w@%+:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
