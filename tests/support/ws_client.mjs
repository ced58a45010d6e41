// Runs a script for the WebSocket of Node with that of the npm package ws, which offers
// permessage-deflate. Arguments: the script, and its arguments.
import process from "node:process";
import { pathToFileURL } from "node:url";
import WebSocket from "ws";

globalThis.WebSocket = WebSocket;
const [script] = process.argv.splice(2, 1);
await import(pathToFileURL(script));
