package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/source"
)

// archive packs one module.
func archive(t *testing.T, rego string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	require.NoError(t, writer.WriteHeader(&tar.Header{Name: "policy.rego", Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(rego))}))
	_, err := writer.Write([]byte(rego))
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

const (
	one = "package site.check.one\n\nallow := true\n"
	two = "package site.check.one\n\nallow := false\n"
)

// follow opens a source and returns its events; it ends with the test, which
// waits for its goroutines.
func follow(t *testing.T, cfg source.Config) <-chan source.Event {
	t.Helper()
	opened, err := source.Open(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	events, ended := make(chan source.Event, 1000), make(chan struct{})
	go func() {
		defer close(ended)
		opened.Follow(ctx, func(event source.Event) { events <- event })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return events
}

// next waits for the next event that says something.
func next(t *testing.T, events <-chan source.Event) source.Event {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case event := <-events:
			if event.Archive != nil || event.Err != nil {
				return event
			}
		case <-deadline:
			require.Fail(t, "no event")
		}
	}
}

// holds demands a bundle with this module.
func holds(t *testing.T, event source.Event, rego string) {
	t.Helper()
	require.NoError(t, event.Err)
	read, err := bundle.Read(event.Archive, nil)
	require.NoError(t, err)
	expected, err := bundle.Read(archive(t, rego), nil)
	require.NoError(t, err)
	assert.Equal(t, expected.Digest, read.Digest)
}

func TestLocationsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, location := range []string{
		"", "http://bundles.example.com/b.tar.gz", "file:///tmp/x", "ftp://h/b", "https://", "https://h", "https://h/", "https://h/dir/",
		"https://user:SECRET@h/b.tar.gz", "https://h/b.tar.gz#SECRET", "https://SECRET%zz/b",
	} {
		_, err := source.Open(source.Config{Location: location})
		if assert.Error(t, err, location) {
			assert.NotContains(t, err.Error(), "SECRET")
		}
	}
	_, err := source.Open(source.Config{Location: t.TempDir(), Token: "SECRET"})
	assert.ErrorContains(t, err, "a token is for an https URL")
	_, err = source.Open(source.Config{Location: t.TempDir(), Poll: -1})
	assert.Error(t, err)
	opened, err := source.Open(source.Config{Location: "https://h/b.tar.gz?sig=SECRET"})
	require.NoError(t, err)
	assert.Equal(t, "https://h/b.tar.gz", opened.String())
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

// An hour of polling shows that the watcher sees it.
func TestADirectoryIsWatched(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	policy := filepath.Join(root, "policy.rego")
	write(t, policy, one)
	events := follow(t, source.Config{Location: root, Poll: time.Hour})
	holds(t, next(t, events), one)
	write(t, policy, two)
	holds(t, next(t, events), two)

	// As editors save: another name, then a rename.
	write(t, filepath.Join(root, "policy.rego.tmp"), one)
	require.NoError(t, os.Rename(filepath.Join(root, "policy.rego.tmp"), policy))
	holds(t, next(t, events), one)

	below := filepath.Join(root, "lib")
	require.NoError(t, os.Mkdir(below, 0o755))
	write(t, filepath.Join(below, "data.json"), `{"a":1}`)
	event := next(t, events)
	read, err := bundle.Read(event.Archive, nil)
	require.NoError(t, err)
	assert.Contains(t, read.Data, "lib")
	write(t, filepath.Join(below, "data.json"), `{"a":2}`)
	require.NoError(t, next(t, events).Err)

	require.NoError(t, os.RemoveAll(root))
	require.Error(t, next(t, events).Err)
	require.NoError(t, os.Mkdir(root, 0o755))
	write(t, policy, two)
	for {
		event := next(t, events)
		if event.Err == nil {
			holds(t, event, two)
			break
		}
	}
}

