package assertion_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/assertion"
	"github.com/mtls-authz/mtls-authz/identity"
)

const (
	app   = "d76446a1-f429-4444-8797-be2f78b75b08"
	space = "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3"
	org   = "6e424e4e-5e46-419a-9cb6-eac9de2794e8"
)

var errAway = errors.New("the database is away")

// seeds is a store that several gateways share.
type seeds struct {
	mu   sync.Mutex
	made map[string][]byte
	asks int
	away bool
}

func (s *seeds) Seed(_ context.Context, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	if s.away {
		return nil, errAway
	}
	if s.made == nil {
		s.made = map[string][]byte{}
	}
	if s.made[name] == nil {
		s.made[name] = make([]byte, 32)
		rand.Read(s.made[name])
	}
	return s.made[name], nil
}

func (s *seeds) leave(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *seeds) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.made))
}

// gateway is a signer with a clock of its own.
type gateway struct {
	*assertion.Signer
	mu  sync.Mutex
	now time.Time
}

func newGateway(store *seeds, now string) *gateway {
	g := &gateway{now: at(now)}
	g.Signer = assertion.New(assertion.Config{Issuer: "https://gateway.example.com", Seed: store.Seed, Log: slog.New(slog.DiscardHandler), Now: func() time.Time {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.now
	}})
	return g
}

func (g *gateway) set(now string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now = at(now)
}

func at(text string) time.Time {
	t, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		panic(err)
	}
	return t
}

func request() assertion.Request {
	guid := func(s string) identity.GUID {
		g, err := identity.ParseGUID(s)
		if err != nil {
			panic(err)
		}
		return g
	}
	return assertion.Request{
		DecisionID: "0b9bd3b4-4f9e-4d0e-8a41-6d2ca1a0c2d5", Allowed: true, Method: "GET", Host: "backend.apps.identity", Target: "/api?q=1", Route: "backend.apps.identity/api",
		Caller: identity.Caller{Foundation: "local", App: guid(app), Space: guid(space), Org: guid(org), Instance: "6c9f4a8e-3f8c-4e0f-6a8c-1f2b"},
	}
}

// keyOf returns the kid of an assertion.
func keyOf(t testing.TB, token string) string {
	t.Helper()
	header, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	require.NoError(t, err)
	var h map[string]string
	require.NoError(t, json.Unmarshal(text, &h))
	return h["kid"]
}

// sign returns the kid that a gateway signs with now.
func (g *gateway) sign(t testing.TB) string {
	t.Helper()
	token, err := g.Sign(request())
	require.NoError(t, err)
	return keyOf(t, token)
}

type jwk map[string]string

func (g *gateway) published(t testing.TB) (keys []jwk) {
	t.Helper()
	answer := httptest.NewRecorder()
	g.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	var set map[string][]jwk
	require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &set))
	require.Len(t, set, 1)
	return set["keys"]
}

func (g *gateway) kids(t testing.TB) (kids []string) {
	for _, k := range g.published(t) {
		kids = append(kids, k["kid"])
	}
	return kids
}

func TestTheAssertionByteForByte(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-04 12:00:00")
	require.NoError(t, g.Load(t.Context()))
	token, err := g.Sign(request())
	require.NoError(t, err)
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	require.NoError(t, err)
	assert.Equal(t, `{"typ":"mtls-authz-caller+jwt","alg":"EdDSA","kid":"`+g.kids(t)[0]+`"}`, string(header))
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	want := `{"iss":"https://gateway.example.com","aud":"backend.apps.identity","iat":1777896000,"nbf":1777896000,"exp":1777896060,` +
		`"jti":"0b9bd3b4-4f9e-4d0e-8a41-6d2ca1a0c2d5","decision":"allowed","method":"GET","target_sha256":"h75uTcqUKWRQcxTa3xVnT5WdA-BwLD_G7AxyHM5HTs0",` +
		`"route":"backend.apps.identity/api","caller_app":"` + app + `","caller_space":"` + space + `","caller_org":"` + org + `","caller_instance":"6c9f4a8e-3f8c-4e0f-6a8c-1f2b"}`
	assert.Equal(t, want, string(payload))

	report := request()
	report.Allowed, report.Caller.Instance = false, ""
	token, err = g.Sign(report)
	require.NoError(t, err)
	payload, err = base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	require.NoError(t, err)
	assert.Contains(t, string(payload), `"decision":"not_enforced"`)
	assert.NotContains(t, string(payload), "caller_instance")
}

