// An MCP host, as a program: connects to a server, and calls its tools.
//
//     mcp_host.mjs SDK SERVER MODE STEP...
//
// As mcp_host.py, with TypeScript's SDKs: SDK is `sdk` (version 1) or `client`
// (version 2). SERVER has a command, or a URL for the WebSocket transport of version 1.
import process from "node:process";

const PACKAGES = {
  sdk: ["client/index.js", "client/stdio.js", "client/websocket.js"],
  client: ["", "stdio"],
};
const [sdk, server, mode, ...steps] = process.argv.slice(2);
const modules = PACKAGES[sdk].map((name) =>
  import(["@modelcontextprotocol", sdk, name].filter(Boolean).join("/")));
const { Client, StdioClientTransport, WebSocketClientTransport } =
  Object.assign({}, ...await Promise.all(modules));

const options = JSON.parse(server);
const transport = options.url
  ? new WebSocketClientTransport(new URL(options.url))
  : new StdioClientTransport(options);
const tell = (value) =>
  new Promise((told) => process.stdout.write(`${JSON.stringify(value)}\n`, told));

const client = new Client({ name: "host", version: "1" }, { versionNegotiation: { mode } });
client.onerror = (error) => console.error(`error: ${error.message}`);
client.onclose = () => console.error("closed");

async function perform([name, value]) {
  if (name === "read") {
    const { contents: [{ text }] } = await client.readResource({ uri: value });
    return { result: text };
  }
  // It drops notifications of progress that arrive together with their result.
  const heard = { onprogress: () => {} };
  const call = { name, arguments: value };
  const { isError, structuredContent, content } =
    sdk === "sdk" ? await client.callTool(call, undefined, heard)
      : await client.callTool(call, heard);
  return isError ? { error: content[0].text } : { result: structuredContent.result };
}

await client.connect(transport);
await tell({ version: client.getNegotiatedProtocolVersion?.() ?? null });
for (const step of steps) await tell(await perform(JSON.parse(step)));
await client.close();
