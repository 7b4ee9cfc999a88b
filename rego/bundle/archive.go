package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	opabundle "github.com/open-policy-agent/opa/v1/bundle"
)

// signatures is the file that holds the signature of a bundle.
const signatures = ".signatures.json"

// Limits of a bundle. They bound what reading one costs, whoever made it.
const (
	// MaxArchive is the size of a .tar.gz file, in bytes.
	MaxArchive = 8 << 20
	// MaxContent is the size of all files together, unpacked, in bytes.
	MaxContent = 32 << 20
	// MaxRego is the size of all .rego files together, in bytes: compiling
	// takes far more than reading, and cannot be interrupted.
	MaxRego = 1 << 20
	// MaxFiles is the number of files and directories.
	MaxFiles = 2000
)

// ReadArchive returns the bundle at name as a .tar.gz archive: a file as it
// is, a directory packed.
func ReadArchive(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	if info.IsDir() {
		return pack(name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	defer func() { _ = file.Close() }() // only read
	return ReadLimited(file)
}

// ReadLimited reads an archive of at most MaxArchive bytes, to its end.
func ReadLimited(from io.Reader) ([]byte, error) {
	archive, err := io.ReadAll(io.LimitReader(from, MaxArchive+1))
	if err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	if len(archive) > MaxArchive {
		return nil, Refuse(StepRead, nil, "the archive is larger than %d MiB", MaxArchive>>20)
	}
	return archive, nil
}

// A quota is what is left of the limits.
type quota struct{ files, content, rego int64 }

func newQuota() *quota { return &quota{MaxFiles, MaxContent, MaxRego} }

// take counts one file of so many bytes.
func (q *quota) take(name string, size int64) error {
	if q.files--; q.files < 0 {
		return Refuse(StepRead, nil, "more than %d files", MaxFiles)
	}
	if size < 0 || size > q.content {
		return Refuse(StepRead, nil, "%s: all files together are larger than %d MiB", name, MaxContent>>20)
	}
	q.content -= size
	if path.Ext(name) == ".rego" {
		if size > q.rego {
			return Refuse(StepRead, nil, "%s: all .rego files together are larger than %d MiB", name, MaxRego>>20).
				WithFix("keep what is data in data.json")
		}
		q.rego -= size
	}
	return nil
}

// Inspect refuses an archive that is too large when unpacked, or that holds
// what OPA would pass over in silence. It must come before OPA's reader, which
// believes the sizes that an archive gives.
func Inspect(archive []byte) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return Refuse(StepRead, nil, "expected a directory or a .tar.gz file: %v", err)
	}
	// Headers, padding and what follows the last file count too.
	const overhead = 4 << 20
	bounded := &io.LimitedReader{R: unzipped, N: MaxContent + overhead}
	left, seen, entries := newQuota(), map[string]bool{}, tar.NewReader(bounded)
	for {
		header, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && bounded.N <= 0:
			return Refuse(StepRead, nil, "the archive is larger than %d MiB when unpacked", MaxContent>>20)
		case err != nil:
			return Refuse(StepRead, nil, "the archive is damaged: %v", err)
		case header.Typeflag == tar.TypeXGlobalHeader: // git archive writes one
			continue
		}
		if err := inspectEntry(header, seen); err != nil {
			return err
		}
		if err := left.take(header.Name, header.Size); err != nil {
			return err
		}
	}
}

func inspectEntry(header *tar.Header, seen map[string]bool) error {
	mode := fs.ModeIrregular // links, devices, and kinds that OPA skips
	switch header.Typeflag {
	case tar.TypeReg:
		mode = 0
	case tar.TypeDir:
		mode = fs.ModeDir
	}
	if err := refuseOdd(header.Name, mode); err != nil {
		return err
	}
	for element := range strings.SplitSeq(header.Name, "/") {
		if element == ".." {
			return Refuse(StepRead, nil, "%q: a name that leaves the archive", header.Name)
		}
	}
	clean := path.Clean("/" + header.Name)
	if seen[clean] && mode == 0 {
		return Refuse(StepRead, nil, "%s: two files have this name", header.Name)
	}
	seen[clean] = true
	return nil
}

// refuseOdd refuses what OPA passes over in silence: a check that is not read
// does not deny.
func refuseOdd(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && !mode.IsDir() {
		return Refuse(StepRead, nil, "%s: is a link or a special file, which would not be read", name).
			WithFix("put the file itself into the bundle")
	}
	if extension := path.Ext(name); mode.IsRegular() && extension != ".rego" && strings.EqualFold(extension, ".rego") {
		return Refuse(StepRead, nil, "%s: would not be read", name).WithFix("write the extension .rego in lower case")
	}
	return nil
}

// pack makes an archive of a directory: always the same bytes of the same
// files. What no bundle is made of is left out, unless a signature covers it.
func pack(name string) ([]byte, error) {
	root, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	opened, err := os.OpenRoot(root)
	if err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	defer func() { _ = opened.Close() }() // only read
	_, err = opened.Stat(signatures)
	p := &packer{left: newQuota(), root: opened.FS(), signed: err == nil}
	zipped, _ := gzip.NewWriterLevel(&p.out, gzip.BestSpeed) // the level is one
	p.tar = tar.NewWriter(zipped)
	if err := fs.WalkDir(p.root, ".", p.add); err != nil {
		return nil, RefusalOf(StepRead, err)
	}
	if err := errors.Join(p.tar.Close(), zipped.Close()); err != nil {
		return nil, Refuse(StepRead, nil, "%v", err)
	}
	return p.out.Bytes(), nil
}

type packer struct {
	out    bytes.Buffer
	tar    *tar.Writer
	left   *quota
	root   fs.FS
	signed bool
}

func (p *packer) add(name string, entry fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case entry.IsDir() && entry.Name() == ".git":
		return fs.SkipDir
	case strings.HasPrefix(entry.Name(), ".#"): // Emacs marks a file that is being edited by a dangling link
		return nil
	}
	if err := refuseOdd(name, entry.Type()); err != nil {
		return err
	}
	if entry.IsDir() || !p.signed && !isPart(entry.Name()) {
		return nil
	}
	file, err := p.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	// The size is that of what is read: the file may be growing.
	content, err := io.ReadAll(io.LimitReader(file, p.left.content+1))
	if err != nil {
		return err
	}
	if err := p.left.take(name, int64(len(content))); err != nil {
		return err
	}
	if err := p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err = p.tar.Write(content)
	return err
}

// isPart tells what OPA makes a bundle of.
func isPart(name string) bool {
	switch name {
	case "data.json", "data.yaml", "data.yml", "patch.json", opabundle.WasmFile, opabundle.PlanFile, opabundle.PlanProtoFile, signatures:
		return true
	}
	return strings.HasSuffix(name, opabundle.RegoExt) || strings.HasSuffix(name, opabundle.ManifestExt) || strings.HasSuffix(name, opabundle.ManifestProtoExt)
}
