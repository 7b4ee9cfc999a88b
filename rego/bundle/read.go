package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	opabundle "github.com/open-policy-agent/opa/v1/bundle"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
)

// A Bundle is what the operator wrote, parsed. It has passed no test yet.
type Bundle struct {
	// Modules decide and Tests do not: files *_test.rego. The keys begin with
	// Prefix, so that no file can stand in for a module of the gateway.
	Modules, Tests map[string]*ast.Module
	// Data is all of data, Site the operator's grants in it.
	Data map[string]any
	Site *grants.Site
	// Revision is that of .manifest, "" if there is none.
	Revision string
	// Digest is the SHA-256 of the content: names of files, modules and data,
	// wherever the bundle lies and however it is packed.
	Digest [sha256.Size]byte
}

// Prefix begins the keys of the operator's modules.
const Prefix = "bundle:"

// None is the bundle where none is configured.
func None() *Bundle {
	return &Bundle{Modules: map[string]*ast.Module{}, Tests: map[string]*ast.Module{}, Data: map[string]any{}, Site: &grants.Site{}}
}

// Read reads an archive. With a key, it must carry that key's signature over
// each of its files. Every error is a [*Refusal].
func Read(archive []byte, key *Key) (*Bundle, error) {
	if err := Inspect(archive); err != nil {
		return nil, err
	}
	reader := opabundle.NewCustomReader(opabundle.NewTarballLoaderWithBaseURL(bytes.NewReader(archive), "")).
		WithRegoVersion(ast.RegoV1).WithProcessAnnotations(true).WithSizeLimitBytes(MaxContent)
	if key != nil {
		reader = reader.WithBundleVerificationConfig(key.config())
	}
	loaded, err := reader.Read()
	if err != nil {
		return nil, refusalOfReader(err)
	}
	if err := refuseKinds(&loaded); err != nil {
		return nil, err
	}
	b := None()
	b.Data, b.Revision = loaded.Data, loaded.Manifest.Revision
	if err := refuseLong(b.Data); err != nil {
		return nil, err
	}
	digest := sha256.New()
	note := func(part []byte) { // hashing each part first keeps them apart
		sum := sha256.Sum256(part)
		digest.Write(sum[:])
	}
	modules := map[string]opabundle.ModuleFile{}
	for _, module := range loaded.Modules {
		modules[path.Clean("/"+module.RelativePath)] = module
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		into := b.Modules
		if strings.HasSuffix(name, "_test.rego") {
			into = b.Tests
		}
		into[Prefix+name] = modules[name].Parsed
		note([]byte(name))
		note(modules[name].Raw)
	}
	data, err := json.Marshal(b.Data) // sorts keys
	if err != nil {
		return nil, RefusalOf(StepRead, err)
	}
	note(data)
	b.Digest = [sha256.Size]byte(digest.Sum(nil))
	return b, b.readSite()
}

// refusalOfReader tells from what OPA's reader says which step failed.
func refusalOfReader(err error) *Refusal {
	text := err.Error()
	for _, word := range []string{"signature", "JWT", "verification key", "digest mismatch", "scope mismatch", "hashing algorithm"} {
		if strings.Contains(text, word) {
			refusal := Refuse(StepSignature, nil, "%v", err)
			if strings.Contains(text, "verification key not provided") {
				return refusal.WithFix("set POLICY_VERIFICATION_KEY_FILE, or remove %s", signatures)
			}
			return refusal
		}
	}
	refusal := RefusalOf(StepParse, err)
	if strings.Contains(text, "keyword is required before rule body") || strings.Contains(text, "keyword is required for partial set") {
		return refusal.WithFix("write Rego v1: allow if { ... }, names contains x if { ... }")
	}
	return refusal
}

// refuseKinds refuses what is no policy in Rego v1.
func refuseKinds(loaded *opabundle.Bundle) error {
	switch {
	case loaded.Type() != opabundle.SnapshotBundleType:
		return Refuse(StepRead, nil, "a delta bundle; expected a whole one")
	case len(loaded.WasmModules) > 0 || len(loaded.PlanModules) > 0:
		return Refuse(StepRead, nil, "the bundle holds compiled policies (.wasm, plan.json), which are not evaluated; expected Rego")
	case len(loaded.Modules) == 0 && len(loaded.Data) == 0:
		return Refuse(StepRead, nil, "the bundle holds neither .rego files nor data.json or data.yaml")
	}
	for _, module := range loaded.Modules {
		if module.Parsed.RegoVersionSpan().Min() != ast.RegoV1 {
			return Refuse(StepParse, &ast.Location{File: module.Path}, "expected Rego v1").WithFix("remove rego_version from .manifest")
		}
	}
	return nil
}

// readSite checks what the data may hold and reads the operator's grants.
func (b *Bundle) readSite() error {
	if _, ok := b.Data["mtls"]; ok {
		return Refuse(StepLayout, nil, "data.mtls belongs to the gateway; the bundle must not have data below it")
	}
	root, ok := b.Data["site"]
	if !ok {
		return nil
	}
	site, ok := root.(map[string]any)
	if !ok {
		return Refuse(StepLayout, nil, "data.site: expected an object")
	}
	if _, ok := site["check"]; ok {
		return Refuse(StepLayout, nil, "data.site.check is data, but checks are packages with a rule allow")
	}
	entries, ok := site["grants"]
	if !ok {
		return nil
	}
	if _, ok := entries.([]any); !ok {
		return Refuse(StepGrants, nil, "data.site.grants: expected a list of grants")
	}
	raw, err := json.Marshal(map[string]any{"allow": entries})
	if err != nil {
		return Refuse(StepGrants, nil, "data.site.grants: %v", err)
	}
	parsed, err := parameters.ParseStored(raw)
	if err != nil {
		return Refuse(StepGrants, nil, "data.site.grants: %v", err)
	}
	for i, grant := range parsed.Allow {
		if grant.Source.Kind == grants.Named {
			return Refuse(StepGrants, nil, "data.site.grants[%d]: source %q: the operator's grants belong to no org in which a name could be looked up; use cf:app:<guid>, cf:space:<guid> or cf:org:<guid>", i, grant.Source)
		}
	}
	b.Site.Grants = parsed.Allow
	return nil
}
