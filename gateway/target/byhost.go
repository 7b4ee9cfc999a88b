package target

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mtls-authz/mtls-authz/grants/route"
)

// ByHost is a setting whose value may differ by the host of a route.
type ByHost[T any] struct {
	patterns []hostValue[T]
	fallback T
}

type hostValue[T any] struct {
	pattern route.Route
	value   T
}

// ParseByHost reads "value" or a list "pattern=value,...,default": patterns are
// hosts or *.suffix, the longest match counts, the default stands last. Without
// a default in the text, fallback is it.
func ParseByHost[T any](text string, fallback T, parse func(string) (T, error)) (ByHost[T], error) {
	b := ByHost[T]{fallback: fallback}
	items := strings.Split(text, ",")
	for i, item := range items {
		pattern, raw, isPattern := strings.Cut(strings.TrimSpace(item), "=")
		if !isPattern {
			raw = pattern
		}
		value, err := parse(strings.TrimSpace(raw))
		if err != nil {
			return ByHost[T]{}, err
		}
		if !isPattern {
			if i != len(items)-1 {
				return ByHost[T]{}, fmt.Errorf("%q: the default must stand last, after the pattern=value entries", item)
			}
			b.fallback = value
			continue
		}
		route, err := route.Parse(strings.TrimSpace(pattern))
		if err != nil || route.Path != "" {
			return ByHost[T]{}, fmt.Errorf("%q: expected a host or *.suffix before the =", item)
		}
		b.patterns = append(b.patterns, hostValue[T]{route, value})
	}
	slices.SortStableFunc(b.patterns, func(x, y hostValue[T]) int { return len(y.pattern.Host) - len(x.pattern.Host) })
	return b, nil
}

// For returns the value for a host.
func (b ByHost[T]) For(host string) T {
	for _, p := range b.patterns {
		if p.pattern.MatchHost(host) {
			return p.value
		}
	}
	return b.fallback
}

// Values returns every value once for each place it stands, the default last.
func (b ByHost[T]) Values() []T {
	var values []T
	for _, p := range b.patterns {
		values = append(values, p.value)
	}
	return append(values, b.fallback)
}

// WithDefault returns the same with another default.
func (b ByHost[T]) WithDefault(value T) ByHost[T] {
	b.fallback = value
	return b
}
