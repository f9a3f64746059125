// Speaks for a test as TypeScript clients do: `client.mjs v1|v2-legacy|v2-modern URL`. The token comes
// from HOLDFAST_TOKEN. Says on standard output what it was shown, and then the result of each call
// that it reads from standard input.
import { createInterface } from "node:readline";
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, url] = process.argv.slice(2);
const me = { name: "holdfast-interop", version: "0" };
const requestInit = { headers: { Authorization: `Bearer ${process.env.HOLDFAST_TOKEN}` } };

const [client, transport] =
  kind === "v1"
    ? [new ClientV1(me), new HttpV1(new URL(url), { requestInit })]
    : [
        new ClientV2(me, { versionNegotiation: { mode: kind === "v2-modern" ? "auto" : "legacy" } }),
        new HttpV2(new URL(url), { requestInit }),
      ];
const say = (what) => console.log(JSON.stringify(what));

await client.connect(transport);
const version = kind === "v1" ? transport.protocolVersion : client.getNegotiatedProtocolVersion();
// Listed before the calls: only then do these clients check a result against its output schema.
const { tools } = await client.listTools();
say({ version, server: client.getServerVersion().name, tools: tools.map(({ name }) => name) });
for await (const line of createInterface({ input: process.stdin })) {
  say(await client.callTool(JSON.parse(line)));
}
await client.close();
