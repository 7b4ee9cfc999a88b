package gate

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// fixOf says what was probably meant, or "".
func fixOf(err *ast.Error) string {
	if detail, ok := err.Details.(*ast.RefErrInvalidDetail); ok {
		return fixOfName(detail)
	}
	if name, ok := strings.CutPrefix(err.Message, "undefined function "); ok {
		for _, builtin := range ast.Builtins {
			if builtin.Name == name {
				return "policies may not call it: it reaches outside, or its cost has no bound"
			}
		}
		return "write data.<package>.<function> of the bundle, or a builtin that policies may call"
	}
	return ""
}

func fixOfName(detail *ast.RefErrInvalidDetail) string {
	if len(detail.OneOf) == 0 || detail.Pos >= len(detail.Ref) {
		return ""
	}
	var names []string
	for _, value := range detail.OneOf {
		if name, ok := value.(ast.String); ok {
			names = append(names, string(name))
		}
	}
	there := fmt.Sprintf("%s has %s", detail.Ref[:detail.Pos], strings.Join(names, ", "))
	if name, ok := detail.Ref[detail.Pos].Value.(ast.String); ok {
		if near := nearest(string(name), names); near != "" {
			return fmt.Sprintf("did you mean %s? %s", near, there)
		}
	}
	return there
}

// maxName bounds the names that are compared, in bytes.
const maxName = 64

// nearest returns the name that takes the fewest edits, if these are at most
// one in two letters.
func nearest(name string, names []string) string {
	if len(name) > maxName {
		return ""
	}
	best, found := len(name)/2+1, ""
	for _, candidate := range names {
		if len(candidate) > maxName {
			continue
		}
		if edits := distance(name, candidate); edits < best {
			best, found = edits, candidate
		}
	}
	return found
}

// distance is that of Levenshtein, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edits := diagonal
			if a[i] != b[j] {
				edits++
			}
			diagonal = row[j+1]
			row[j+1] = min(edits, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
