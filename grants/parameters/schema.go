package parameters

import (
	_ "embed"
	"encoding/json"
)

// A SchemaFor names what parameters a schema describes.
type SchemaFor int

// The three slots of a service plan's schemas.
const (
	CreateInstance SchemaFor = iota
	UpdateInstance
	CreateBinding
)

//go:embed schema.json
var schemaJSON []byte

// notIn lists the parameters that a slot does not take.
var notIn = map[SchemaFor][]string{
	CreateInstance: {"allow_add", "allow_remove"},
	UpdateInstance: {},
	CreateBinding:  {"allow_add", "allow_remove", "mode", "report_routes", "assert"},
}

// Schema returns the JSON schema (draft-04, as Cloud Controller demands) of the
// parameters. It describes them to tools and people; the parser of this package
// decides.
func Schema(slot SchemaFor) map[string]any {
	var schema map[string]any
	if err := json.Unmarshal(schemaJSON, &schema); err != nil {
		panic("parameters: embedded schema: " + err.Error()) // a build that cannot pass its tests
	}
	properties := schema["properties"].(map[string]any)
	for _, name := range notIn[slot] {
		delete(properties, name)
	}
	if slot == UpdateInstance {
		for _, property := range properties {
			allowNull(property.(map[string]any))
		}
	}
	return schema
}

// allowNull lets an update, which is a merge patch, remove a parameter or one
// of its members.
func allowNull(property map[string]any) {
	property["type"] = []any{property["type"], "null"}
	if values, ok := property["enum"].([]any); ok {
		property["enum"] = append(values, nil)
	}
	if members, ok := property["additionalProperties"].(map[string]any); ok {
		allowNull(members)
	}
}
