package bundle_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// files of a bundle by path.
type files map[string]string

func directory(t testing.TB, content files) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

// archive writes a .tar.gz file of these entries.
func archive(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	writer := tar.NewWriter(zipped)
	for _, header := range entries {
		content := header.PAXRecords["content"]
		header.PAXRecords = nil
		if header.Typeflag == tar.TypeXGlobalHeader {
			header.PAXRecords = map[string]string{"comment": "as git archive writes"}
		} else {
			header.Mode, header.Size = 0o600, int64(len(content))
		}
		require.NoError(t, writer.WriteHeader(&header))
		_, err := writer.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, writer.Close())
	require.NoError(t, zipped.Close())
	path := filepath.Join(t.TempDir(), "bundle.tar.gz")
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

func entry(name, content string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, PAXRecords: map[string]string{"content": content}}
}

// open reads what lies at path.
func open(path string) (*bundle.Bundle, error) {
	archive, err := bundle.ReadArchive(path)
	if err != nil {
		return nil, err
	}
	return bundle.Read(archive, nil)
}

func load(t testing.TB, path string) *bundle.Bundle {
	t.Helper()
	loaded, err := open(path)
	require.NoError(t, err)
	return loaded
}

// refused demands a refusal that says these words.
func refused(t testing.TB, path string, words ...string) {
	t.Helper()
	_, err := open(path)
	require.ErrorIs(t, err, bundle.ErrRefused)
	for _, word := range words {
		assert.ErrorContains(t, err, word)
	}
}

const yes = "package site.check.one\n\nallow := true\n"

// OPA passes over these in silence.
func TestFilesThatWouldNotBeRead(t *testing.T) {
	root := directory(t, files{"policy.rego": yes})
	elsewhere := directory(t, files{"freeze.rego": "package site.check.freeze\n\nallow := false\n"})

	link := filepath.Join(root, "freeze.rego")
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "freeze.rego"), link))
	refused(t, root, "freeze.rego", "link or a special file")
	require.NoError(t, os.Remove(link))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(root, "more")))
	refused(t, root, "more", "link or a special file")
	require.NoError(t, os.Remove(filepath.Join(root, "more")))
	load(t, root)

	refused(t, directory(t, files{"policy.rego": yes, "freeze.REGO": "package site.check.freeze\n\nallow := false\n"}), "freeze.REGO", "lower case")
	refused(t, directory(t, files{"policy.rego": yes, "policy.wasm": "\x00asm"}), ".wasm")
	refused(t, directory(t, files{"patch.json": `{"data":[{"op":"upsert","path":"/a","value":1}]}`}), "delta bundle")
	refused(t, directory(t, files{}), "neither .rego files nor data")
	refused(t, directory(t, files{"README.md": "# nothing", "grants.json": "{}"}), "neither .rego files nor data")
	refused(t, filepath.Join(root, "missing"), "no such file")
	refused(t, filepath.Join(root, "policy.rego"), "expected a directory or a .tar.gz file")
	refused(t, directory(t, files{"policy.rego": yes, ".manifest": `{"roots":["other"]}`}), "roots")
	refused(t, directory(t, files{".manifest": `{"rego_version":0}`, "policy.rego": "package site.check.one\n\nallow { true }"}), "expected Rego v1")
	refused(t, directory(t, files{"policy.rego": yes, ".signatures.json": `{"signatures":["x"]}`}), "verification")
}

func TestAnUnreadableDirectoryIsNotPassedOver(t *testing.T) {
	if os.Geteuid() == 0 {
		root := directory(t, files{"policy.rego": yes})
		require.NoError(t, os.Symlink("/proc/self/fd/nothing", filepath.Join(root, "dangling.rego")))
		refused(t, root, "dangling.rego") // root may read everything
		return
	}
	root := directory(t, files{"policy.rego": yes, "closed/freeze.rego": "package site.check.freeze\n\nallow := false\n"})
	require.NoError(t, os.Chmod(filepath.Join(root, "closed"), 0))
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(root, "closed"), 0o700) })
	refused(t, root, "permission denied")
}

func TestArchives(t *testing.T) {
	const freeze = "package site.check.freeze\n\nallow := false\n"
	load(t, archive(t, entry("policy.rego", yes)))
	load(t, archive(t, tar.Header{Typeflag: tar.TypeXGlobalHeader}, tar.Header{Name: "./", Typeflag: tar.TypeDir}, entry("./policy.rego", yes)))
	refused(t, archive(t, entry("policy.rego", yes), tar.Header{Name: "freeze.rego", Typeflag: tar.TypeSymlink, Linkname: "policy.rego"}), "freeze.rego", "link")
	refused(t, archive(t, entry("policy.rego", yes), tar.Header{Name: "freeze.rego", Typeflag: tar.TypeLink, Linkname: "policy.rego"}), "freeze.rego", "link")
	refused(t, archive(t, entry("a.rego", freeze), entry("a.rego", yes)), "a.rego", "two files")
	refused(t, archive(t, entry("a.rego", freeze), entry("./a.rego", yes)), "a.rego", "two files")
	refused(t, archive(t, entry("policy.rego", "package site.check.one\n\nallow := {")), "policy.rego:3")
	refused(t, archive(t), "neither .rego files nor data")
}

func TestALinkToTheDirectoryIsFollowed(t *testing.T) {
	root := directory(t, files{"policy.rego": yes})
	link := filepath.Join(t.TempDir(), "current")
	require.NoError(t, os.Symlink(root, link))
	assert.Equal(t, load(t, root).Digest, load(t, link).Digest)
	assert.Len(t, load(t, link).Modules, 1)
}

func TestDigestIsOfTheContentAlone(t *testing.T) {
	content := files{
		"a.rego": yes, "lib/b.rego": "package lib\n\nx := 1\n", "z_test.rego": "package z\n\ntest_z if true\n",
		"data.json": `{"b":{"c":1},"a":[1,2]}`, "lib/data.yaml": "y: 1\n",
	}
	digest := load(t, directory(t, content)).Digest
	assert.Equal(t, digest, load(t, directory(t, content)).Digest, "another location")

	same := maps.Clone(content)
	same["data.json"] = ` {"a": [1, 2], "b": {"c": 1}}`
	same["README.md"] = "not read"
	assert.Equal(t, digest, load(t, directory(t, same)).Digest, "data that says the same")

	names := slices.Sorted(maps.Keys(content))
	for range 2 {
		var entries []tar.Header
		for _, name := range names {
			entries = append(entries, entry("./"+name, content[name]))
		}
		assert.Equal(t, digest, load(t, archive(t, entries...)).Digest, "packed, in any order")
		slices.Reverse(names)
	}

	seen := map[[32]byte]string{digest: "", load(t, directory(t, files{"data.json": "{}", "policy.rego": yes})).Digest: "another"}
	for _, change := range []func(files){
		func(f files) { f["a.rego"] += "\n" },
		func(f files) { f["lib/b.rego"] = "package lib\n\nx := 2\n" },
		func(f files) { delete(f, "lib/b.rego") },
		func(f files) { f["c.rego"] = f["a.rego"]; delete(f, "a.rego") },
		func(f files) { f["data.json"] = `{"b":{"c":1},"a":[2,1]}` },
		func(f files) { f["data.json"] = `{"b":{"c":"1"},"a":[1,2]}` },
		func(f files) { delete(f, "data.json") },
	} {
		changed := maps.Clone(content)
		change(changed)
		digest := load(t, directory(t, changed)).Digest
		assert.NotContains(t, seen, digest, "%v", changed)
		seen[digest] = "changed"
	}
}
