// An OpenID provider for the tests: node provider.mjs PLACE CALLBACK. Prints its address when it answers. Who signs in
// is whoever the request's x-person header names; PKCE is required.
import http from "node:http";
import { pathToFileURL } from "node:url";

const [place, callback] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(`${place}/node_modules/oidc-provider/lib/index.js`));

const people = {
  "sub-ann": { email: "ann@example.com", email_verified: true, name: "Ann", groups: ["dev", "ops"] },
  "sub-mallory": { email: "ann@example.com", email_verified: false, name: "ann@example.com", preferred_username: "sub-ann" },
};
const server = http.createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{ client_id: "ci", client_secret: "hush", redirect_uris: [callback] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "preferred_username"], groups: ["groups"] },
    cookies: { keys: ["test"] },
    features: { devInteractions: { enabled: false } },
    pkce: { methods: ["S256"], required: () => true },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    async loadExistingGrant(ctx) {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid email profile groups");
      await grant.save();
      return grant;
    },
  });
  const answer = provider.callback();
  server.on("request", async (req, res) => {
    if (!req.url.startsWith("/interaction/")) return answer(req, res);
    const person = req.headers["x-person"];
    const result = person ? { login: { accountId: person } } : { error: "access_denied", error_description: "no thanks" };
    await provider.interactionFinished(req, res, result, { mergeWithLastSubmission: false });
  });
  console.log(issuer);
});
