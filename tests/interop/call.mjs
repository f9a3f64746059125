// Calls tools as TypeScript clients do: `call.mjs v2-legacy|v2-modern|v1 URL TOOL ARGUMENTS`.
// The token comes from HOLDFAST_TOKEN; what came back goes to standard output as JSON.
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, url, tool, given] = process.argv.slice(2);
const me = { name: "holdfast-interop", version: "0" };
const requestInit = { headers: { Authorization: `Bearer ${process.env.HOLDFAST_TOKEN}` } };

const [client, transport] =
  kind === "v1"
    ? [new ClientV1(me), new HttpV1(new URL(url), { requestInit })]
    : [
        new ClientV2(me, { versionNegotiation: { mode: kind === "v2-modern" ? "auto" : "legacy" } }),
        new HttpV2(new URL(url), { requestInit }),
      ];

await client.connect(transport);
const version = kind === "v1" ? transport.protocolVersion : client.getNegotiatedProtocolVersion();
// Listed before the call: only then do these clients check a result against its output schema.
const { tools } = await client.listTools();
const result = await client.callTool({ name: tool, arguments: JSON.parse(given) });
await client.close();
console.log(JSON.stringify({ version, tools: tools.map(({ name }) => name), result }));