// Whoever copies files one after the other is given the time to end.
func TestADirectoryIsReadWhenItRests(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write(t, filepath.Join(root, "a.rego"), "package site.check.a\n\nallow := true\n")
	events := follow(t, source.Config{Location: root, Poll: time.Hour})
	require.NoError(t, next(t, events).Err)
	file, err := os.Create(filepath.Join(root, "policy.rego"))
	require.NoError(t, err)
	for _, part := range []string{"package site", ".check.one", "\n\nallow :=", " true", "\n"} {
		_, err := file.WriteString(part)
		require.NoError(t, err)
		time.Sleep(50 * time.Millisecond) // the writer's own pace
	}
	require.NoError(t, file.Close())
	read, err := bundle.Read(next(t, events).Archive, nil)
	require.NoError(t, err, "half a file was brought")
	assert.Len(t, read.Modules, 2)
}

func TestALinkThatIsSwappedIsFollowed(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	for name, content := range map[string]string{"v1": one, "v2": two} {
		require.NoError(t, os.Mkdir(filepath.Join(parent, name), 0o755))
		write(t, filepath.Join(parent, name, "policy.rego"), content)
	}
	current := filepath.Join(parent, "current")
	require.NoError(t, os.Symlink("v1", current))
	events := follow(t, source.Config{Location: current, Poll: time.Hour})
	holds(t, next(t, events), one)
	require.NoError(t, os.Symlink("v2", current+".new"))
	require.NoError(t, os.Rename(current+".new", current))
	holds(t, next(t, events), two)
}

func TestAnArchiveIsWatchedAndPolled(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	events := follow(t, source.Config{Location: path, Poll: 100 * time.Millisecond})
	require.Error(t, next(t, events).Err)
	write(t, path+".new", string(archive(t, one)))
	require.NoError(t, os.Rename(path+".new", path))
	for {
		if event := next(t, events); event.Err == nil {
			holds(t, event, one)
			return
		}
	}
}

// server is a bundle server whose answers change.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	answer   http.HandlerFunc
	requests []*http.Request
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		answer := s.answer
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) answers(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

func (s *server) config(path string) source.Config {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return source.Config{Location: s.URL + path, Token: "SECRET", Roots: roots, Poll: time.Second}
}

// serves gives a bundle with an ETag, and 304 to who has it.
func serves(archive []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", etag)
		_, _ = w.Write(archive)
	}
}

func TestAServerIsAskedWithTokenAndETag(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answers(serves(archive(t, one), `"v1"`))
	events := follow(t, s.config("/b/bundle.tar.gz?x=y"))
	holds(t, next(t, events), one)
	require.Eventually(t, func() bool { return len(s.seen()) >= 2 }, 20*time.Second, 10*time.Millisecond)
	first, second := s.seen()[0], s.seen()[1]
	assert.Equal(t, "/b/bundle.tar.gz?x=y", first.RequestURI)
	assert.Equal(t, "Bearer SECRET", first.Header.Get("Authorization"))
	assert.Empty(t, first.Header.Get("If-None-Match"))
	assert.Equal(t, "modes=snapshot;wait=60", first.Header.Get("Prefer"), "no delta bundles")
	assert.Equal(t, `"v1"`, second.Header.Get("If-None-Match"))

	s.answers(serves(archive(t, two), `"v2"`))
	holds(t, next(t, events), two)
}

// A server that says it can is asked again at once, and waits with its answer.
func TestLongPolling(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	release := make(chan struct{})
	s.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		if r.Header.Get("If-None-Match") == "" {
			serves(archive(t, one), `"v1"`)(w, r)
			return
		}
		select {
		case <-release:
			serves(archive(t, two), `"v2"`)(w, r)
		case <-r.Context().Done():
		}
	})
	cfg := s.config("/bundle.tar.gz")
	cfg.Poll = time.Hour
	events := follow(t, cfg)
	holds(t, next(t, events), one)
	require.Eventually(t, func() bool { return len(s.seen()) == 2 }, 20*time.Second, 10*time.Millisecond)
	close(release)
	holds(t, next(t, events), two)
}

