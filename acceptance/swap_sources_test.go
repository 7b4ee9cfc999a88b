package acceptance_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// What a bundle server says instead of a good bundle changes nothing but what
// the gateway says of it; the next good one is taken.
func TestABundleServerThatSaysSomethingElseChangesNothing(t *testing.T) {
	t.Parallel()
	w := newSigned(t)
	first := w.revision()
	for _, bad := range []struct {
		name   string
		answer http.HandlerFunc
		says   string
	}{
		{"304 for nothing", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(304) }, "answered 304 although it was not told what is here"},
		{"500", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, "answered 500"},
		{"half a body", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(len(w.newer)))
			_, _ = rw.Write(w.newer[:len(w.newer)/2])
		}, "unexpected EOF"},
		{"half a file", serves(w.newer[:len(w.newer)/2]), "the archive is damaged"},
		{"another host, which is not asked for anything but a bundle", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, w.elsewhere.URL+"/bundle.tar.gz", http.StatusFound)
		}, "missing .signatures.json"},
		{"another host without TLS", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, strings.Replace(w.elsewhere.URL, "https:", "http:", 1), http.StatusFound)
		}, "redirects away from https"},
		{"another key's signature", serves(w.foreign), "failed to verify JWT signature"},
		{"the bundle before", serves(w.older), `revision "6" is older than "7"`},
		{"another bundle's signature", serves(w.swapped), "digest mismatch"},
		{"200 MB", endless, "larger than 8 MiB"},
		{"no signature", serves(w.unsigned), "missing .signatures.json"},
		{"200 MB in a few bytes", serves(w.bomb), "larger than 32 MiB"},
		{"a name that leaves the archive", serves(w.traversing), "a name that leaves the archive"},
		{"a page", serves([]byte("<html>")), ".tar.gz"},
	} {
		require.Error(t, w.saysOf(first, bad.says), "%s: the case before says the same", bad.name)
		w.answers(bad.answer)
		require.NoError(t, until(bad.name, func() error { return w.saysOf(first, bad.says) }))
		w.holds(bad.name)
		assert.Equal(t, first, w.revision(), bad.name)
	}
	assert.Empty(t, w.stolen, "the token was shown to another host")

	w.answers(serves(w.newer))
	_, err := w.server(0).awaitRevision(first)
	require.NoError(t, err)
	require.NoError(t, w.readiness(0, 200, `"ready":true`))
	assert.Error(t, w.readiness(0, 200, "the last good one stays in force"))
}

// signed is a gateway with a bundle server that it must believe nothing.
type signed struct {
	*cloud
	b         bound
	bundles   *httptest.Server
	elsewhere *httptest.Server
	// older, good and newer are signed bundles of one operator; the others are
	// not what the gateway should take. All but the good one allow everything.
	older, good, newer, unsigned, foreign, swapped, bomb, traversing []byte

	mu     sync.Mutex
	answer http.HandlerFunc
	stolen []string
}

const bundleToken = "s3cret-of-the-bundle-server"

func newSigned(t *testing.T) *signed {
	t.Helper()
	w := &signed{}
	dir := t.TempDir()
	key, public := signingKeys(t, dir, "own")
	foreign, _ := signingKeys(t, dir, "foreign")
	open := "package site.check.careful\n\nallow := true\n"
	w.older, w.newer, w.foreign = w.build(t, open, key, "6"), w.build(t, open, key, "8"), w.build(t, open, foreign, "8")
	w.good = w.build(t, "package site.check.careful\n\nallow if input.request.path == \"/good\"\n", key, "7")
	w.unsigned = packed(t, map[string]string{"check.rego": open, ".manifest": `{"revision":"8","roots":["site"]}`})
	signature := unpacked(t, w.good)[".signatures.json"]
	swapped := unpacked(t, w.newer)
	swapped[".signatures.json"] = signature
	w.swapped = packed(t, swapped)
	w.bomb = packed(t, map[string]string{"data.json": `{"a":"` + strings.Repeat("a", 200<<20) + `"}`})
	w.traversing = packed(t, map[string]string{"../../check.rego": open})

	authority, err := ca.NewRoot("bundles")
	require.NoError(t, err)
	file := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(file, authority.PEM(), 0o600))
	w.elsewhere = secureServer(t, authority, func(rw http.ResponseWriter, r *http.Request) {
		if given := r.Header.Get("Authorization"); given != "" {
			w.mu.Lock()
			w.stolen = append(w.stolen, given)
			w.mu.Unlock()
		}
		serves(w.unsigned)(rw, r)
	})
	w.bundles = secureServer(t, authority, func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		answer := w.answer
		w.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+bundleToken {
			answer = func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(401) }
		}
		answer(rw, r)
	})
	w.answers(serves(w.good))

	storeURL, err := newSQLite(dir)
	require.NoError(t, err)
	c, err := newCluster(dir, storeURL, 1, "POLICY_BUNDLE="+w.bundles.URL+"/bundle.tar.gz?key="+bundleToken, "POLICY_BUNDLE_TOKEN="+bundleToken,
		"POLICY_VERIFICATION_KEY_FILE="+public, "POLICY_POLL_INTERVAL=1s", "CA_FILES="+file) // the system's roots
	t.Cleanup(func() { require.NoError(t, c.close()) })
	require.NoError(t, err)
	c.addSecret(bundleToken)
	w.cloud = c.play(t)
	w.b = w.bound(w.created(onlyFrontend), "")
	w.holds("a good bundle")
	return w
}

