package authorities_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/authorities"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/store"
	"github.com/mtls-authz/mtls-authz/store/board"
)

var (
	gateway = ca.Identity{
		App: "0b7d4a8c-3b9e-4a43-9d3f-8a2c7f1f5e11", Space: "6755b19d-c543-4e0c-a4b3-cd6e7c9c68a3",
		Org: "6e424e4e-5e46-419a-9cb6-eac9de2794e8", Instance: "gateway-1",
	}
	frontend = ca.Identity{
		App: "d76446a1-f429-4444-8797-be2f78b75b08", Space: "11111111-c543-4e0c-a4b3-cd6e7c9c68a3",
		Org: "6e424e4e-5e46-419a-9cb6-eac9de2794e8", Instance: "frontend-1",
	}
)

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a foundation's CA and the database that the gateways share.
type world struct {
	*testing.T
	*clock
	root  *ca.Authority
	store *store.Store
}

func newWorld(t *testing.T) *world {
	root, err := ca.NewRoot("appRootCA")
	require.NoError(t, err)
	w := &world{T: t, clock: &clock{now: time.Now()}, root: root}
	w.store, err = store.Open(t.Context(), store.Config{URL: "sqlite://" + filepath.Join(t.TempDir(), "state.db"), Now: w.Now})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.store.Close() })
	return w
}

// issuer is an instance identity CA of the foundation.
func (w *world) issuer() *ca.Authority {
	w.Helper()
	one, err := w.root.Intermediate("instanceIdentityCA")
	require.NoError(w, err)
	return one
}

func credential(t *testing.T, issuer *ca.Authority, id ca.Identity, options ...ca.Option) *ca.Credential {
	t.Helper()
	one, err := issuer.Instance(id, options...)
	require.NoError(t, err)
	return one
}

// instance is one gateway.
type instance struct {
	*authorities.Authorities
	t        *testing.T
	dir      string
	said     *said
	registry *prometheus.Registry
	board    authorities.Board
}

// said is a log.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start starts a gateway whose certificate is of an issuer, and which has looked
// at the board once.
func (w *world) start(issuer *ca.Authority, edits ...func(*settings.Settings)) *instance {
	w.Helper()
	return w.startAs(credential(w.T, issuer, gateway), w.store.Board(), edits...)
}

func (w *world) startAs(own *ca.Credential, b authorities.Board, edits ...func(*settings.Settings)) *instance {
	w.Helper()
	i := &instance{t: w.T, dir: w.TempDir(), said: &said{}, registry: prometheus.NewRegistry(), board: b}
	cert, key, err := own.WriteFiles(i.dir)
	require.NoError(w, err)
	s := &settings.Settings{FoundationName: "local", InstanceCert: identity.File(cert), InstanceKey: identity.File(key)}
	for _, edit := range edits {
		edit(s)
	}
	i.Authorities, err = authorities.New(authorities.Config{
		Settings: s, Log: slog.New(slog.NewTextHandler(i.said, nil)), Metrics: i.registry, Interval: 5 * time.Millisecond, Now: w.Now,
	})
	require.NoError(w, err)
	i.Share(w.Context(), b)
	return i
}

// run follows files and board until the test ends.
func (i *instance) run() *instance {
	ctx, stop := context.WithCancel(i.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); i.Run(ctx) }()
	i.t.Cleanup(func() { stop(); <-ended })
	return i
}

// believes reports whether callers of a CA are verified.
func (i *instance) believes(issuer *ca.Authority) bool {
	i.t.Helper()
	caller, err := i.Verifier().Verify([]string{credential(i.t, issuer, frontend).XFCC()}, identity.Raw)
	if err != nil {
		require.ErrorIs(i.t, err, identity.ErrUntrustedCertificate)
		require.True(i.t, caller.IsZero())
	}
	return err == nil
}

func (i *instance) eventually(what string, condition func() bool) {
	i.t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		require.True(i.t, time.Now().Before(end), "awaited: %s; said:\n%s", what, i.said)
	}
}

// measured are the ends of CAs as the metric says, by fingerprint.
func (i *instance) measured() map[string]time.Time {
	families, err := i.registry.Gather()
	require.NoError(i.t, err)
	require.Len(i.t, families, 1)
	require.Equal(i.t, "mtls_authz_caller_authority_not_after_timestamp_seconds", families[0].GetName())
	all := map[string]time.Time{}
	for _, one := range families[0].GetMetric() {
		all[one.GetLabel()[0].GetValue()] = time.Unix(int64(one.GetGauge().GetValue()), 0).UTC()
	}
	return all
}

