// Asks a language server through vscode-ws-jsonrpc, which monaco's language client uses.
//
// Arguments: address, JSON of [method, parameters, wants answer] for each message. Prints
// each answer, each diagnostic, and at last the close code and reason.
import { listen } from "vscode-ws-jsonrpc";

const [address, messages] = process.argv.slice(2);
const say = (value) => console.log(JSON.stringify(value));
const webSocket = new WebSocket(address);

listen({
  webSocket,
  onConnection: async (connection) => {
    const found = new Promise((resolve) => {
      connection.onNotification("textDocument/publishDiagnostics", resolve);
    });
    webSocket.addEventListener("close", ({ code, reason }) => say([code, reason]));
    connection.listen();
    for (const [method, parameters, isRequest] of JSON.parse(messages)) {
      if (method === "shutdown") say((await found).diagnostics.map((each) => each.message));
      const given = parameters === null ? [] : [parameters];
      if (isRequest) say(await connection.sendRequest(method, ...given));
      else await connection.sendNotification(method, ...given);
    }
  },
});
