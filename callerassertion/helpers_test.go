package callerassertion_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/gateway/assertion"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	host   = "backend.apps.identity"
	target = "/api/a%2Fb/x?q=1&r=%20"
	app    = "d76446a1-f429-4444-8797-be2f78b75b08"
	space  = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	org    = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
)

// world is a gateway's signer, its published keys over real TLS, and a clock.
type world struct {
	t      testing.TB
	signer *assertion.Signer
	// keys is what the gateway answers at its keys' path, after counting.
	keys    http.Handler
	fetches int
	server  *httptest.Server

	mu  sync.Mutex
	now time.Time
}

// noon is when most worlds begin, half a day from a change of keys.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world { return newWorldAt(t, noon) }

func newWorldAt(t testing.TB, now time.Time) *world {
	w := &world{t: t, now: now}
	mux := http.NewServeMux()
	mux.HandleFunc(callerassertion.KeysPath, func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.fetches++
		keys := w.keys
		w.mu.Unlock()
		keys.ServeHTTP(rw, r)
	})
	w.server = httptest.NewUnstartedServer(mux)
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests break connections on purpose
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	w.signer = assertion.New(assertion.Config{
		Issuer: w.server.URL, Log: slog.New(slog.DiscardHandler), Now: w.clock,
		Seed: func(_ context.Context, name string) ([]byte, error) { return seed(name), nil },
	})
	require.NoError(t, w.signer.Load(t.Context()))
	w.keys = w.signer
	return w
}

// seed stands for the store: the same bytes for the same name.
func seed(name string) []byte {
	sum := sha256.Sum256([]byte(name))
	return sum[:]
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass, in which the signer makes the keys that are due.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	require.NoError(w.t, w.signer.Load(w.t.Context()))
}

// serve changes what the gateway answers for its keys.
func (w *world) serve(keys http.Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = keys
}

func (w *world) fetched() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetches
}

func (w *world) verifier(change ...func(*callerassertion.Config)) *callerassertion.Verifier {
	cfg := callerassertion.Config{
		Gateway: w.server.URL, Hosts: []string{host}, Transport: w.server.Client().Transport, Now: w.clock,
	}
	for _, f := range change {
		f(&cfg)
	}
	v, err := callerassertion.New(cfg)
	require.NoError(w.t, err)
	return v
}

func asserted() assertion.Request {
	guid := func(s string) identity.GUID {
		g, err := identity.ParseGUID(s)
		if err != nil {
			panic(err)
		}
		return g
	}
	return assertion.Request{
		DecisionID: uuid.NewString(), Allowed: true, Method: http.MethodGet, Host: host, Target: target, Route: host,
		Caller: identity.Caller{Foundation: "local", App: guid(app), Space: guid(space), Org: guid(org), Instance: app},
	}
}

// token is the gateway's assertion of the usual request, changed.
func (w *world) token(change ...func(*assertion.Request)) string {
	r := asserted()
	for _, f := range change {
		f(&r)
	}
	token, err := w.signer.Sign(r)
	require.NoError(w.t, err)
	return token
}

// key is the gateway's present private key, as nobody but the gateway has it.
func (w *world) key() ed25519.PrivateKey {
	day := w.clock().UTC().Truncate(24 * time.Hour)
	return ed25519.NewKeyFromSeed(seed("caller-assertion-" + day.Format(time.RFC3339)))
}

func (w *world) keyID() string { return callerassertion.KeyID(w.key().Public().(ed25519.PublicKey)) }

func (w *world) header() map[string]any {
	return map[string]any{"typ": "mtls-authz-caller+jwt", "alg": "EdDSA", "kid": w.keyID()}
}

func (w *world) claims() map[string]any {
	now := w.clock().Unix()
	return map[string]any{
		"iss": w.server.URL, "aud": host, "iat": now, "nbf": now, "exp": now + 60, "jti": uuid.NewString(),
		"decision": "allowed", "method": "GET", "target_sha256": callerassertion.TargetHash(target), "route": host,
		"caller_app": app, "caller_space": space, "caller_org": org, "caller_instance": app,
	}
}

// forge signs any header and any claims, maps or JSON as text.
func forge(key ed25519.PrivateKey, header, claims any) string {
	signed := part(header) + "." + part(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

func part(v any) string {
	text, isText := v.(string)
	if !isText {
		text = ordered(v.(map[string]any))
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// ordered writes a header as the gateway does, so that only its content can be
// the reason of a refusal.
func ordered(m map[string]any) string {
	names := slices.DeleteFunc([]string{"typ", "alg", "kid"}, func(name string) bool { return m[name] == nil })
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var members []string
	for _, name := range names {
		value, err := json.Marshal(m[name])
		if err != nil {
			panic(err)
		}
		members = append(members, fmt.Sprintf("%q:%s", name, value))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// with is a map with one member changed; nil takes it away.
func with(m map[string]any, name string, value any) map[string]any {
	if m[name] = value; value == nil {
		delete(m, name)
	}
	return m
}

// presented is a request as the app's server receives it.
type presented struct {
	Method, Host, Target string
	Assertions           []string
}

func (p presented) request() *http.Request {
	return &http.Request{
		Method: p.Method, Host: p.Host, RequestURI: p.Target, Header: http.Header{callerassertion.Header: p.Assertions},
	}
}

func (w *world) verify(v *callerassertion.Verifier, token string) error {
	_, err := v.Verify(presented{http.MethodGet, host, target, []string{token}}.request())
	return err
}
