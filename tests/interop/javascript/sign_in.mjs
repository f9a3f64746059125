// Signs in as TypeScript clients do: `sign_in.mjs v1|v2|PACKAGE URL SCOPES`; a package is an older v1. The person at the browser
// leaves SCOPES ticked the first time (all, if that is empty), and allows what is asked for after that. Launches a job,
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
const older = async (path) => import(`${kind}/client/${path}.js`);
const [Client, Http, Unauthorized] =
  kind === "v1"
    ? [ClientV1, HttpV1, UnauthorizedV1]
    : kind === "v2"
      ? [ClientV2, HttpV2, UnauthorizedV2]
      : [
          (await older("index")).Client,
          (await older("streamableHttp")).StreamableHTTPClientTransport,
          (await older("auth")).UnauthorizedError,
        ];
const asked = [];
const kept = {};
// A client that was registered before, and the second token of a service with a server of its own.
const { CLIENT_ID: clientId, CLIENT_SECRET: clientSecret, HUB_TOKEN: hubToken } = process.env;
if (clientId) kept.client = { client_id: clientId, ...(clientSecret && { client_secret: clientSecret }) };
const requestInit = { headers: hubToken ? { "X-HF-Authorization": `Bearer ${hubToken}` } : {} };
let callback;

// Agrees on each page, and follows each redirect, until it is sent to the program.
async function allow(page) {
  asked.push(page.searchParams.get("scope"));
  if (asked.length === 1 && firstGrant) page.searchParams.set("scope", firstGrant);
  const cookies = new Map();
  let url = page;
  let form;
  for (let step = 0; step < 10; step++) {
    const headers = { cookie: [...cookies].map((pair) => pair.join("=")).join("; ") };
    const request = form ? { method: "POST", body: form, headers } : { headers };
    const answer = await fetch(url, { redirect: "manual", ...request });
    for (const cookie of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(cookie);
      cookies.set(name, value);
    }
    if (answer.headers.has("location")) {
      url = new URL(answer.headers.get("location"), url);
      form = undefined;
      if (url.href.startsWith(authProvider.redirectUrl)) {
        callback = url.searchParams;
        return;
      }
    } else {
      const text = await answer.text();
      if (answer.status !== 200) throw new Error(`${url} answered ${answer.status}: ${text}`);
      url = new URL(attribute(/<form[^>]*>/i.exec(text)[0], "action") ?? "", url);
      const fields = [...text.matchAll(/<input[^>]*>/gi)].map(([input]) => input);
      form = new URLSearchParams(fields.map((input) => [attribute(input, "name"), attribute(input, "value")]));
      const [button] = [...text.matchAll(/<button[^>]*>/gi)].filter(([each]) => attribute(each, "value") === "allow");
      if (button) form.set(attribute(button[0], "name"), "allow");
    }
  }
  throw new Error("The sign-in goes round in circles.");
}

function attribute(tag, name) {
  return new RegExp(`\\s${name}="([^"]*)"`).exec(tag)?.[1].replaceAll("&amp;", "&");
}

const authProvider = {
  redirectUrl: "http://127.0.0.1:8912/callback",
  clientMetadata: {
    client_name: "holdfast-interop",
    redirect_uris: ["http://127.0.0.1:8912/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: clientSecret ? "client_secret_basic" : "none",
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
  transport = new Http(new URL(url), { authProvider, requestInit });
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
if (launched.isError) {
  console.log(JSON.stringify({ asked, granted, refused: launched.content[0].text }));
  process.exit();
}
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
