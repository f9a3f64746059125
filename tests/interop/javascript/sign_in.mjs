// Signs in as TypeScript clients do: `sign_in.mjs v1|v2 URL SCOPES`. The person at the browser
// leaves SCOPES ticked the first time, and allows all that is asked for after that. Launches a job,
// then calls until the token has been replaced by a fresh one; says on standard output what it saw.
import {
  Client as ClientV2,
  StreamableHTTPClientTransport as HttpV2,
  UnauthorizedError as UnauthorizedV2,
} from "@modelcontextprotocol/client";
import { UnauthorizedError as UnauthorizedV1 } from "@modelcontextprotocol/sdk/client/auth.js";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, url, firstGrant] = process.argv.slice(2);
const [Client, Http, Unauthorized] =
  kind === "v1" ? [ClientV1, HttpV1, UnauthorizedV1] : [ClientV2, HttpV2, UnauthorizedV2];
const asked = [];
const kept = {};
let callback;

async function allow(page) {
  asked.push(page.searchParams.get("scope"));
  if (asked.length === 1) page.searchParams.set("scope", firstGrant);
  let answer = await fetch(page, { redirect: "manual" });
  if (answer.status === 200) {
    const [, token] = /name="form_token" value="([^"]+)"/.exec(await answer.text());
    const body = new URLSearchParams({ form_token: token, decision: "allow" });
    answer = await fetch(new URL("/oauth/authorize", page), { method: "POST", body, redirect: "manual" });
  }
  callback = new URL(answer.headers.get("location")).searchParams;
}

const authProvider = {
  redirectUrl: "http://127.0.0.1:8912/callback",
  clientMetadata: {
    client_name: "holdfast-interop",
    redirect_uris: ["http://127.0.0.1:8912/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => (kept.tokens = tokens),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => (kept.verifier = verifier),
  redirectToAuthorization: allow,
};

let client, transport;

async function open() {
  transport = new Http(new URL(url), { authProvider });
  client = new Client({ name: "holdfast-interop", version: "0" });
  await client.connect(transport);
}

async function finish(error) {
  if (!(error instanceof Unauthorized)) throw error;
  // Version 1 knows no `iss`, and version 2 compares it (RFC 9207).
  await transport.finishAuth(callback.get("code"), callback.get("iss"));
  await open();
}

await open().catch(finish);
const granted = kept.tokens.scope;
const launch = { name: "launch_job", arguments: { image: "python:3.12", command: ["true"] } };
const launched = await client.callTool(launch).catch(async (error) => {
  await finish(error);
  return client.callTool(launch);
});
const stepped = kept.tokens;
const status = { name: "job_status", arguments: { job_ids: [launched.structuredContent.job_id] } };
let seen;
for (const deadline = Date.now() + 60_000; Date.now() < deadline && kept.tokens === stepped; ) {
  seen = await client.callTool(status);
  await new Promise((resolve) => setTimeout(resolve, 200));
}
await client.close();
console.log(
  JSON.stringify({
    asked,
    granted,
    stepped: stepped.scope,
    refreshed: kept.tokens !== stepped,
    job: launched.structuredContent,
    seen: seen?.structuredContent,
  }),
);
