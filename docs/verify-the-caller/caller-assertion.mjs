import crypto from 'node:crypto';

const TYPE = 'mtls-authz-caller+jwt', LIFE = 60, SKEW = 10, REMEMBER = 500_000;

// gateway: GATEWAY_URL, https. hosts: the hosts of this app's bound routes.
export function callerAssertion(gateway, hosts) {
  let keys = new Map(), fetched = 0, next = 0, flight;
  const seen = new Map(); // jti -> when it may be forgotten, in order of arrival

  async function fetchKeys() {
    const response = await fetch(`${gateway}/.well-known/jwks.json`, { redirect: 'error', signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`keys: status ${response.status}`);
    const set = await response.json();
    keys = new Map(set.keys.filter((jwk) => jwk.kty === 'OKP' && jwk.crv === 'Ed25519')
      .map(({ kty, crv, x, kid }) => [kid, crypto.createPublicKey({ key: { kty, crv, x }, format: 'jwk' })]));
    fetched = Date.now();
  }

  // Fetched again every 5 minutes and for an unknown key, but at most every 10 s;
  // used for a day while that fails. Requests with a known key do not wait.
  async function keyOf(kid) {
    const age = Date.now() - fetched;
    if ((!keys.has(kid) || age > 300_000) && !flight && Date.now() >= next) {
      next = Date.now() + 10_000;
      flight = fetchKeys().catch(() => { next = Date.now() + 1000; }).finally(() => { flight = undefined; });
    }
    if ((!keys.has(kid) || age > 86_400_000) && flight) await flight;
    return Date.now() - fetched <= 86_400_000 ? keys.get(kid) : undefined;
  }

  function once(jti, now) {
    for (const [old, until] of seen) {
      if (until > now) break;
      seen.delete(old);
    }
    if (seen.has(jti) || seen.size >= REMEMBER) throw new Error('used before, or too many');
    seen.set(jti, now + LIFE + 2 * SKEW);
  }

  // verify returns the claims, or throws. It wants the request as node received
  // it: no middleware may have changed method or url before.
  return async function verify(request) {
    const values = request.headersDistinct['x-mtls-authz-assertion'] ?? [];
    if (values.length !== 1 || values[0].length > 4096) throw new Error('expected one assertion');
    if (!/^[\w-]+\.[\w-]+\.[\w-]{86}$/.test(values[0])) throw new Error('malformed');
    const [header, payload, signature] = values[0].split('.');
    // The gateway writes the header in this form only; jwk, jku, crit never occur.
    const form = /^\{"typ":"([^"]*)","alg":"([^"]*)","kid":"([\w-]{43})"\}$/;
    const [, typ, alg, kid] = form.exec(Buffer.from(header, 'base64url').toString()) ?? [];
    if (typ !== TYPE || alg !== 'EdDSA') throw new Error('not a caller assertion');
    const key = await keyOf(kid);
    if (!key) throw new Error('unknown key');
    if (!crypto.verify(null, Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'))) throw new Error('signature');

    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const now = Math.floor(Date.now() / 1000);
    const target = crypto.createHash('sha256').update(request.url, 'latin1').digest('base64url');
    if (claims.iss !== gateway) throw new Error('another gateway');
    if (!(claims.iat <= now + SKEW && claims.nbf <= now + SKEW && claims.exp > now - SKEW && claims.exp <= claims.iat + LIFE)) throw new Error('time');
    if (!hosts.includes(claims.aud) || claims.aud !== request.headers.host) throw new Error('another host');
    if (claims.method !== request.method || claims.target_sha256 !== target) throw new Error('another request');
    if (claims.decision !== 'allowed') throw new Error('not allowed, only not enforced (report mode)');
    for (const name of ['jti', 'route', 'caller_app', 'caller_space', 'caller_org']) if (!claims[name]) throw new Error('malformed');
    once(claims.jti, now);
    return claims;
  };
}
