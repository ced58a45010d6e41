// An editor, made with the TypeScript SDK of ACP: plays a story with an agent.
//
// Reads JSON of {target, story}. The target is the address of a WebSocket, or the
// command of an agent. Prints JSON of the report, or of {error}. Stories and reports
// are described in acp_clients.py.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { Readable, Writable } from "node:stream";
import * as acp from "@agentclientprotocol/sdk";
import { createWebSocketStream } from "@agentclientprotocol/sdk/experimental/ws-client";

const { agent: AGENT, client: CLIENT } = acp.methods;
const { target, story } = JSON.parse(readFileSync(0, "utf8"));
const files = { ...story.files };
const sessions = [];
const running = new Map(); // prompt and what is heard, by session
const report = { prompts: [], files };
let command;

function summary(update) {
  switch (update.sessionUpdate) {
    case "plan":
      return ["plan", ...update.entries.map((entry) => entry.status)].join(" ");
    case "tool_call":
      return `${update.kind} ${update.status}`;
    case "tool_call_update":
      return `tool ${update.status}`;
    case "agent_message_chunk":
      return `message ${update.content.text.trim()}`;
  }
}

async function ask(agent, prompt) {
  const sessionId = sessions[prompt.session];
  const heard = [];
  running.set(sessionId, { prompt, heard });
  const { stopReason } = await agent.request(AGENT.session.prompt, {
    sessionId,
    prompt: [{ type: "text", text: prompt.text }],
  });
  report.prompts.push({ text: prompt.text, stop: stopReason, heard });
}

async function permit({ params, agent }) {
  const { prompt, heard } = running.get(params.sessionId);
  const [diff] = params.toolCall.content;
  heard.push(`ask ${diff.path} ${JSON.stringify(diff.newText)}`);
  for (const other of prompt.meanwhile) await ask(agent, other);
  if (prompt.answer === "cancel") {
    await agent.notify(AGENT.session.cancel, { sessionId: params.sessionId });
    return { outcome: { outcome: "cancelled" } };
  }
  return { outcome: { outcome: "selected", optionId: prompt.answer } };
}

function read({ params }) {
  if (!(params.path in files)) throw acp.RequestError.resourceNotFound();
  return { content: files[params.path] };
}

function write({ params }) {
  files[params.path] = params.content;
  return {};
}

async function play(agent) {
  const { agentInfo } = await agent.request(AGENT.initialize, {
    protocolVersion: acp.PROTOCOL_VERSION,
    clientCapabilities: { fs: { readTextFile: true, writeTextFile: true } },
  });
  report.agent = agentInfo.name;
  for (const cwd of story.sessions) {
    const answer = await agent.request(AGENT.session.new, { cwd, mcpServers: [] });
    sessions.push(answer.sessionId);
  }
  for (const prompt of story.prompts) await ask(agent, prompt);
}

function connect() {
  if (typeof target === "string") return createWebSocketStream(target);
  const [file, ...args] = target;
  command = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const streams = [Writable.toWeb(command.stdin), Readable.toWeb(command.stdout)];
  return acp.ndJsonStream(...streams);
}

try {
  await acp
    .client()
    .onNotification(CLIENT.session.update, ({ params }) => {
      running.get(params.sessionId).heard.push(summary(params.update));
    })
    .onRequest(CLIENT.session.requestPermission, permit)
    .onRequest(CLIENT.fs.readTextFile, read)
    .onRequest(CLIENT.fs.writeTextFile, write)
    .connectWith(connect(), play);
  console.log(JSON.stringify(report));
} catch (error) {
  console.log(JSON.stringify({ error: error.message }));
} finally {
  command?.stdin.end(); // the SDK keeps it open
}