// The token is shown to the one host that it is for, by no way.
func TestTheTokenFollowsNoRedirectToAnotherHost(t *testing.T) {
	t.Parallel()
	home, elsewhere := newServer(t), newServer(t)
	elsewhere.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" {
			http.Redirect(w, r, home.URL+"/private", http.StatusFound)
			return
		}
		serves(archive(t, one), `"v1"`)(w, r)
	})
	home.answers(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/here":
			http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
		case "/away":
			http.Redirect(w, r, elsewhere.URL+"/b", http.StatusFound)
		case "/boomerang":
			http.Redirect(w, r, elsewhere.URL+"/back", http.StatusFound)
		default:
			serves(archive(t, one), `"v1"`)(w, r)
		}
	})
	holds(t, next(t, follow(t, home.config("/away?sig=QUERY"))), one)
	holds(t, next(t, follow(t, home.config("/here"))), one)
	holds(t, next(t, follow(t, home.config("/boomerang"))), one)
	require.NotEmpty(t, elsewhere.seen())
	for _, request := range elsewhere.seen() {
		for name, values := range request.Header {
			assert.NotContains(t, strings.Join(values, " "), "SECRET", name)
			assert.NotContains(t, strings.Join(values, " "), "QUERY", name)
		}
	}
	for _, request := range home.seen() {
		switch request.URL.Path {
		case "/there":
			assert.Equal(t, "Bearer SECRET", request.Header.Get("Authorization"), "the same host")
		case "/private":
			assert.Empty(t, request.Header.Get("Authorization"), "another host chose this request")
		}
	}
}

func TestAnswersThatAreNoBundle(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { assert.Fail(t, "asked without TLS") }))
	t.Cleanup(plain.Close)
	good := archive(t, one)
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		what   string
	}{
		"500":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "answered 500"},
		"401":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, "answered 401"},
		"204":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, "answered 204"},
		"304 for nothing": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "304"},
		"an empty body":   {func(http.ResponseWriter, *http.Request) {}, "expected a directory or a .tar.gz"},
		"a page":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>SECRET")) }, ".tar.gz"},
		"half a body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "99999")
			_, _ = w.Write(good)
		}, "unexpected EOF"},
		"half an archive":         {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good[:len(good)/2]) }, "damaged"},
		"too much":                {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "999999999") }, "at most 8 MiB"},
		"too much without a size": {endless, "larger than 8 MiB"},
		"a gzip bomb":             {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bomb(t)) }, "when unpacked"},
		"a redirect without TLS":  {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, plain.URL, http.StatusFound) }, "away from https"},
		"a redirect for ever":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, "more than 5 times"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.answers(test.answer)
			events := follow(t, s.config("/bundle.tar.gz?sig=SECRET"))
			event := next(t, events)
			require.Nil(t, event.Archive)
			assert.ErrorContains(t, event.Err, test.what)
			assert.NotContains(t, event.Err.Error(), "SECRET")

			// It is tried again, and the next good answer counts.
			s.answers(serves(good, `"v1"`))
			for event.Err != nil {
				event = next(t, events)
			}
			holds(t, event, one)
		})
	}
}

func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, 1<<16)); err != nil {
			return
		}
	}
}

// bomb is a megabyte of headers for every kilobyte sent.
func bomb(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	for range 100 {
		require.NoError(t, writer.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "x", PAXRecords: map[string]string{"comment": strings.Repeat("a", 1<<19)}}))
	}
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

func TestAServerOfAnotherAuthorityIsNotAsked(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answers(func(http.ResponseWriter, *http.Request) { assert.Fail(t, "asked") })
	cfg := s.config("/bundle.tar.gz")
	cfg.Roots = x509.NewCertPool()
	assert.ErrorContains(t, next(t, follow(t, cfg)).Err, "certificate")
}

// What came whole but is no policy goes to the gate, which says why.
func TestABundleThatDoesNotParseIsBrought(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.answers(serves(archive(t, "package x\n\nallow := {"), `"v1"`))
	event := next(t, follow(t, s.config("/bundle.tar.gz")))
	require.NoError(t, event.Err)
	_, err := bundle.Read(event.Archive, nil)
	assert.ErrorContains(t, err, "policy.rego:3")
}
