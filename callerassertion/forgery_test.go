package callerassertion_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/gateway/assertion"
)

// forgery is a request that must be refused. None of them relies on a fresh
// verifier: they are tried one after the other on one.
type forgery struct {
	name string
	presented
	want error
}

// forgeries are what the verifiers of every language must refuse.
func (w *world) forgeries() []forgery {
	stranger := ed25519.NewKeyFromSeed(make([]byte, 32))
	strangerID := callerassertion.KeyID(stranger.Public().(ed25519.PublicKey))
	good := strings.Split(w.token(), ".")
	header := func(name string, value any) string {
		return forge(w.key(), with(w.header(), name, value), w.claims())
	}
	claim := func(name string, value any) string {
		return forge(w.key(), w.header(), with(w.claims(), name, value))
	}
	now := w.clock().Unix()
	used := w.token()
	other := func(method, host, target string) presented {
		return presented{method, host, target, []string{w.token()}}
	}
	list := []forgery{
		{"none", presented{http.MethodGet, host, target, nil}, callerassertion.ErrMissing},
		{"two headers", presented{http.MethodGet, host, target, []string{w.token(), w.token()}}, callerassertion.ErrMalformed},
		{"another method", other(http.MethodPost, host, target), callerassertion.ErrRequest},
		{"HEAD for GET", other(http.MethodHead, host, target), callerassertion.ErrRequest},
		{"method in lower case", other("get", host, target), callerassertion.ErrRequest},
		{"another path", other(http.MethodGet, host, "/admin?q=1&r=%20"), callerassertion.ErrRequest},
		{"path decoded", other(http.MethodGet, host, "/api/a/b/x?q=1&r=%20"), callerassertion.ErrRequest},
		{"escape in lower case", other(http.MethodGet, host, "/api/a%2fb/x?q=1&r=%20"), callerassertion.ErrRequest},
		{"trailing slash", other(http.MethodGet, host, "/api/a%2Fb/x/?q=1&r=%20"), callerassertion.ErrRequest},
		{"absolute form", other(http.MethodGet, host, "http://"+host+target), callerassertion.ErrRequest},
		{"another query", other(http.MethodGet, host, "/api/a%2Fb/x?q=2&r=%20"), callerassertion.ErrRequest},
		{"query in another order", other(http.MethodGet, host, "/api/a%2Fb/x?r=%20&q=1"), callerassertion.ErrRequest},
		{"without its query", other(http.MethodGet, host, "/api/a%2Fb/x"), callerassertion.ErrRequest},
		{"query extended", other(http.MethodGet, host, target+"&"), callerassertion.ErrRequest},
		{"sent to another host", other(http.MethodGet, "other.apps.identity", target), callerassertion.ErrAudience},
		{"made for another host, sent to ours", presented{http.MethodGet, host, target, []string{w.token(func(r *assertion.Request) { r.Host = "other.apps.identity" })}}, callerassertion.ErrAudience},
		{"made for and sent to a host that is not the app's", presented{http.MethodGet, "other.apps.identity", target, []string{w.token(func(r *assertion.Request) { r.Host = "other.apps.identity" })}}, callerassertion.ErrAudience},
		{"used once", presented{http.MethodGet, host, target, []string{used}}, nil},
		{"replayed", presented{http.MethodGet, host, target, []string{used}}, callerassertion.ErrReplay},
		{"replayed in another text", presented{http.MethodGet, host, target, []string{forge(w.key(), w.header(), decoded(strings.Split(used, ".")[1]))}}, callerassertion.ErrReplay},
	}
	for name, token := range map[string]string{
		"empty": "", "dots": "..", "a bearer": "Bearer " + w.token(), "truncated": w.token()[:200],
		"without signature": good[0] + "." + good[1] + ".", "four parts": w.token() + ".x", "JSON serialization": `{"payload":"` + good[1] + `"}`,
		"padding": w.token() + "==", "padding inside": good[0] + "=." + good[1] + "." + good[2],
		"standard base64": base64.StdEncoding.EncodeToString([]byte("{}")) + "+/." + good[1] + "." + good[2],
		"space inside":    good[0] + " ." + good[1] + "." + good[2], "two in one header": w.token() + "," + w.token(),
		"huge": w.token() + strings.Repeat("A", 1<<20), "huge header": forge(w.key(), with(w.header(), "x", strings.Repeat("a", 8<<10)), w.claims()),
		"line break inside":     good[0] + "\n." + good[1] + "." + good[2],
		"header is an array":    forge(w.key(), `[]`, w.claims()),
		"header is not JSON":    forge(w.key(), `{"typ"`, w.claims()),
		"header goes on":        forge(w.key(), decoded(good[0])+`{}`, w.claims()),
		"alg none":              part(with(w.header(), "alg", "none")) + "." + good[1] + ".",
		"alg none, signed":      header("alg", "none"),
		"HS256 with the key":    hs256(w, w.key().Public().(ed25519.PublicKey)),
		"ES256":                 header("alg", "ES256"),
		"alg in lower case":     header("alg", "eddsa"),
		"no alg":                header("alg", nil),
		"typ JWT":               header("typ", "JWT"),
		"no typ":                header("typ", nil),
		"typ of access tokens":  header("typ", "at+jwt"),
		"no kid":                header("kid", nil),
		"kid is a number":       header("kid", 1),
		"crit":                  header("crit", []string{"x"}),
		"crit b64":              forge(w.key(), with(with(w.header(), "b64", false), "crit", []string{"b64"}), w.claims()),
		"kid twice":             forge(w.key(), `{"typ":"mtls-authz-caller+jwt","alg":"EdDSA","kid":"`+strangerID+`","kid":"`+w.keyID()+`"}`, w.claims()),
		"alg twice":             forge(w.key(), `{"typ":"mtls-authz-caller+jwt","alg":"none","alg":"EdDSA","kid":"`+w.keyID()+`"}`, w.claims()),
		"member names in upper": forge(w.key(), `{"TYP":"mtls-authz-caller+jwt","ALG":"EdDSA","KID":"`+w.keyID()+`"}`, w.claims()),
	} {
		list = append(list, forgery{name, presented{http.MethodGet, host, target, []string{token}}, callerassertion.ErrMalformed})
	}
	for name, row := range map[string]struct {
		token string
		want  error
	}{
		"unknown key":                    {forge(stranger, with(w.header(), "kid", strangerID), w.claims()), callerassertion.ErrUnknownKey},
		"kid of another shape":           {header("kid", "../../etc/passwd"), callerassertion.ErrUnknownKey},
		"key in the header":              {forge(stranger, with(with(w.header(), "kid", strangerID), "jwk", map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(stranger.Public().(ed25519.PublicKey))}), w.claims()), callerassertion.ErrUnknownKey},
		"another key under our name":     {forge(stranger, w.header(), w.claims()), callerassertion.ErrSignature},
		"signature of another":           {good[0] + "." + part(w.claims()) + "." + good[2], callerassertion.ErrSignature},
		"header exchanged":               {part(with(w.header(), "x", 1)) + "." + good[1] + "." + good[2], callerassertion.ErrSignature},
		"signature of zeros":             {good[0] + "." + good[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), callerassertion.ErrSignature},
		"signature too short":            {good[0] + "." + good[1] + "." + good[2][:40], callerassertion.ErrMalformed},
		"signature too long":             {good[0] + "." + good[1] + "." + good[2][:84] + "AAAA", callerassertion.ErrMalformed},
		"another gateway":                {claim("iss", "https://evil.example.com"), callerassertion.ErrIssuer},
		"no issuer":                      {claim("iss", nil), callerassertion.ErrIssuer},
		"expired":                        {forge(w.key(), w.header(), with(with(with(w.claims(), "iat", now-3600), "nbf", now-3600), "exp", now-3540)), callerassertion.ErrTime},
		"not valid yet":                  {forge(w.key(), w.header(), with(with(with(w.claims(), "iat", now+3600), "nbf", now+3600), "exp", now+3660)), callerassertion.ErrTime},
		"iat later":                      {forge(w.key(), w.header(), with(with(w.claims(), "iat", now+3600), "exp", now+3600)), callerassertion.ErrTime},
		"nbf later":                      {claim("nbf", now+3600), callerassertion.ErrTime},
		"valid for long":                 {claim("exp", now+3600), callerassertion.ErrTime},
		"valid for ever":                 {claim("exp", int64(1)<<62), callerassertion.ErrTime},
		"no exp":                         {claim("exp", nil), callerassertion.ErrTime},
		"no nbf":                         {claim("nbf", nil), callerassertion.ErrTime},
		"no iat":                         {claim("iat", nil), callerassertion.ErrTime},
		"no audience":                    {claim("aud", nil), callerassertion.ErrAudience},
		"audience in upper case":         {claim("aud", strings.ToUpper(host)), callerassertion.ErrAudience},
		"no method":                      {claim("method", nil), callerassertion.ErrRequest},
		"no target":                      {claim("target_sha256", nil), callerassertion.ErrRequest},
		"report mode":                    {w.token(func(r *assertion.Request) { r.Allowed = false }), callerassertion.ErrNotAllowed},
		"exp is text":                    {claim("exp", "9999999999"), callerassertion.ErrMalformed},
		"list of audiences":              {claim("aud", []string{host, "other.apps.identity"}), callerassertion.ErrMalformed},
		"no decision":                    {claim("decision", nil), callerassertion.ErrMalformed},
		"decision of another word":       {claim("decision", "denied"), callerassertion.ErrMalformed},
		"no jti":                         {claim("jti", nil), callerassertion.ErrMalformed},
		"no caller":                      {claim("caller_app", nil), callerassertion.ErrMalformed},
		"empty space":                    {claim("caller_space", ""), callerassertion.ErrMalformed},
		"claims are null":                {forge(w.key(), w.header(), `null`), callerassertion.ErrMalformed},
		"claims are not JSON":            {forge(w.key(), w.header(), `Example of Ed25519 signing`), callerassertion.ErrMalformed},
		"audience twice":                 {forge(w.key(), w.header(), strings.Replace(decoded(part(w.claims())), `{`, `{"aud":"other.apps.identity",`, 1)), callerassertion.ErrMalformed},
		"claims with something after it": {forge(w.key(), w.header(), decoded(part(w.claims()))+` {}`), callerassertion.ErrMalformed},
	} {
		list = append(list, forgery{name, presented{http.MethodGet, host, target, []string{row.token}}, row.want})
	}
	return list
}