// callers are the CAs that operators see, by fingerprint.
func (i *instance) callers() map[string]map[string]any {
	text, err := json.Marshal(i.Report())
	require.NoError(i.t, err)
	var report struct {
		Callers []map[string]any
	}
	require.NoError(i.t, json.Unmarshal(text, &report))
	all := map[string]map[string]any{}
	for _, one := range report.Callers {
		all[one["fingerprint"].(string)] = one
	}
	return all
}

func TestEachSiblingBelievesTheIssuersOfAll(t *testing.T) {
	w := newWorld(t)
	old, next := w.issuer(), w.issuer()
	first := w.start(old).run()
	require.True(t, first.believes(old))
	require.False(t, first.believes(next))

	second := w.start(next)
	assert.True(t, second.believes(next))
	assert.True(t, second.believes(old), "before it serves")
	first.eventually("the issuer of its sibling", func() bool { return first.believes(next) })
	assert.True(t, first.believes(old))

	seen := second.callers()
	require.Len(t, seen, 2)
	one := seen[fingerprint(old)]
	assert.Equal(t, "sibling", one["origin"])
	assert.Equal(t, gateway.Instance, one["instance"])
	assert.Equal(t, "CN=instanceIdentityCA", one["subject"])
	assert.Equal(t, old.Certificate().NotAfter.UTC().Format(time.RFC3339), one["not_after"])
	assert.Equal(t, "CF_INSTANCE_CERT", seen[fingerprint(next)]["origin"])
	assert.Equal(t, map[string]time.Time{
		fingerprint(old): old.Certificate().NotAfter.UTC(), fingerprint(next): next.Certificate().NotAfter.UTC(),
	}, second.measured())
	assert.Equal(t, 2, strings.Count(second.said.String(), "caller CA trusted"))
	assert.Contains(t, second.said.String(), fingerprint(old))
}

// The last instance of the old issuer is gone, its callers are not.
func TestAnIssuerIsBelievedUntilItsEnd(t *testing.T) {
	w := newWorld(t)
	old, next := w.issuer(), w.issuer()
	w.start(old)
	second := w.start(next).run()
	require.True(t, second.believes(old))

	w.add(time.Until(old.Certificate().NotAfter) + time.Minute)
	second.eventually("the end", func() bool { return len(second.callers()) == 1 })
	assert.Contains(t, second.said.String(), "caller CA not trusted any more")
	assert.NotContains(t, second.measured(), fingerprint(old))
}

// An operator takes a CA from the board: what it has verified is forgotten, too.
func TestAnIssuerThatIsRemovedIsBelievedNoMore(t *testing.T) {
	w := newWorld(t)
	old, next := w.issuer(), w.issuer()
	w.start(old)
	second := w.start(next).run()
	remembered := []string{credential(t, old, frontend).XFCC()}
	_, err := second.Verifier().Verify(remembered, identity.Raw)
	require.NoError(t, err)

	w.remove(old)
	second.eventually("the end", func() bool { return !second.believes(old) })
	_, err = second.Verifier().Verify(remembered, identity.Raw)
	require.ErrorIs(t, err, identity.ErrUntrustedCertificate)
	assert.True(t, second.believes(next))

	t.Run("but for its own, which it posts again", func(t *testing.T) {
		w.remove(next)
		third := w.start(old).run()
		third.eventually("the sibling's", func() bool { return third.believes(next) })
		assert.True(t, second.believes(next))
	})
}

// remove ends a note as if an operator had deleted it.
func (w *world) remove(issuer *ca.Authority) {
	w.Helper()
	w.add(time.Second)
	w.post(board.Note{Name: fingerprint(issuer), At: w.Now(), Until: w.Now()})
}

func (w *world) post(note board.Note) {
	w.Helper()
	require.NoError(w, w.store.Board().Post(w.Context(), "caller-authority", note))
}

// proof is a note as an instance posts it.
func (w *world) proof(issuer *ca.Authority, leaf *ca.Credential) board.Note {
	return board.Note{Name: fingerprint(issuer), Value: string(leaf.CertPEM()), At: w.Now(), Until: w.Now().Add(time.Hour)}
}

