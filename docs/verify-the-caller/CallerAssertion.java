import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PublicKey;
import java.security.Signature;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.util.Base64;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.ReentrantLock;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Verifies X-Mtls-Authz-Assertion. Java 17 or newer, no library. Thread-safe. */
public final class CallerAssertion {
    private static final long LIFE = 60, SKEW = 10;
    private static final int REMEMBER = 500_000;
    // The gateway writes the header in this form only; jwk, jku, crit never occur.
    private static final Pattern HEADER = Pattern.compile("\\{\"typ\":\"mtls-authz-caller\\+jwt\",\"alg\":\"EdDSA\",\"kid\":\"([\\w-]{43})\"}");
    private static final Pattern TOKEN = Pattern.compile("([\\w-]+)\\.([\\w-]+)\\.([\\w-]{86})");
    private static final Pattern FLAT_OBJECT = Pattern.compile("\\{[^{}]*}");
    private static final byte[] ED25519_SPKI = HexFormat.of().parseHex("302a300506032b6570032100");

    private final String gateway;
    private final Set<String> hosts;
    private final HttpClient client;
    private final ReentrantLock fetching = new ReentrantLock();
    private volatile Map<String, PublicKey> keys = Map.of();
    private volatile long fetched, next;
    private final LinkedHashMap<String, Long> seen = new LinkedHashMap<>();

    /** gateway: GATEWAY_URL, https. hosts: those of this app's bound routes. client: must not follow redirects. */
    public CallerAssertion(String gateway, Set<String> hosts, HttpClient client) {
        if (!gateway.startsWith("https://") || client.followRedirects() != HttpClient.Redirect.NEVER) throw new IllegalArgumentException();
        this.gateway = gateway;
        this.hosts = hosts;
        this.client = client;
    }

    /**
     * Returns the payload, or throws: then answer 403. target is the raw path and query of the request
     * line; in a servlet: getRequestURI() + (getQueryString() == null ? "" : "?" + getQueryString()).
     */
    public String verify(String method, String host, String target, List<String> assertions) throws Exception {
        if (assertions.size() != 1 || assertions.get(0).length() > 4096) throw new SecurityException("expected one assertion");
        Matcher token = TOKEN.matcher(assertions.get(0));
        if (!token.matches()) throw new SecurityException("malformed");
        Matcher header = HEADER.matcher(text(token.group(1)));
        if (!header.matches()) throw new SecurityException("not a caller assertion");
        PublicKey key = key(header.group(1));
        if (key == null) throw new SecurityException("unknown key");
        Signature signature = Signature.getInstance("Ed25519");
        signature.initVerify(key);
        signature.update((token.group(1) + "." + token.group(2)).getBytes(StandardCharsets.US_ASCII));
        if (!signature.verify(Base64.getUrlDecoder().decode(token.group(3)))) throw new SecurityException("signature");

        String claims = text(token.group(2));
        if (!FLAT_OBJECT.matcher(claims).matches()) throw new SecurityException("malformed");
        byte[] sum = MessageDigest.getInstance("SHA-256").digest(target.getBytes(StandardCharsets.ISO_8859_1));
        long now = seconds(), issued = number(claims, "iat"), expires = number(claims, "exp");
        if (!gateway.equals(string(claims, "iss"))) throw new SecurityException("another gateway");
        if (issued > now + SKEW || number(claims, "nbf") > now + SKEW || expires <= now - SKEW || expires > issued + LIFE) throw new SecurityException("time");
        if (!hosts.contains(string(claims, "aud")) || !string(claims, "aud").equals(host)) throw new SecurityException("another host");
        if (!string(claims, "method").equals(method)) throw new SecurityException("another method");
        if (!string(claims, "target_sha256").equals(Base64.getUrlEncoder().withoutPadding().encodeToString(sum))) throw new SecurityException("another path or query");
        if (!string(claims, "decision").equals("allowed")) throw new SecurityException("not allowed, only not enforced (report mode)");
        for (String name : List.of("route", "caller_app", "caller_space", "caller_org")) string(claims, name);
        once(string(claims, "jti"), now);
        return claims;
    }

    /** A member of the payload, which is one flat JSON object; use your JSON library if you have one. */
    public static String string(String claims, String name) { return member(claims, name, "\"([^\"\\\\]+)\""); }

    private static long number(String claims, String name) { return Long.parseLong(member(claims, name, "(\\d{1,18})")); }

    private static String member(String json, String name, String value) {
        Matcher found = Pattern.compile("[{,]\"" + name + "\":" + value + "[,}]").matcher(json);
        if (!found.find()) throw new SecurityException("no " + name);
        String first = found.group(1);
        if (found.find(found.end() - 1)) throw new SecurityException(name + " twice");
        return first;
    }

    private static String text(String base64) { return new String(Base64.getUrlDecoder().decode(base64), StandardCharsets.UTF_8); }

    private synchronized void once(String id, long now) {
        Iterator<Long> oldest = seen.values().iterator();
        while (oldest.hasNext() && oldest.next() <= now) oldest.remove();
        if (seen.size() >= REMEMBER || seen.putIfAbsent(id, now + LIFE + 2 * SKEW) != null) throw new SecurityException("used before, or too many");
    }

    // Fetched again every 5 minutes and for an unknown key, but at most every 10 s;
    // used for a day while that fails. Requests with a known key do not wait.
    private PublicKey key(String id) {
        PublicKey known = keys.get(id);
        if (known != null && seconds() - fetched <= 300) return known;
        if (known == null) fetching.lock();
        else if (!fetching.tryLock()) return known;
        try {
            if ((!keys.containsKey(id) || seconds() - fetched > 300) && seconds() >= next) {
                next = seconds() + 10;
                keys = fetch();
                fetched = seconds();
            }
        } catch (Exception away) {
            next = seconds() + 1;
        } finally {
            fetching.unlock();
        }
        return seconds() - fetched <= 86_400 ? keys.get(id) : null;
    }

    private static long seconds() { return System.currentTimeMillis() / 1000; }

    private Map<String, PublicKey> fetch() throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(gateway + "/.well-known/jwks.json")).timeout(Duration.ofSeconds(5)).build();
        HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) throw new SecurityException("keys: status " + response.statusCode());
        Map<String, PublicKey> found = new LinkedHashMap<>();
        Matcher jwk = FLAT_OBJECT.matcher(response.body());
        while (jwk.find()) {
            if (!string(jwk.group(), "crv").equals("Ed25519")) continue;
            byte[] x = Base64.getUrlDecoder().decode(string(jwk.group(), "x")), spki = new byte[44];
            System.arraycopy(ED25519_SPKI, 0, spki, 0, 12);
            System.arraycopy(x, 0, spki, 12, 32);
            found.put(string(jwk.group(), "kid"), KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(spki)));
        }
        return found;
    }
}