func (w *signed) answers(answer http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

func (w *signed) revision() string {
	w.t.Helper()
	revision, err := w.server(0).revision()
	require.NoError(w.t, err)
	return revision
}

// holds asserts that the good bundle decides.
func (w *signed) holds(when string) {
	w.t.Helper()
	for path, want := range map[string]string{"/good": allowed, "/other": closedByPolicy} {
		got, err := outcomeOf(w.send(w.t.Context(), 0, "frontend", w.b.Route+path, w.b.url))
		require.NoError(w.t, err)
		assert.Equal(w.t, want, got, "%s: %s", when, path)
	}
}

// saysOf tells whether the gateway says what is wrong, to those who may know.
func (w *signed) saysOf(revision, what string) error {
	status, err := w.server(0).policy()
	if err != nil {
		return err
	}
	if status.Revision != revision || !strings.Contains(status.Error, what) || status.Source != strings.Split(w.bundles.URL, "?")[0]+"/bundle.tar.gz" {
		return fmt.Errorf("/v1/policy says %+v", status)
	}
	if err := w.readiness(0, 200, "policy: the last good one stays in force"); err != nil {
		return err
	}
	res, err := (&http.Client{Transport: w.server(0).transport, Timeout: patience}).Get(w.server(0).url + "/readyz")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || strings.Contains(string(body), "policy")) {
		err = fmt.Errorf("everybody is told %d %s", res.StatusCode, body)
	}
	return err
}

// build makes a signed bundle as its author does.
func (w *signed) build(t *testing.T, check, key, revision string) []byte {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, writeFiles(filepath.Join(dir, "bundle"), map[string]string{"check.rego": check}))
	archive := filepath.Join(dir, "bundle.tar.gz")
	out, err := exec.CommandContext(t.Context(), binary, "policy", "build", filepath.Join(dir, "bundle"), "-o", archive, "--sign", key, "--revision", revision, "--timeout", "10s").CombinedOutput()
	require.NoError(t, err, string(out))
	content, err := os.ReadFile(archive)
	require.NoError(t, err)
	return content
}

func signingKeys(t *testing.T, dir, name string) (private, public string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	half, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	private, public = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".pub.pem")
	require.NoError(t, os.WriteFile(private, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: half}), 0o600))
	return private, public
}

// secureServer is a server whose certificate an authority has issued.
func secureServer(t *testing.T, authority *ca.Authority, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	certificate, err := authority.Server("127.0.0.1")
	require.NoError(t, err)
	s := httptest.NewUnstartedServer(handler)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.TLS()}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// serves is a server without ETags, which gives a bundle whenever it is asked.
func serves(archive []byte) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(archive) }
}

// endless sends 200 MB to whoever reads that far.
func endless(rw http.ResponseWriter, _ *http.Request) {
	part := make([]byte, 1<<20)
	_, _ = rand.Read(part)
	for range 200 {
		if _, err := rw.Write(part); err != nil {
			return
		}
	}
}

// packed is a .tar.gz of files.
func packed(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for name, content := range files {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(content))}))
		_, err := archive.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

// unpacked are the files of a .tar.gz, their names without a leading slash.
func unpacked(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zipped, err := gzip.NewReader(bytes.NewReader(archive))
	require.NoError(t, err)
	files := map[string]string{}
	for entries := tar.NewReader(zipped); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(t, err)
		content, err := io.ReadAll(entries)
		require.NoError(t, err)
		files[strings.TrimPrefix(header.Name, "/")] = string(content)
	}
}