// Whoever writes on the board must show a certificate by which the CA lets a
// gateway of this space be a caller.
func TestWhatIsNotBelieved(t *testing.T) {
	w := newWorld(t)
	evil, other := w.issuer(), w.issuer()
	good := credential(t, evil, gateway)
	with := func(edit func(*x509.Certificate)) string {
		return string(credential(t, evil, gateway, ca.With(edit)).CertPEM())
	}
	as := func(id ca.Identity) string { return string(credential(t, evil, id).CertPEM()) }
	elsewhere, emigrated := gateway, gateway
	elsewhere.Space, emigrated.Org = frontend.Space, frontend.Space
	file := filepath.Join(t.TempDir(), "instance.crt")
	require.NoError(t, os.WriteFile(file, good.CertPEM(), 0o600))
	leaf := leafPEM(good)
	cases := map[string]func(*board.Note){
		"nothing":             func(n *board.Note) { n.Value = "" },
		"the name of a file":  func(n *board.Note) { n.Value = file },
		"the CA alone":        func(n *board.Note) { n.Value = string(evil.PEM()) },
		"the leaf alone":      func(n *board.Note) { n.Value = leaf },
		"the other way round": func(n *board.Note) { n.Value = string(evil.PEM()) + leaf },
		"a leaf of another CA": func(n *board.Note) {
			n.Value = leafPEM(credential(t, other, gateway)) + string(evil.PEM())
		},
		"another CA behind":          func(n *board.Note) { n.Value += string(other.PEM()) },
		"a key behind":               func(n *board.Note) { n.Value += string(good.KeyPEM()) },
		"under another's name":       func(n *board.Note) { n.Name = fingerprint(other) },
		"under no name":              func(n *board.Note) { n.Name = "" },
		"a gateway of another space": func(n *board.Note) { n.Value = as(elsewhere) },
		"a gateway of another org":   func(n *board.Note) { n.Value = as(emigrated) },
		"a leaf that is a CA": func(n *board.Note) {
			n.Value = with(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
		},
		"a leaf that is for servers": func(n *board.Note) { n.Value = with(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }) },
		"a leaf that names two apps": func(n *board.Note) {
			n.Value = with(func(c *x509.Certificate) {
				c.Subject.OrganizationalUnit = append(c.Subject.OrganizationalUnit, "app:"+frontend.App)
			})
		},
		"a leaf that names nobody": func(n *board.Note) { n.Value = with(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = nil }) },
		"a leaf from before its issuer": func(n *board.Note) {
			n.Value = with(func(c *x509.Certificate) { c.NotBefore = c.NotBefore.AddDate(-1, 0, 0) })
		},
		"a leaf with a critical extension": func(n *board.Note) { n.Value = with(func(c *x509.Certificate) { c.ExtraExtensions = critical }) },
	}
	for name, forge := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			note := w.proof(evil, good)
			forge(&note)
			w.post(note)
			i := w.start(w.issuer())
			assert.False(t, i.believes(evil))
			assert.False(t, i.believes(other))
			assert.Contains(t, i.said.String(), "caller CAs of siblings")
			assert.NotContains(t, i.said.String(), "-----BEGIN")
			assert.Less(t, len(i.said.String()), 4<<10)
		})
	}
	t.Run("to show that the others could be", func(t *testing.T) {
		w := newWorld(t)
		w.post(w.proof(evil, good))
		assert.True(t, w.start(w.issuer()).believes(evil))
	})
}

// A CA with the right name and another key is another CA.
func TestACAOfTheSameNameIsAnother(t *testing.T) {
	w := newWorld(t)
	own, twin := w.issuer(), w.issuer()
	require.Equal(t, own.Certificate().RawSubject, twin.Certificate().RawSubject)
	assert.False(t, w.start(own).believes(twin))
}

func TestTheBoardIsReadOnlySoFar(t *testing.T) {
	w := newWorld(t)
	var all []*ca.Authority
	for range 22 {
		one := w.issuer()
		all = append(all, one)
		w.post(w.proof(one, credential(t, one, gateway)))
		w.add(time.Second)
	}
	own := w.issuer()
	i := w.start(own)
	assert.Len(t, i.callers(), 21)
	assert.True(t, i.believes(own))
	for n, one := range all {
		assert.Equal(t, n >= 2, i.believes(one), n)
	}
	assert.Contains(t, i.said.String(), "there are more than 20")
	assert.True(t, w.start(w.issuer()).believes(own), "what is in use is the newest")

	t.Run("and what is refused costs little", func(t *testing.T) {
		for range 150 {
			w.add(time.Second)
			w.post(board.Note{Name: w.Now().String(), Value: "x", At: w.Now(), Until: w.Now().Add(time.Hour)})
		}
		i := w.start(own)
		assert.True(t, i.believes(own))
		assert.Less(t, len(i.said.String()), 4<<10)
	})
}

// forbidden is a board that nobody may touch.
type forbidden struct{ t *testing.T }

func (f forbidden) Post(context.Context, string, ...board.Note) error {
	f.t.Error("posted")
	return nil
}

func (f forbidden) Read(context.Context, string) ([]board.Note, error) {
	f.t.Error("read")
	return nil, nil
}

func TestWhereFilesSayWhoIsBelievedTheBoardIsNotTouched(t *testing.T) {
	w := newWorld(t)
	own, named := w.issuer(), w.issuer()
	i := w.startAs(credential(t, own, gateway), forbidden{t}, func(s *settings.Settings) {
		s.CallerCAs = []identity.File{identity.File(named.PEM())}
	}).run()
	assert.True(t, i.believes(named))
	assert.False(t, i.believes(own))
	assert.Equal(t, "CALLER_CA_FILES", i.callers()[fingerprint(named)]["origin"])
	assert.Contains(t, i.measured(), fingerprint(named))
}

