package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// bomb is an archive that says and holds more than it looks.
func bomb(t *testing.T, files int, each int) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	zeros := make([]byte, each)
	for i := range files {
		require.NoError(t, writer.WriteHeader(&tar.Header{Name: fmt.Sprintf("%d/notes.txt", i), Typeflag: tar.TypeReg, Size: int64(each)}))
		_, err := writer.Write(zeros)
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		archive []byte
		what    string
	}{
		"one file that unpacks to too much":  {bomb(t, 1, bundle.MaxContent+1), "larger than 32 MiB"},
		"many files that unpack to too much": {bomb(t, 40, 1<<20), "larger than 32 MiB"},
		"too many files":                     {bomb(t, bundle.MaxFiles+1, 1), "more than 2000 files"},
		"half an archive":                    {bomb(t, 10, 10_000)[:60], "damaged"},
		"nothing":                            {nil, "expected a directory or a .tar.gz"},
		"a page of HTML":                     {[]byte("<html>"), "expected a directory or a .tar.gz"},
		"headers without end":                {headers(t, 40<<20), "when unpacked"},
	} {
		_, err := bundle.Read(test.archive, nil)
		assert.ErrorIs(t, err, bundle.ErrRefused, name)
		assert.ErrorContains(t, err, test.what, name)
	}
	_, err := bundle.ReadLimited(bytes.NewReader(make([]byte, bundle.MaxArchive+1)))
	assert.ErrorContains(t, err, "larger than 8 MiB")
	refused(t, directory(t, files{"policy.rego": yes + strings.Repeat("# padding\n", bundle.MaxRego/10)}), "policy.rego", "larger than 1 MiB")
	load(t, directory(t, files{"policy.rego": yes, "notes.txt": strings.Repeat("x", bundle.MaxContent+1)}))
}

// What is long is refused with the path that it is at.
func TestLongTextInDataIsRefused(t *testing.T) {
	at, over := strings.Repeat("x", bundle.MaxText), strings.Repeat("x", bundle.MaxText+1)
	load(t, directory(t, files{"data.json": `{"a":["` + at + `"],"` + at + `":1}`}))
	for content, where := range map[string]string{
		`{"a":"` + over + `"}`:                             `"data.a" holds a string`,
		`{"a":{"b":[1,"` + over + `"]}}`:                   `"data.a.b[1]" holds a string`,
		`{"a":{"` + over + `":1}}`:                         `"data.a" holds a key`,
		`{"a":{"b":1` + over[1:] + `}}`:                    "data.json",
		`{"` + over + `":1}`:                               `"data" holds a key`,
		`{"` + at + `":{"a":"` + over + `"}}`:              "…\" holds a string",
		`{"a":` + strings.ReplaceAll(over, "x", "1") + `}`: `"data.a" holds a number`,
	} {
		refused(t, directory(t, files{"data.json": content}), where)
	}
	refused(t, directory(t, files{"a/data.yaml": "b: " + over}), `"data.a.b" holds a string`)
}

// headers compress to nothing, and no file follows them.
func headers(t *testing.T, size int) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	for range size >> 19 {
		require.NoError(t, writer.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": strings.Repeat("a", 1<<19)}}))
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	return out.Bytes()
}

// A header that claims a terabyte must not be believed.
func TestAHeaderThatClaimsTooMuchCostsNothing(t *testing.T) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	require.NoError(t, tar.NewWriter(zipped).WriteHeader(&tar.Header{Name: "data.json", Typeflag: tar.TypeReg, Size: 1 << 40}))
	require.NoError(t, zipped.Close())
	_, err := bundle.Read(out.Bytes(), nil)
	assert.ErrorIs(t, err, bundle.ErrRefused)
}

func TestNamesThatLeaveTheArchive(t *testing.T) {
	for _, name := range []string{"../policy.rego", "a/../../policy.rego", "/../policy.rego"} {
		refused(t, archive(t, entry(name, yes)), "leaves the archive")
	}
	for _, kind := range []byte{tar.TypeFifo, tar.TypeChar, tar.TypeBlock, tar.TypeCont} {
		refused(t, archive(t, entry("policy.rego", yes), tar.Header{Name: "freeze.rego", Typeflag: kind}), "freeze.rego", "special file")
	}
}

func TestDeepNestingIsRefused(t *testing.T) {
	deep := strings.Repeat("[", 200_000)
	for name, content := range map[string]files{
		"Rego": {"policy.rego": "package a\n\nx := " + deep},
		"JSON": {"data.json": `{"a":` + deep},
		"YAML": {"data.yaml": "a: " + deep},
		"aliases": {"data.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n" +
			"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"},
	} {
		_, err := open(directory(t, content))
		assert.ErrorIs(t, err, bundle.ErrRefused, name)
	}
}

func TestWhatEditorsLeaveIsNotRead(t *testing.T) {
	root := directory(t, files{
		"policy.rego": yes, ".policy.rego.swp": "b0VIM", "policy.rego~": "package x\n{", "#policy.rego#": "package x\n{", "4913": "", ".git/config": "x", ".git/hooks/data.json": "{",
	})
	require.NoError(t, os.Symlink("user@host.1234", filepath.Join(root, ".#policy.rego")))
	assert.Equal(t, load(t, directory(t, files{"policy.rego": yes})).Digest, load(t, root).Digest)
}

