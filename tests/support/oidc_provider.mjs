// An OpenID provider whose users have any name and any password.
//
//     node oidc_provider.mjs PORT REDIRECT_URI CLIENT_SECRET

import { Provider } from "oidc-provider";

const [port, redirect, secret] = process.argv.slice(2);
const client = {
    client_id: "chimirror",
    client_secret: secret,
    redirect_uris: [redirect],
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [client],
    cookies: { keys: [secret] },
    pkce: { required: () => true },
});
provider.listen(Number(port), "127.0.0.1");
