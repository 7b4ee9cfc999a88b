package gate

import (
	"encoding/json"
	"maps"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/policies"
	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

var (
	inputRef     = ast.MustParseRef("input")
	grantsRef    = ast.MustParseRef("data.site.grants")
	inputSchema  = ast.MustParseRef("schema.input")
	grantsSchema = ast.MustParseRef("schema.grants")
)

// schemas make a misspelt path or a comparison of the wrong type an error at
// activation: under negation it would allow.
var schemas = sync.OnceValue(func() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	put := func(file string, refs ...ast.Ref) {
		var schema any
		text, err := policies.Files.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &schema)
		}
		if err != nil {
			panic("gate: embedded schema: " + err.Error()) // a build that cannot pass its tests
		}
		for _, ref := range refs {
			set.Put(ref, schema)
		}
	}
	put(policies.InputSchema, ast.SchemaRootRef, inputSchema)
	put(policies.GrantsSchema, grantsSchema)
	return set
})

// refuseSchemas refuses annotations that would replace the gateway's schemas
// by weaker ones, and gives each package of the operator the schema of the
// grants.
func (s *sources) refuseSchemas() error {
	packages := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(s.modules)) {
		module := s.modules[name]
		for _, annotations := range module.Annotations {
			for _, schema := range annotations.Schemas {
				if err := refuseSchema(schema, annotations.Location); err != nil {
					return err
				}
			}
		}
		path := module.Package.Path.String()
		if packages[path] {
			continue
		}
		packages[path] = true
		annotations := s.packageAnnotations(module)
		annotations.Schemas = append(annotations.Schemas, &ast.SchemaAnnotation{Path: grantsRef, Schema: grantsSchema})
	}
	return nil
}

func refuseSchema(schema *ast.SchemaAnnotation, at *ast.Location) error {
	for owned, by := range map[*ast.Ref]ast.Ref{&inputRef: inputSchema, &grantsRef: grantsSchema} {
		overlaps, same := schema.Path.HasPrefix(*owned) || owned.HasPrefix(schema.Path), schema.Path.Equal(*owned) && schema.Schema.Equal(by)
		if overlaps && !same {
			return bundle.Refuse(bundle.StepTypes, at, "a schema of %s would replace the gateway's", schema.Path).
				WithFix("remove it, or write %s: %s", *owned, by)
		}
	}
	if schema.Schema != nil && schemas().Get(schema.Schema) == nil {
		return bundle.Refuse(bundle.StepTypes, at, "there is no %s", schema.Schema).
			WithFix("write the schema in place, or one of %s and %s", inputSchema, grantsSchema)
	}
	return nil
}

// packageAnnotations returns the annotations of the package that the module is
// of; there may be one of scope package in all of its files.
func (s *sources) packageAnnotations(module *ast.Module) *ast.Annotations {
	for _, name := range slices.Sorted(maps.Keys(s.modules)) {
		other := s.modules[name]
		if !other.Package.Path.Equal(module.Package.Path) {
			continue
		}
		for _, annotations := range other.Annotations {
			if annotations.Scope == "package" {
				return annotations
			}
		}
	}
	added := (&ast.Annotations{Scope: "package", Location: module.Package.Location}).Copy(module.Package)
	module.Annotations = append(module.Annotations, added)
	return added
}
