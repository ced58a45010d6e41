// Debugs a program with the DebugClient of VS Code's adapter tests, unmodified.
//
// Arguments: command and URL of the adapter, program, line of a breakpoint. Prints JSON,
// one line for each step. Waits there for the end of standard input, if the last
// argument is "wait". Otherwise lets the program continue to its end.
"use strict";
const { DebugClient } = require("@vscode/debugadapter-testsupport");

const [command, url, program, line, mode] = process.argv.slice(2);
const say = (...step) => console.log(JSON.stringify(step));

async function main() {
  const client = new DebugClient(command, url, "debugpy");
  await client.start();
  client.defaultTimeout = 50000; // reached only by a wait that fails its test
  say("adapter", client._adapterProcess.pid);
  let output = "";
  client.on("output", ({ body }) => {
    if (body.category === "stdout") output += body.output;
  });
  const source = { path: program };
  const breakpoints = [{ line: Number(line) }];
  const launched = client
    .initializeRequest()
    .then(() =>
      client.launchRequest({ program, console: "internalConsole", subProcess: false }),
    );
  await client.waitForEvent("initialized");
  const { body: set } = await client.setBreakpointsRequest({ source, breakpoints });
  say("breakpoints", set.breakpoints.map((each) => [each.line, each.verified]));
  const stops = client.waitForEvent("stopped");
  await client.configurationDoneRequest();
  await launched;
  const { threadId, reason } = (await stops).body;
  const { body: stack } = await client.stackTraceRequest({ threadId });
  const [top] = stack.stackFrames;
  say("stopped", reason, top.line);
  const { body: found } = await client.scopesRequest({ frameId: top.id });
  const { variablesReference } = found.scopes[0];
  const { body: held } = await client.variablesRequest({ variablesReference });
  const named = held.variables.map(({ name, value }) => [name, value]);
  say("variables", Object.fromEntries(named));
  if (mode === "wait") {
    process.stdin.on("end", () => process.exit()).resume();
    return;
  }
  const ends = [client.waitForEvent("exited"), client.waitForEvent("terminated")];
  await client.continueRequest({ threadId });
  const [exited] = await Promise.all(ends);
  say("exited", exited.body.exitCode, output);
  await client.stop();
}

main();
