// Package bounds limits what one call of a builtin may cost: OPA looks at the
// deadline between calls, and not while most of them work.
//
// It trusts no argument. It fails closed: a call that would cost too much ends
// the evaluation with an error.
package bounds

import (
	"fmt"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
)

// maxCost bounds what one call of a builtin takes, in bytes: twice the longest
// text of data.
const maxCost = 2 * bundle.MaxText

// bounds are of builtins that make much of little and look at no deadline while
// they do: the cost of a call. A call that costs more than maxCost ends the
// evaluation with an error, which denies.
var bounds = map[string]func(operands []*ast.Term) int{
	"split":      all,
	"format_int": all,
	"to_number":  all,
	"trim":       product,
	"trim_left":  product,
	"trim_right": product,
	"concat":     joined,
	"sprintf":    formatted,
}

// Apply puts the bounds before OPA's builtins, once: they are global.
var Apply = sync.OnceFunc(func() {
	for name, cost := range bounds {
		builtin := topdown.GetBuiltin(name)
		topdown.RegisterBuiltinFunc(name, func(ctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
			if cost(operands) > maxCost {
				return topdown.Halt{Err: fmt.Errorf("%s: expected what takes at most %d bytes", name, maxCost)}
			}
			return builtin(ctx, operands, iter)
		})
	}
})

// all is the size of the operands.
func all(operands []*ast.Term) (size int) {
	for _, operand := range operands {
		ast.WalkTerms(operand, func(term *ast.Term) bool {
			size += textLength(term) + 1
			return size > maxCost
		})
	}
	return size
}

// product is that of a text and the set of letters each of its ends is looked
// up in, in pages.
func product(operands []*ast.Term) int {
	const page = 1 << 10
	return max(textLength(operands[0]), textLength(operands[0])*(textLength(operands[1])/page))
}

// joined is the size of elements with a separator between them.
func joined(operands []*ast.Term) int {
	elements := 0
	switch list := operands[1].Value.(type) {
	case *ast.Array:
		elements = list.Len()
	case ast.Set:
		elements = list.Len()
	}
	return all(operands[1:]) + elements*textLength(operands[0])
}

// formatted is the size of a text: its format, its arguments, which each verb
// may write again, and the widths of its verbs.
func formatted(operands []*ast.Term) int {
	format, _ := operands[0].Value.(ast.String)
	size, width, verb := all(operands), 0, false
	for _, letter := range []byte(format) {
		switch {
		case size > maxCost:
			return size
		case letter == '%':
			width, verb = 0, true
		case !verb:
		case letter == '[': // %[1]s writes an argument again
			size += all(operands[1:])
		case letter == '*': // a width that is an argument
			return maxCost + 1
		case '0' <= letter && letter <= '9':
			width = min(width*10+int(letter-'0'), maxCost+1)
			size += width
		default:
			width, verb = 0, strings.IndexByte(" +-#.]", letter) >= 0
		}
	}
	return size
}

func textLength(term *ast.Term) int {
	switch value := term.Value.(type) {
	case ast.String:
		return len(value)
	case ast.Number:
		return len(value)
	}
	return 0
}
