// Package mistake says what is wrong with what people have written, in their words.
package mistake

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Clip bounds outside input that is quoted in an error.
func Clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// OfJSON turns an error of encoding/json into the words of the
// parameters: no Go types, no package names.
func OfJSON(err error, what string) error {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		found, _, _ := strings.Cut(mismatch.Value, " ") // "number", without the number
		if mismatch.Field != "" {
			what = fmt.Sprintf("%s %q", what, Clip(mismatch.Field))
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