// Without a name of its own, an instance cannot tell siblings from others.
func TestACertificateThatNamesNobodyIsNotShared(t *testing.T) {
	w := newWorld(t)
	own := w.issuer()
	i := w.startAs(credential(t, own, gateway, ca.OUs()), forbidden{t}).run()
	assert.True(t, i.believes(own))
	assert.Contains(t, i.said.String(), "not shared")
}

func TestWithoutTheDatabaseWhatIsKnownStays(t *testing.T) {
	w := newWorld(t)
	old, next := w.issuer(), w.issuer()
	w.start(old)
	second := w.start(next).run()
	require.NoError(t, w.store.Close())
	second.eventually("the complaint", func() bool { return strings.Contains(second.said.String(), "caller CAs of siblings") })
	assert.True(t, second.believes(old))
	assert.True(t, second.believes(next))
	w.add(time.Until(old.Certificate().NotAfter) + time.Minute)
	second.eventually("the end all the same", func() bool { return len(second.callers()) == 1 })
	assert.Equal(t, 1, strings.Count(second.said.String(), "caller CAs of siblings"), "it is said once")
}

// The instance's own certificate is renewed by another CA while it runs.
func TestTheFormerIssuerStays(t *testing.T) {
	for name, board := range map[string]func(w *world) authorities.Board{
		"with siblings":        func(w *world) authorities.Board { return w.store.Board() },
		"without the database": func(w *world) authorities.Board { _ = w.store.Close(); return w.store.Board() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			old, next := w.issuer(), w.issuer()
			i := w.startAs(credential(t, old, gateway), board(w)).run()
			renewed := credential(t, next, gateway)
			_, _, err := renewed.WriteFiles(i.dir)
			require.NoError(t, err)
			i.eventually("the new issuer", func() bool { return i.believes(next) })
			assert.True(t, i.believes(old))
			i.eventually("the new certificate", func() bool { return i.Own().Certificate().Leaf.Equal(renewed.Leaf()) })
			if name == "with siblings" {
				sibling := w.start(w.issuer()).run()
				i.eventually("siblings know both", func() bool { return sibling.believes(old) && sibling.believes(next) })
			}
		})
	}
}

func TestTheRouterIsNotBelievedByWhatIssuesInstances(t *testing.T) {
	w := newWorld(t)
	own, shared, platform := w.issuer(), w.issuer(), newWorld(t).root
	w.start(shared)
	dir := t.TempDir()
	for name, one := range map[string]*ca.Authority{"root": w.root, "own": own, "shared": shared, "platform": platform} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), one.PEM(), 0o600))
	}
	t.Setenv("SSL_CERT_FILE", filepath.Join(dir, "platform"))
	roots, err := w.start(own, func(s *settings.Settings) { s.SystemCertPath = dir }).RouterRoots()
	require.NoError(t, err)
	for one, want := range map[*ca.Authority]bool{w.root: false, own: false, shared: false, platform: true} {
		server, err := one.Server("backend.apps.identity")
		require.NoError(t, err)
		_, err = server.Leaf().Verify(x509.VerifyOptions{Roots: roots, DNSName: "backend.apps.identity"})
		assert.Equal(t, want, err == nil, one.Certificate().Subject)
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	root, err := ca.NewRoot("root")
	require.NoError(t, err)
	cert, key, err := credential(t, root, gateway).WriteFiles(t.TempDir())
	require.NoError(t, err)
	for want, s := range map[string]settings.Settings{
		"CALLER_CA_FILES: ":                      {CallerCAs: []identity.File{"/nowhere"}},
		"CF_INSTANCE_CERT and CF_INSTANCE_KEY: ": {InstanceCert: "/nowhere", InstanceKey: "/nowhere"},
	} {
		s.FoundationName = "local"
		_, err := authorities.New(authorities.Config{Settings: &s, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
		assert.ErrorContains(t, err, want)
	}
	good := settings.Settings{
		FoundationName: "local", InstanceCert: identity.File(cert), InstanceKey: identity.File(key),
		RouterCAs: []identity.File{"/nowhere"}, ExtraCAs: []identity.File{"/nowhere"}, StoreURL: "postgres://host/db",
	}
	a, err := authorities.New(authorities.Config{Settings: &good, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	_, err = a.RouterRoots()
	assert.ErrorContains(t, err, "ROUTER_CA_FILES: ")
	_, err = a.ExtraRoots()
	assert.ErrorContains(t, err, "CA_FILES: ")
	_, err = a.StoreCA()
	assert.ErrorContains(t, err, "CA_FILES: ")
}
