package identity_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
)

func write(t *testing.T, content []byte) identity.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return identity.File(path)
}

func TestReadCAsFromFilesAndFromPEM(t *testing.T) {
	f := newFoundation(t)
	both := append(f.intermediate.PEM(), f.root.PEM()...)
	commented := bytes.Join([][]byte{[]byte("# the first"), f.intermediate.PEM(), []byte("# the second"), f.root.PEM(), []byte("# end")}, []byte("\n"))
	for name, files := range map[string][]identity.File{
		"one file of two":      {write(t, both)},
		"two files":            {write(t, f.intermediate.PEM()), write(t, f.root.PEM())},
		"the PEM itself":       {identity.File(both)},
		"a file and PEM":       {write(t, f.intermediate.PEM()), identity.File(f.root.PEM())},
		"comments in between":  {write(t, commented)},
		"line ends of Windows": {write(t, bytes.ReplaceAll(both, []byte("\n"), []byte("\r\n")))},
		"empty lines around":   {identity.File("\n\n" + string(both) + "\n")},
	} {
		t.Run(name, func(t *testing.T) {
			cas, err := identity.ReadCAs(files...)
			require.NoError(t, err)
			require.Len(t, cas, 2)
			assert.True(t, cas[0].Equal(f.intermediate.Certificate()))
			assert.True(t, cas[1].Equal(f.root.Certificate()))
		})
	}
}

// A CA that is missing unseen locks its callers out; one that is there unseen
// lets strangers in. Both are refused at start, naming the file.
func TestReadCAsRefusesFilesThatSayLessOrMore(t *testing.T) {
	f := newFoundation(t)
	good, key := string(f.intermediate.PEM()), string(mint(t, f.intermediate).KeyPEM())
	broken := strings.Replace(good, "MII", "!!!", 1)
	for name, content := range map[string]string{
		"empty file":                       "",
		"no PEM":                           "hello",
		"a private key":                    key,
		"a private key behind":             good + key,
		"cut off in the second":            good + good[:len(good)-40],
		"a damaged one in front":           broken + good,
		"a damaged one behind":             good + broken,
		"only a damaged one":               broken,
		"an indented one, which PEM skips": good + "  " + good,
		"a block that is no certificate":   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"a trusted certificate of OpenSSL": strings.ReplaceAll(good, "CERTIFICATE", "TRUSTED CERTIFICATE"),
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, []byte(content))
			cas, err := identity.ReadCAs(write(t, []byte(good)), file)
			assert.Nil(t, cas)
			require.ErrorContains(t, err, string(file))
			assert.NotContains(t, err.Error(), key[40:80], "a key must not reach the log")
		})
	}
	t.Run("no such file", func(t *testing.T) {
		_, err := identity.ReadCAs("/no/such/file.pem")
		require.ErrorIs(t, err, os.ErrNotExist)
		assert.ErrorContains(t, err, "/no/such/file.pem")
	})
	t.Run("given PEM is not quoted whole", func(t *testing.T) {
		_, err := identity.ReadCAs(identity.File(key))
		require.ErrorContains(t, err, "the given PEM")
		assert.NotContains(t, err.Error(), key[40:80])
	})
}

// PEM from elsewhere must not be taken for the name of a file.
func TestParseCertificatesReadsNoFile(t *testing.T) {
	f := newFoundation(t)
	file := write(t, f.intermediate.PEM())
	for _, text := range []string{string(file), "", "/etc/passwd"} {
		cas, err := identity.ParseCertificates([]byte(text))
		require.ErrorContains(t, err, "no certificate found")
		assert.Nil(t, cas)
	}
	cas, err := identity.ParseCertificates(f.intermediate.PEM())
	require.NoError(t, err)
	assert.True(t, cas[0].Equal(f.intermediate.Certificate()))
}

func TestReadIssuerIsTheSecondBlockOfTheInstanceCertificate(t *testing.T) {
	f := newFoundation(t)
	credential := mint(t, f.intermediate)
	cas, err := identity.ReadIssuer(write(t, credential.CertPEM()))
	require.NoError(t, err)
	require.Len(t, cas, 1)
	assert.True(t, cas[0].Equal(f.intermediate.Certificate()))
	allow(t, trusting(t, cas...), f.leaf(t))

	leaf := credential.CertPEM()[:bytes.Index(credential.CertPEM()[1:], []byte("-----BEGIN"))+1]
	second := mint(t, f.intermediate)
	for name, content := range map[string][]byte{
		"nothing":                   nil,
		"only the leaf":             leaf,
		"the root instead":          append(bytes.Clone(leaf), f.root.PEM()...),
		"a foreign CA of that name": append(bytes.Clone(leaf), newFoundation(t).intermediate.PEM()...),
		"another leaf instead":      append(bytes.Clone(leaf), second.CertPEM()...),
		"the other way round":       append(f.intermediate.PEM(), leaf...),
	} {
		t.Run(name, func(t *testing.T) {
			cas, err := identity.ReadIssuer(write(t, content))
			assert.Error(t, err)
			assert.Nil(t, cas)
		})
	}
}