func TestNothingIsAssertedOfNobody(t *testing.T) {
	g := newGateway(&seeds{}, "2026-05-04 12:00:00")
	require.NoError(t, g.Load(t.Context()))
	for name, change := range map[string]func(*assertion.Request){
		"no caller":         func(r *assertion.Request) { r.Caller = identity.Caller{} },
		"no app":            func(r *assertion.Request) { r.Caller.App = identity.GUID{} },
		"no space":          func(r *assertion.Request) { r.Caller.Space = identity.GUID{} },
		"no org":            func(r *assertion.Request) { r.Caller.Org = identity.GUID{} },
		"no decision":       func(r *assertion.Request) { r.DecisionID = "" },
		"no method":         func(r *assertion.Request) { r.Method = "" },
		"no host":           func(r *assertion.Request) { r.Host = "" },
		"no route":          func(r *assertion.Request) { r.Route = "" },
		"no target":         func(r *assertion.Request) { r.Target = "" },
		"target not a path": func(r *assertion.Request) { r.Target = "https://backend.apps.identity/api" },
		"too long":          func(r *assertion.Request) { r.Method = strings.Repeat("A", 4096) },
	} {
		r := request()
		change(&r)
		token, err := g.Sign(r)
		assert.ErrorIs(t, err, assertion.ErrRequest, name)
		assert.Empty(t, token, name)
	}
	long := request()
	long.Target = "/" + strings.Repeat("a", 16<<10)
	_, err := g.Sign(long)
	assert.NoError(t, err, "a long path makes no longer assertion")
}

