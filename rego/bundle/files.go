package bundle

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	opabundle "github.com/open-policy-agent/opa/v1/bundle"
)

// files is what a bundle holds, by names relative to its root that begin with
// a slash.
type files struct {
	modules map[string]opabundle.ModuleFile
	data    map[string]any
}

// read reads a directory or a .tar.gz file with OPA's reader. That passes over
// what it does not know; here nothing is passed over that could have been a
// check.
func read(name string) (files, error) {
	info, err := os.Stat(name)
	if err != nil {
		return files{}, refuse("%w", err)
	}
	var loaded opabundle.Bundle
	if info.IsDir() {
		loaded, err = readDirectory(name)
	} else {
		loaded, err = readArchive(name)
	}
	switch {
	case errors.Is(err, ErrRefused):
		return files{}, err
	case err != nil:
		return files{}, refuse("%w", err)
	case loaded.Type() != opabundle.SnapshotBundleType:
		return files{}, refuse("%s is a delta bundle; expected a whole one", name)
	case len(loaded.WasmModules) > 0 || len(loaded.PlanModules) > 0:
		return files{}, refuse("%s holds compiled policies (.wasm, plan.json), which are not evaluated; expected Rego", name)
	case len(loaded.Modules) == 0 && len(loaded.Data) == 0:
		return files{}, refuse("%s holds neither .rego files nor data.json or data.yaml", name)
	}
	modules := make(map[string]opabundle.ModuleFile, len(loaded.Modules))
	for _, module := range loaded.Modules {
		relative := path.Clean("/" + module.RelativePath)
		if _, ok := modules[relative]; ok {
			return files{}, refuse("%s: two files have this name", module.Path)
		}
		if module.Parsed.RegoVersionSpan().Min() != ast.RegoV1 {
			return files{}, refuse("%s: expected Rego v1; remove rego_version from .manifest", module.Path)
		}
		modules[relative] = module
	}
	return files{modules, loaded.Data}, nil
}

func readDirectory(name string) (opabundle.Bundle, error) {
	// OPA's walk follows no link, not even at the root, and reports nothing.
	root, err := filepath.EvalSymlinks(name)
	if err == nil {
		root, err = filepath.Abs(root)
	}
	if err != nil {
		return opabundle.Bundle{}, err
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return refuseOdd(path, entry.Type())
	})
	if err != nil {
		return opabundle.Bundle{}, err
	}
	return reader(opabundle.NewDirectoryLoader(root)).WithBaseDir(root).Read()
}

func readArchive(name string) (opabundle.Bundle, error) {
	file, err := os.Open(name)
	if err != nil {
		return opabundle.Bundle{}, err
	}
	defer func() { _ = file.Close() }() // only read
	if err := refuseOddEntries(file); err != nil {
		return opabundle.Bundle{}, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return opabundle.Bundle{}, err
	}
	return reader(opabundle.NewTarballLoaderWithBaseURL(file, name)).Read()
}

func reader(loader opabundle.DirectoryLoader) *opabundle.Reader {
	return opabundle.NewCustomReader(loader).WithRegoVersion(ast.RegoV1).WithProcessAnnotations(true)
}

func refuseOddEntries(archive io.Reader) error {
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		return refuse("expected a directory or a .tar.gz file: %w", err)
	}
	entries := tar.NewReader(unzipped)
	for {
		header, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader { // git archive writes one
			continue
		}
		mode := header.FileInfo().Mode().Type()
		if header.Typeflag == tar.TypeLink {
			mode = fs.ModeIrregular
		}
		if err := refuseOdd(header.Name, mode); err != nil {
			return err
		}
	}
}

// refuseOdd refuses what OPA passes over in silence: a check that is not read
// does not deny.
func refuseOdd(name string, mode fs.FileMode) error {
	if !mode.IsRegular() && !mode.IsDir() {
		return refuse("%s: is a link or a special file, which would not be read; put the file itself into the bundle", name)
	}
	if extension := path.Ext(name); mode.IsRegular() && extension != ".rego" && strings.EqualFold(extension, ".rego") {
		return refuse("%s: would not be read; write the extension .rego in lower case", name)
	}
	return nil
}
