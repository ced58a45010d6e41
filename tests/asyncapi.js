// The official parser, one document per line in, its verdict per line out.
//
// What is loaded is the parser's build for browsers: one file, without the packages
// that the other build is spread over. It looks for itself in a window.
globalThis.self = globalThis.window = globalThis;
const Parser = require(process.argv[2]);
const lines = require("node:readline").createInterface({ input: process.stdin });
const parser = new Parser();

(async () => {
  for await (const line of lines) {
    const { document, diagnostics } = await parser.parse(line);
    const told = diagnostics.map(({ severity, code, message, path }) =>
      ({ severity, code, message, path: (path ?? []).join(".") }));
    console.log(JSON.stringify({ valid: document !== undefined, told }));
  }
})();
