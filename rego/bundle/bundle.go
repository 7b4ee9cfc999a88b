package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/policies"
)

// ErrRefused: the operator's bundle cannot be activated. The text names the
// file and the line where there is one.
var ErrRefused = errors.New("policy bundle refused")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrRefused}, args...)...)
}

// A Bundle is the built-in policy and the operator's, compiled.
type Bundle struct {
	Compiler *ast.Compiler
	// Data is the operator's data.
	Data map[string]any
	// Site are the operator's grants.
	Site *grants.Site
	// Digest is the SHA-256 of the content: names of files within the bundle,
	// modules and data, wherever the bundle lies and however it is packed.
	Digest [sha256.Size]byte
}

// sources is what a policy is compiled from.
type sources struct {
	// modules decide and tests do not; both by a name that no bundle can choose
	// for a built-in module.
	modules, tests map[string]*ast.Module
	data           map[string]any
	site           *grants.Site
	digest         hash.Hash
}

// Load reads the built-in bundle and, if path is not empty, the operator's
// beside it: a directory or a .tar.gz file. It runs the bundle's tests, so it
// can take seconds.
func Load(ctx context.Context, path string) (*Bundle, error) {
	s := &sources{
		modules: map[string]*ast.Module{}, tests: map[string]*ast.Module{},
		data: map[string]any{}, site: &grants.Site{}, digest: sha256.New(),
	}
	if err := s.readBuiltIn(); err != nil {
		return nil, err
	}
	var found checks
	if path != "" {
		if err := s.readOperators(path); err != nil {
			return nil, err
		}
		var err error
		if found, err = s.findChecks(); err != nil {
			return nil, err
		}
	}
	compiler, err := s.compileAll(found)
	if err != nil {
		return nil, err
	}
	if err := s.runTests(ctx); err != nil {
		return nil, err
	}
	return &Bundle{Compiler: compiler, Data: s.data, Site: s.site, Digest: [sha256.Size]byte(s.digest.Sum(nil))}, nil
}

// note adds one part to the digest; hashing each part first keeps them apart.
func (s *sources) note(part []byte) {
	sum := sha256.Sum256(part)
	s.digest.Write(sum[:])
}

func (s *sources) readBuiltIn() error {
	return fs.WalkDir(policies.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		source, err := fs.ReadFile(policies.Files, path)
		if err != nil {
			return err
		}
		s.note(source)
		if !strings.HasSuffix(path, ".rego") {
			return nil
		}
		module, err := ast.ParseModuleWithOpts(path, string(source), ast.ParserOptions{RegoVersion: ast.RegoV1})
		s.modules[path] = module
		return err
	})
}

// readOperators reads modules, tests and data.
func (s *sources) readOperators(path string) error {
	files, err := read(path)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files.modules)) {
		module := files.modules[name]
		if err := refuseForeign(module.Parsed); err != nil {
			return err
		}
		into := s.modules
		if strings.HasSuffix(name, "_test.rego") {
			into = s.tests
		}
		into["bundle:"+name] = module.Parsed
		s.note([]byte(name))
		s.note(module.Raw)
	}
	data, err := json.Marshal(files.data) // sorts keys
	if err != nil {
		return refuse("data: %w", err)
	}
	s.note(data)
	s.data = files.data
	return s.readSite()
}

// readSite checks what the data may hold and reads the operator's grants.
func (s *sources) readSite() error {
	if _, ok := s.data["mtls"]; ok {
		return refuse("data.mtls belongs to the gateway; the bundle must not have data below it")
	}
	root, ok := s.data["site"]
	if !ok {
		return nil
	}
	site, ok := root.(map[string]any)
	if !ok {
		return refuse("data.site: expected an object")
	}
	if _, ok := site["check"]; ok {
		return refuse("data.site.check is data, but checks are packages with a rule allow")
	}
	entries, ok := site["grants"]
	if !ok {
		return nil
	}
	if _, ok := entries.([]any); !ok {
		return refuse("data.site.grants: expected a list of grants")
	}
	raw, err := json.Marshal(map[string]any{"allow": entries})
	if err != nil {
		return refuse("data.site.grants: %w", err)
	}
	parsed, err := parameters.ParseStored(raw)
	if err != nil {
		return refuse("data.site.grants: %w", err)
	}
	s.site.Grants = parsed.Allow
	return nil
}
