package parameters

import (
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

// clip bounds outside input that is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
