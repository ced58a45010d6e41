// Asks a language server through the byte streams of vscode-jsonrpc.
//
// Arguments: path of the library, address, JSON of [method, parameters, wants answer]
// for each message. Prints each answer. Then prints whether each message of the server
// was one header with its whole body, and the close code and reason.
"use strict";
const { Readable, Writable } = require("node:stream");

const [library, address, messages] = process.argv.slice(2);
const jsonrpc = require(library);
const socket = new WebSocket(address, "chimirror.lsp.v1");
const input = new Readable({ read() {} });
const output = new Writable({
  write(chunk, _encoding, done) {
    socket.send(chunk);
    done();
  },
});
let wholeMessages = true;

socket.onmessage = ({ data }) => {
  const [header, body] = data.split("\r\n\r\n");
  wholeMessages &&= header === `Content-Length: ${Buffer.byteLength(body)}`;
  input.push(Buffer.from(data));
};
socket.onopen = async () => {
  const connection = jsonrpc.createMessageConnection(
    new jsonrpc.StreamMessageReader(input),
    new jsonrpc.StreamMessageWriter(output),
  );
  connection.listen();
  for (const [method, parameters, isRequest] of JSON.parse(messages)) {
    if (isRequest) {
      console.log(JSON.stringify(await connection.sendRequest(method, parameters)));
    } else {
      await connection.sendNotification(method, parameters);
    }
  }
};
socket.onclose = ({ code, reason }) => {
  console.log(JSON.stringify([wholeMessages, code, reason]));
  process.exit();
};
