// node run.js MODULE CASE ADDRESS OPTIONS: runs one case. Writes a JSON text per line,
// and reads cues as lines of standard input.
import { createInterface } from "node:readline";
import * as cases from "./cases.js";

const [path, name, address, options] = process.argv.slice(2);
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const cues = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (value) => print({ said: value });
const module = await import(path);
const result = await cases[name](module, address, say, () => cues.next(), JSON.parse(options));
print({ result });
process.exit(0);