// signer signs bundles.
type signer struct {
	algorithm, private string
	key                *bundle.Key
}

func newSigner(t *testing.T, algorithm string) signer {
	t.Helper()
	var private, public any
	switch algorithm {
	case "RS256":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		require.NoError(t, err)
		private, public = key, &key.PublicKey
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		private, public = key, &key.PublicKey
	default:
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		require.NoError(t, err)
		private, public = key, pub
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	require.NoError(t, err)
	key, err := bundle.ParseKey(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})))
	require.NoError(t, err)
	require.Equal(t, algorithm, key.Algorithm())
	return signer{algorithm, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), key}
}

// sign adds .signatures.json to the files.
func (s signer) sign(t *testing.T, content files) files {
	t.Helper()
	packed, err := bundle.ReadArchive(directory(t, content))
	require.NoError(t, err)
	loaded, err := opabundle.NewReader(bytes.NewReader(packed)).Read()
	require.NoError(t, err)
	require.NoError(t, loaded.GenerateSignature(opabundle.NewSigningConfig(s.private, s.algorithm, ""), "any", false))
	signed := files{".signatures.json": `{"signatures":["` + loaded.Signatures.Signatures[0] + `"]}`}
	for name, text := range content {
		signed[name] = text
	}
	return signed
}

func TestSignatures(t *testing.T) {
	content := files{"policy.rego": yes, "data.json": `{"a":1}`, ".manifest": `{"revision":"7","roots":[""]}`}
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		s, other := newSigner(t, algorithm), newSigner(t, algorithm)
		read := func(key *bundle.Key, content files) error {
			archive, err := bundle.ReadArchive(directory(t, content))
			require.NoError(t, err)
			_, err = bundle.Read(archive, key)
			return err
		}
		changed := func(name, text string) files {
			signed := s.sign(t, content)
			signed[name] = text
			return signed
		}
		require.NoError(t, read(s.key, s.sign(t, content)), algorithm)
		for name, err := range map[string]error{
			"unsigned":        read(s.key, content),
			"another's":       read(other.key, s.sign(t, content)),
			"changed rule":    read(s.key, changed("policy.rego", yes+"\nx := 1\n")),
			"changed data":    read(s.key, changed("data.json", `{"a":2}`)),
			"changed roots":   read(s.key, changed(".manifest", `{"revision":"8","roots":[""]}`)),
			"a file more":     read(s.key, changed("more.rego", "package more\n")),
			"another file":    read(s.key, changed("README.md", "not covered")),
			"no signature":    read(s.key, changed(".signatures.json", `{"signatures":[]}`)),
			"odd signature":   read(s.key, changed(".signatures.json", `{"signatures":["a.b.c"]}`)),
			"another plugin":  read(s.key, changed(".signatures.json", `{"signatures":["a.b.c"],"plugin":"x"}`)),
			"algorithm none":  read(s.key, changed(".signatures.json", `{"signatures":["eyJhbGciOiJub25lIn0.eyJmaWxlcyI6W119."]}`)),
			"no key for it":   read(nil, s.sign(t, content)),
			"a delta instead": read(s.key, files{"patch.json": `{"data":[{"op":"upsert","path":"/a","value":1}]}`}),
		} {
			assert.ErrorIs(t, err, bundle.ErrRefused, name)
		}
		missing := s.sign(t, content)
		delete(missing, "data.json")
		assert.ErrorIs(t, read(s.key, missing), bundle.ErrRefused, "a file less")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	require.NoError(t, err)
	weak := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	private := newSigner(t, "EdDSA").private
	for _, text := range []string{"", "secret", private, weak, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		_, err := bundle.ParseKey(text)
		assert.Error(t, err)
		assert.NotContains(t, fmt.Sprint(err), "PRIVATE KEY-----")
	}
}

func TestRevisionsOnlyGoUp(t *testing.T) {
	of := func(revision string, content byte) *bundle.Bundle {
		return &bundle.Bundle{Revision: revision, Digest: [32]byte{content}}
	}
	for _, test := range []struct {
		old, next string
		same, ok  bool
	}{
		{"", "1", false, true},
		{"", "2026-05-04T10:15:00Z", false, true},
		{"", "", false, false},
		{"", "v1", false, false},
		{"", "-1", false, false},
		{"7", "8", false, true},
		{"7", "10", false, true},
		{"7", "7", true, true},
		{"7", "7", false, false},
		{"7", "6", false, false},
		{"7", "6", true, false},
		{"7", "", false, false},
		{"7", "2026-05-04T10:15:00Z", false, false},
		{"2026-05-04T10:15:00Z", "99999999999", false, false},
		{"2026-05-04T10:15:00Z", "2026-05-04T10:15:01Z", false, true},
		{"2026-05-04T10:15:00Z", "2026-05-04T12:15:00+02:00", true, true},
		{"2026-05-04T10:15:00Z", "2026-05-04T12:14:59+02:00", false, false},
	} {
		mark := bundle.Mark{}
		if test.old != "" {
			mark = of(test.old, 1).Mark()
		}
		next := of(test.next, 2)
		if test.same {
			next = of(test.next, 1)
		}
		err := next.Follows(mark)
		assert.Equal(t, test.ok, err == nil, "%q after %q: %v", test.next, test.old, err)
	}
}