func TestKeyPairKeepsTheLastGoodPair(t *testing.T) {
	f, dir := newFoundation(t), t.TempDir()
	first, second := mint(t, f.intermediate), mint(t, f.intermediate)
	cert, key, err := first.WriteFiles(dir)
	require.NoError(t, err)
	pair, err := identity.NewKeyPair(identity.File(cert), identity.File(key))
	require.NoError(t, err)
	assert.True(t, pair.Certificate().Leaf.Equal(first.Leaf()))
	assert.Len(t, pair.Certificate().Certificate, 2, "the issuer is presented with the leaf")
	assert.Equal(t, []identity.File{identity.File(cert), identity.File(key)}, pair.Files())

	for name, breakIt := range map[string]func() error{
		"the key is new, the certificate old": func() error { return os.WriteFile(key, second.KeyPEM(), 0o600) },
		"the key is empty":                    func() error { return os.WriteFile(key, nil, 0o600) },
		"the key is gone":                     func() error { return os.Remove(key) },
		"the certificate is gone":             func() error { return os.Remove(cert) },
	} {
		_, _, err := first.WriteFiles(dir)
		require.NoError(t, err)
		require.NoError(t, breakIt(), name)
		assert.Error(t, pair.Reload(), name)
		assert.True(t, pair.Certificate().Leaf.Equal(first.Leaf()), name)
	}
	_, _, err = second.WriteFiles(dir)
	require.NoError(t, err)
	require.NoError(t, pair.Reload())
	assert.True(t, pair.Certificate().Leaf.Equal(second.Leaf()))
	same := pair.Certificate()
	require.NoError(t, pair.Reload())
	assert.Same(t, same, pair.Certificate(), "nobody need begin anew with what is not new")

	mismatched, err := identity.NewKeyPair(identity.File(cert), identity.File(first.KeyPEM()))
	assert.Error(t, err)
	assert.Nil(t, mismatched)
}

// The rotation of Diego, seen through Watch: the key is replaced first. The
// test drives each step from the calls of Watch and so depends on no timing.
func TestWatchFollowsARotation(t *testing.T) {
	t.Parallel()
	f, dir := newFoundation(t), t.TempDir()
	first, second := mint(t, f.intermediate), mint(t, f.intermediate)
	cert, key, err := first.WriteFiles(dir)
	require.NoError(t, err)
	pair, err := identity.NewKeyPair(identity.File(cert), identity.File(key))
	require.NoError(t, err)
	// Between the reading and the watching the key is replaced already: a
	// Watch that takes what it first sees for known would never tell.
	require.NoError(t, os.WriteFile(key, second.KeyPEM(), 0o600))

	ctx, stop := context.WithCancel(t.Context())
	var failures, successes int
	changed := func() error {
		err := pair.Reload()
		if err == nil {
			successes++
			stop()
		}
		return err
	}
	failed := func(err error) {
		failures++
		assert.ErrorContains(t, err, "private key does not match")
		assert.True(t, pair.Certificate().Leaf.Equal(first.Leaf()), "the old pair serves meanwhile")
		assert.NoError(t, os.WriteFile(cert, second.CertPEM(), 0o600))
	}
	identity.Watch(ctx, pair.Files(), changed, failed) // returns when ctx ends
	assert.Equal(t, 1, failures)
	assert.Equal(t, 1, successes)
	assert.True(t, pair.Certificate().Leaf.Equal(second.Leaf()))
}

// More time than an interval passes, so that a Watch that forgot to compare
// would have called again; a slow machine only makes the test weaker.
func TestWatchIsSilentWithoutNewContent(t *testing.T) {
	t.Parallel()
	file := write(t, newFoundation(t).intermediate.PEM())
	ctx, stop := context.WithTimeout(t.Context(), identity.WatchInterval*5/4)
	defer stop()
	calls := 0
	identity.Watch(ctx, []identity.File{file}, func() error { calls++; return nil }, func(err error) { t.Errorf("unexpected: %v", err) })
	assert.Equal(t, 1, calls)
}

func TestWatchCallsForNewContent(t *testing.T) {
	t.Parallel()
	f, next := newFoundation(t), newFoundation(t)
	file := write(t, f.intermediate.PEM())
	v := f.verifier(t)
	ctx, stop := context.WithCancel(t.Context())
	var seen []*x509.Certificate
	changed := func() error {
		cas, err := identity.ReadCAs(file)
		if err != nil {
			return err
		}
		seen = append(seen, cas[0])
		if len(seen) == 2 {
			stop()
		}
		return errors.Join(v.SetCAs(cas), os.WriteFile(string(file), next.intermediate.PEM(), 0o600))
	}
	identity.Watch(ctx, []identity.File{file}, changed, func(err error) { t.Errorf("unexpected: %v", err) })
	require.Len(t, seen, 2, "at the start, and when the content had changed")
	assert.True(t, seen[1].Equal(next.intermediate.Certificate()))
	_ = deny(t, v, f.leaf(t), identity.ErrUntrustedCertificate)
	allow(t, v, next.leaf(t))
}

func TestWatchRepeatsWhatFailed(t *testing.T) {
	t.Parallel()
	file := write(t, newFoundation(t).intermediate.PEM())
	ctx, stop := context.WithCancel(t.Context())
	var calls, failures int
	changed := func() error {
		if calls++; calls == 1 {
			return errors.New("the store is away")
		}
		stop()
		return nil
	}
	identity.Watch(ctx, []identity.File{file}, changed, func(error) {
		if failures++; failures > 1 {
			stop()
		}
	})
	assert.Equal(t, 2, calls)
	assert.Equal(t, 1, failures)
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	identity.Watch(ctx, []identity.File{"/no/such/file"}, func() error { t.Error("called after the end"); return nil }, func(error) {})
}