func decoded(encoded string) string {
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// hs256 is the confusion of algorithms: the public key as an HMAC's secret.
func hs256(w *world, secret []byte) string {
	signed := part(with(w.header(), "alg", "HS256")) + "." + part(w.claims())
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func TestForgedAssertionsAreRefused(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	for _, row := range w.forgeries() {
		t.Run(row.name, func(t *testing.T) {
			claims, err := v.Verify(row.request())
			if row.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, row.want)
			assert.Zero(t, claims)
		})
	}
}

func TestEveryBitCounts(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	token := w.token()
	for i := range token {
		for _, c := range []byte{token[i] ^ 1, token[i] ^ 4, 'A', '=', '.', '\n', 0} {
			if forged := token[:i] + string(c) + token[i+1:]; forged != token {
				require.Error(t, w.verify(v, forged), "position %d: %q", i, c)
			}
		}
	}
	require.NoError(t, w.verify(v, token), "none of them used it up")
}

func TestGenuineAssertion(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	claims, err := v.Verify(presented{http.MethodGet, host, target, []string{w.token(func(r *assertion.Request) { r.DecisionID = "id" })}}.request())
	require.NoError(t, err)
	now := w.clock().Unix()
	assert.Equal(t, callerassertion.Claims{
		Issuer: w.server.URL, Audience: host, IssuedAt: now, NotBefore: now, Expires: now + 60, DecisionID: "id", Decision: "allowed",
		Method: "GET", TargetSHA256: callerassertion.TargetHash(target), Route: host,
		CallerApp: app, CallerSpace: space, CallerOrg: org, CallerInstance: app,
	}, claims)
	require.NoError(t, w.verify(v, forge(w.key(), with(w.header(), "jku", "https://evil.example.com/keys"), with(w.claims(), "later", []int{1}))),
		"further members have no meaning")
}
