// Connects the client of ACP's TypeScript SDK by its WebSocket transport.
//
// Argument: address. Prints the answer to `initialize`, or the error.
import { PROTOCOL_VERSION, client, methods } from "@agentclientprotocol/sdk";
import { createWebSocketStream } from "@agentclientprotocol/sdk/experimental/ws-client";

const [address] = process.argv.slice(2);
try {
  await client().connectWith(createWebSocketStream(address), async (agent) => {
    const answer = await agent.request(methods.agent.initialize, {
      protocolVersion: PROTOCOL_VERSION,
    });
    console.log(JSON.stringify(answer));
  });
} catch (error) {
  console.log(JSON.stringify({ error: error.message }));
}
