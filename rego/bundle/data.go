package bundle

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MaxText is the length of a string or a key in data, in bytes. Builtins that
// take a string apart look at no deadline while they work.
const MaxText = 64 << 10

// refuseLong refuses data with a string or a key that is too long.
func refuseLong(data map[string]any) error {
	path, kind, length := long(data)
	if length == 0 {
		return nil
	}
	slices.Reverse(path)
	name := "data" + strings.Join(path, "")
	const shown = 256
	if len(name) > shown {
		name = name[:shown] + "…"
	}
	return Refuse(StepRead, nil, "%q holds %s of %d bytes; at most %d are allowed", name, kind, length, MaxText).
		WithFix("write a list of shorter ones")
}

// long finds the first string that is too long, with its path from the end;
// length 0 if there is none.
func long(value any) (path []string, kind string, length int) {
	switch value := value.(type) {
	case string:
		if len(value) > MaxText {
			return nil, "a string", len(value)
		}
	case json.Number:
		if len(value) > MaxText {
			return nil, "a number", len(value)
		}
	case []any:
		for i, element := range value {
			if path, kind, length = long(element); length > 0 {
				return append(path, fmt.Sprintf("[%d]", i)), kind, length
			}
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if len(key) > MaxText {
				return nil, "a key", len(key)
			}
			if path, kind, length = long(value[key]); length > 0 {
				return append(path, "."+key), kind, length
			}
		}
	}
	return nil, "", 0
}