// The key pair (A.1, A.2), thumbprint (A.3) and signature (A.4) of RFC 8037.
func TestRFC8037(t *testing.T) {
	decode := func(text string) []byte {
		decoded, err := base64.RawURLEncoding.DecodeString(text)
		require.NoError(t, err)
		return decoded
	}
	store := &seeds{made: map[string][]byte{"caller-assertion-2026-05-04T00:00:00Z": decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")}}
	g := newGateway(store, "2026-05-04 12:00:00")
	require.NoError(t, g.Load(t.Context()))
	key := g.published(t)[0]
	assert.Equal(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", key["x"])
	assert.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", key["kid"])
	public := ed25519.PublicKey(decode(key["x"]))
	assert.True(t, ed25519.Verify(public, []byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"),
		decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")))
	token, err := g.Sign(request())
	require.NoError(t, err)
	dot := strings.LastIndexByte(token, '.')
	assert.True(t, ed25519.Verify(public, []byte(token[:dot]), decode(token[dot+1:])))
}

func TestOneKeyADayHoweverManyGateways(t *testing.T) {
	store := &seeds{}
	gateways := make([]*gateway, 8)
	var starting sync.WaitGroup
	for i := range gateways {
		gateways[i] = newGateway(store, "2026-05-04 12:00:00")
		starting.Go(func() { assert.NoError(t, gateways[i].Load(t.Context())) })
	}
	starting.Wait()
	assert.Equal(t, []string{"caller-assertion-2026-05-04T00:00:00Z", "caller-assertion-2026-05-05T00:00:00Z"}, store.names())
	for _, g := range gateways {
		assert.Equal(t, gateways[0].kids(t), g.kids(t))
		assert.Equal(t, gateways[0].sign(t), g.sign(t))
	}
}

func TestAKeyIsPublishedLongBeforeAndABitAfterItSigns(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-03 23:00:00")
	require.NoError(t, g.Load(t.Context()))
	third := g.sign(t)
	fourth := g.kids(t)[1]
	for _, row := range []struct {
		now       string
		signs     string
		published []string // of the two
		count     int
	}{
		{"2026-05-03 23:59:59", third, []string{third, fourth}, 2},
		{"2026-05-04 00:00:00", fourth, []string{third, fourth}, 3},
		{"2026-05-04 00:09:59", fourth, []string{third, fourth}, 3},
		{"2026-05-04 00:10:00", fourth, []string{fourth}, 2},
		{"2026-05-04 23:59:59", fourth, []string{fourth}, 2},
		{"2026-05-05 00:09:59", "", []string{fourth}, 3},
		{"2026-05-05 00:10:00", "", nil, 2},
	} {
		g.set(row.now)
		require.NoError(t, g.Load(t.Context()))
		kids := g.kids(t)
		assert.Len(t, kids, row.count, row.now)
		assert.Subset(t, kids, row.published, row.now)
		assert.Equal(t, slices.Contains(row.published, third), slices.Contains(kids, third), row.now)
		assert.Equal(t, slices.Contains(row.published, fourth), slices.Contains(kids, fourth), row.now)
		assert.Contains(t, kids, g.sign(t), "what signs is published")
		if row.signs != "" {
			assert.Equal(t, row.signs, g.sign(t), row.now)
		}
	}
}

// Whatever one gateway signs, every other publishes, as long as their clocks
// differ by less than the overlap; also when one starts in the middle.
func TestGatewaysWithDifferentClocksPublishEachOthersKeys(t *testing.T) {
	store := &seeds{}
	ahead, behind := newGateway(store, "2026-05-04 23:59:00"), newGateway(store, "2026-05-04 23:50:00")
	for _, now := range [][2]string{
		{"2026-05-04 23:59:00", "2026-05-04 23:50:00"},
		{"2026-05-05 00:00:00", "2026-05-04 23:51:00"},
		{"2026-05-05 00:09:59", "2026-05-04 23:59:59"},
		{"2026-05-05 00:09:59", "2026-05-05 00:00:00"},
		{"2026-05-05 00:19:59", "2026-05-05 00:10:00"},
	} {
		ahead.set(now[0])
		behind.set(now[1])
		late := newGateway(store, now[0])
		for _, g := range []*gateway{ahead, behind, late} {
			require.NoError(t, g.Load(t.Context()))
		}
		for _, signs := range []*gateway{ahead, behind, late} {
			for _, publishes := range []*gateway{ahead, behind, late} {
				assert.Contains(t, publishes.kids(t), signs.sign(t), "%v", now)
			}
		}
	}
}

func TestTheClockMayStepBack(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-04 23:59:59")
	require.NoError(t, g.Load(t.Context()))
	before := g.sign(t)
	g.set("2026-05-05 00:00:01")
	require.NoError(t, g.Load(t.Context()))
	after := g.sign(t)
	require.NotEqual(t, before, after)
	g.set("2026-05-04 23:59:58")
	assert.Equal(t, before, g.sign(t), "without asking the store")
	g.set("2031-01-01 00:00:00")
	require.NoError(t, g.Load(t.Context()))
	g.set("2026-05-05 00:00:02")
	require.NoError(t, g.Load(t.Context()))
	assert.Equal(t, after, g.sign(t), "a year that never was changes nothing")
}

func TestWithoutTheStore(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-04 12:00:00")
	_, err := g.Sign(request())
	require.ErrorIs(t, err, assertion.ErrNoKey, "before Load")
	answer := httptest.NewRecorder()
	g.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Equal(t, http.StatusServiceUnavailable, answer.Code, "no empty set that caches would keep")
	assert.Equal(t, "no-store", answer.Header().Get("Cache-Control"))

	require.NoError(t, g.Load(t.Context()))
	store.leave(true)
	g.set("2026-05-05 23:59:59")
	require.ErrorIs(t, g.Load(t.Context()), errAway)
	assert.Contains(t, g.kids(t), g.sign(t), "the key of the day was known the day before")
	g.set("2026-05-06 00:00:00")
	require.ErrorIs(t, g.Load(t.Context()), errAway)
	_, err = g.Sign(request())
	require.ErrorIs(t, err, assertion.ErrNoKey, "a key does not sign after its time")
	store.leave(false)
	require.NoError(t, g.Load(t.Context()))
	assert.Contains(t, g.kids(t), g.sign(t))
}

func TestADamagedSeedDamagesNoOtherDay(t *testing.T) {
	store := &seeds{made: map[string][]byte{"caller-assertion-2026-05-05T00:00:00Z": []byte("short")}}
	g := newGateway(store, "2026-05-04 12:00:00")
	require.ErrorContains(t, g.Load(t.Context()), `seed "caller-assertion-2026-05-05T00:00:00Z": 5 bytes`, "said a day before it is needed")
	g.sign(t)
}

func TestRunLoadsAndEnds(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-04 12:00:00")
	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	require.Eventually(t, func() bool { _, err := g.Sign(request()); return err == nil }, 5*time.Second, time.Millisecond)
	require.NoError(t, g.Load(ctx))
	assert.Equal(t, 2, store.asks, "what is known is not asked for again")
	end()
	running.Wait()
}

func TestPublishedKeys(t *testing.T) {
	store := &seeds{}
	g := newGateway(store, "2026-05-04 12:00:00")
	require.NoError(t, g.Load(t.Context()))
	keys := g.published(t)
	require.Len(t, keys, 2)
	for _, k := range keys {
		assert.ElementsMatch(t, []string{"kty", "crv", "x", "kid", "use", "alg"}, slices.Collect(maps.Keys(k)), "no private part")
		assert.Equal(t, []string{"OKP", "Ed25519", "sig", "EdDSA"}, []string{k["kty"], k["crv"], k["use"], k["alg"]})
	}
	answer := func(method, match string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, "/.well-known/jwks.json", nil)
		r.Header.Set("If-None-Match", match)
		recorder := httptest.NewRecorder()
		g.ServeHTTP(recorder, r)
		return recorder
	}
	get := answer(http.MethodGet, "")
	assert.Equal(t, "public, max-age=300", get.Header().Get("Cache-Control"))
	assert.Equal(t, "application/jwk-set+json", get.Header().Get("Content-Type"))
	for _, seed := range store.made {
		assert.NotContains(t, get.Body.String(), base64.RawURLEncoding.EncodeToString(seed))
		public, _ := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		assert.Contains(t, get.Body.String(), base64.RawURLEncoding.EncodeToString(public))
	}
	etag := get.Header().Get("Etag")
	assert.Equal(t, http.StatusNotModified, answer(http.MethodGet, etag).Code)
	head := answer(http.MethodHead, "")
	assert.Equal(t, http.StatusOK, head.Code)
	assert.Empty(t, head.Body.String())
	assert.Equal(t, http.StatusMethodNotAllowed, answer(http.MethodPost, "").Code)
	g.set("2026-05-05 12:00:00")
	require.NoError(t, g.Load(t.Context()))
	assert.Equal(t, http.StatusOK, answer(http.MethodGet, etag).Code, "other keys, another tag")
}

func BenchmarkSign(b *testing.B) {
	g := newGateway(&seeds{}, "2026-05-04 12:00:00")
	require.NoError(b, g.Load(b.Context()))
	r := request()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Sign(r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJWKS(b *testing.B) {
	g := newGateway(&seeds{}, "2026-05-04 12:00:00")
	require.NoError(b, g.Load(b.Context()))
	r := httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil)
	b.ReportAllocs()
	for b.Loop() {
		g.ServeHTTP(httptest.NewRecorder(), r)
	}
}
