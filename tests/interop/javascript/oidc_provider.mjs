// Runs oidc-provider: `oidc_provider.mjs PORT LIFETIME REDIRECT_URI`. Clients may register; besides them it
// knows one confidential application, whose secret is in CLIENT_SECRET and which is sent back to
// REDIRECT_URI. Access tokens are JWTs for the resource that a client names (RFC 8707), and live for
// LIFETIME seconds. Whoever comes is signed in as one person, who agrees to what is asked.
import { createServer } from "node:http";
import Provider from "oidc-provider";

const [port, lifetime, redirectUri] = process.argv.slice(2);
const scope = "jobs inference-api";

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "holdfast",
      client_secret: process.env.CLIENT_SECRET,
      redirect_uris: [redirectUri],
      grant_types: ["authorization_code", "refresh_token"],
      token_endpoint_auth_method: "client_secret_basic",
    },
  ],
  cookies: { keys: ["of this run"] },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  interactions: { url: (_, { uid }) => `/interaction/${uid}` },
  issueRefreshToken: () => true,
  pkce: { required: () => true },
  scopes: ["openid", "offline_access", ...scope.split(" ")],
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, audience) => ({
        audience,
        scope,
        accessTokenFormat: "jwt",
        accessTokenTTL: Number(lifetime),
      }),
      useGrantedResource: () => true,
    },
  },
});

async function agree(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (prompt.name === "login") {
    const result = { login: { accountId: "person" } };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  const grant =
    (grantId && (await provider.Grant.find(grantId))) ||
    new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(" "));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(" "));
  }
  const result = { consent: { grantId: await grant.save() } };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
createServer((request, response) =>
  request.url.startsWith("/interaction/")
    ? agree(request, response).catch((error) => response.writeHead(500).end(String(error)))
    : answer(request, response),
).listen(Number(port), "127.0.0.1");
