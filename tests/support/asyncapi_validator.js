// Runs the official parser: reads one document per line, writes one result per line.
//
// Loads the parser's build for browsers, which is one file. The other build needs many
// packages. The build for browsers expects a window.
globalThis.self = globalThis.window = globalThis;

// The parser compiles the schema of AsyncAPI again for every document, which takes most
// of its time. It keeps compiled schemas in a WeakMap with the document as the key. With
// one key for all documents it compiles each schema once. (The entry holds each schema.)
const { WeakMap } = globalThis;
const EVERY_DOCUMENT = {};
const key = (object) =>
  object && "referencedDocuments" in object ? EVERY_DOCUMENT : object;
globalThis.WeakMap = class extends WeakMap {
  get(object) { return super.get(key(object)); }
  set(object, value) { return super.set(key(object), value); }
};
const Parser = require(process.argv[2]);
globalThis.WeakMap = WeakMap;

const lines = require("node:readline").createInterface({ input: process.stdin });
const parser = new Parser();

(async () => {
  for await (const line of lines) {
    const { document, diagnostics } = await parser.parse(line);
    const messages = diagnostics.map(({ severity, code, message, path }) =>
      ({ severity, code, message, path: (path ?? []).join(".") }));
    console.log(JSON.stringify({ valid: document !== undefined, messages }));
  }
})();
