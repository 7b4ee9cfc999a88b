package grants

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrParameters: the parameters are refused. The error's text is one line for
// the developer and names the entry.
var ErrParameters = errors.New("parameters")

func refuse(format string, args ...any) error {
	return &parametersError{fmt.Errorf(format, args...)}
}

// parametersError keeps the sentinel out of the text, which developers read.
type parametersError struct{ error }

func (e *parametersError) Unwrap() error        { return e.error }
func (e *parametersError) Is(target error) bool { return target == ErrParameters }

var knownParameters = []string{"scope", "mode", "report_routes", "assert", "allow", "labels", "annotations"}

func refuseUnknown[V any](object map[string]V) error {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(knownParameters, name) {
			return refuse("unknown parameter %q; known are %s", clip(name), strings.Join(knownParameters, ", "))
		}
	}
	return nil
}

// explainJSON turns an error of encoding/json into the words of the
// parameters: no Go types, no package names.
func explainJSON(err error, what string) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		found, _, _ := strings.Cut(mismatch.Value, " ") // "number", without the number
		if mismatch.Field != "" {
			what = fmt.Sprintf("%s %q", what, clip(mismatch.Field))
		}
		return fmt.Errorf("%s: expected %s, found a JSON %s", what, jsonType(mismatch), found)
	}
	return fmt.Errorf("%s: malformed JSON: %w", what, err)
}

func jsonType(mismatch *json.UnmarshalTypeError) string {
	switch mismatch.Type.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice":
		return "a list"
	}
	return "an object"
}
