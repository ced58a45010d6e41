// Code of a user, strictly typed. Compiled, and run as it is (Node strips types).
import { ChimirrorError, connect, lines, text } from "chimirror";
import type { ConnectOptions, Exit, Session, Status, TerminalSize } from "chimirror";

declare const process: { argv: string[] };

const options: ConnectOptions = { framing: "stdio", highWaterMark: 65536 };
const session: Session = await connect(new URL(process.argv[2]!), options);

session.addEventListener("stderr", ({ detail }) => {
  const bytes: Uint8Array = detail;
  console.log("stderr", bytes.length);
});
session.addEventListener("error", { handleEvent: ({ detail }) => console.log(detail.kind) });
session.addEventListener("close", ({ detail: { code, reason } }) => console.log(code, reason));

await session.sendJSON({ some: ["thing"] });
const writer: WritableStreamDefaultWriter<string | BufferSource> = session.stdin.getWriter();
await writer.write(new Uint8Array([104, 105, 10]));
await writer.close();
for await (const line of lines(session.stdout)) console.log(line.toUpperCase());

const { code, signal, closeCode, retry }: Exit = await session.exit;
console.log(code ?? signal, closeCode, retry);

// @ts-expect-error: no such framing
await connect("ws://x/", { framing: "other" }).catch((error) => console.log(error.name));

try {
  await connect("ws://127.0.0.1:1/");
} catch (error) {
  if (!(error instanceof ChimirrorError)) throw error;
  console.log(error.kind, error.closeCode ?? "", error.message);
  const every: readonly ChimirrorError[] = error.errors ?? [];
  const late: number = error.retryAfter ?? every.length;
  if (error.status || late) throw error;
}

const size: TerminalSize = { columns: 80, rows: 24 };
// @ts-expect-error: a size has both
await connect("ws://x/", { size: { columns: 80 } }).catch((error) => console.log(error.name));

// Compiled only:
export async function more(session: Session): Promise<void> {
  const whole: string = await text(session.stderr);
  const status: Status = await session.control.status();
  for await (const each of session.control.subscribe(0.5)) console.log(each, status);
  session.control.addEventListener("notification", ({ detail }) => console.log(detail.method));
  await session.control.pause("stdout", "stderr");
  await session.control.resume();
  const told: unknown = await session.control.call("their.method", { a: 1 });
  session.signal("INT");
  const exit: Exit = await session.close();
  const urls: readonly string[] = ["ws://a/", "wss://b/"];
  const other = await connect(urls, { size, timeout: 1000 });
  other.resize(size.columns, size.rows);
  // @ts-expect-error: the streams are fixed
  session.stdout = session.stderr;
  // @ts-expect-error: a number is not written
  await session.stdin.getWriter().write(3);
  console.log(whole, told, exit);
}
