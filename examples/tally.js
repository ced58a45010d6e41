// Node: reads one number per line and prints statistics of all so far, as JSON.
//
//     chimirror-server -- node examples/tally.js
"use strict";

const lines = require("node:readline").createInterface({ input: process.stdin });

let count = 0;
let mean = 0;
let squares = 0; // sum of squared distances from the mean, by Welford's method
let least = Infinity;
let most = -Infinity;

lines.on("line", (line) => {
  const number = line.trim() === "" ? NaN : Number(line);
  if (!Number.isFinite(number)) {
    console.log(JSON.stringify({ error: `not a number: ${line}` }));
    return;
  }
  count += 1;
  const distance = number - mean;
  mean += distance / count;
  squares += distance * (number - mean);
  least = Math.min(least, number);
  most = Math.max(most, number);
  const deviation = count > 1 ? Math.sqrt(squares / (count - 1)) : null;
  console.log(JSON.stringify({ count, mean, deviation, least, most }));
});
