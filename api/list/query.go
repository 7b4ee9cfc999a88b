// Package list is a list as Cloud Controller's v3 API has it: the query that
// asks for one (filters, page, order) and the answer with its pagination.
//
// It trusts no query. What it does not know, or is told twice, it refuses and
// says what is allowed: a filter that was dropped in silence would show
// something else than what was asked for.
package list

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	defaultSize = 50
	maxSize     = 5000
	// maxNumber keeps the number of rows to skip far from what overflows.
	maxNumber = 1_000_000
	// maxValues bounds the values of one filter: each is a part of a database
	// query.
	maxValues = 100
	maxText   = 1024 // bytes of one value
)

// A Query is what a list request asks for, besides its filters.
type Query struct {
	// Number counts pages from 1; Size is the most that one holds.
	Number, Size int
	// Descending: newest first.
	Descending bool

	given url.Values
}

// A Param takes the value of a query parameter, or refuses it with what is
// allowed.
type Param func(value string) error

// Parse reads the query of a list with these filters. Without order_by the list
// is oldest first, or newest first if descending is set. Every error is the
// client's, and safe to show.
func Parse(raw string, filters map[string]Param, descending bool) (Query, error) {
	q := Query{Number: 1, Size: defaultSize, Descending: descending}
	params := map[string]Param{"page": Number(&q.Number, maxNumber), "per_page": Number(&q.Size, maxSize), "order_by": order(&q.Descending)}
	maps.Copy(params, filters)
	var err error
	q.given, err = ParseParams(raw, params)
	return q, err
}

// ParseParams reads a query that may have these parameters, each once. Every
// error is the client's, and safe to show.
func ParseParams(raw string, params map[string]Param) (url.Values, error) {
	given, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("the query is malformed: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		take, values := params[name], given[name]
		if take == nil {
			known := "none is known here"
			if len(params) > 0 {
				known = "known are " + strings.Join(slices.Sorted(maps.Keys(params)), ", ")
			}
			return nil, fmt.Errorf("unknown query parameter %q; %s", clip(name), known)
		}
		if len(values) > 1 {
			return nil, fmt.Errorf("query parameter %q is there %d times; give it once, with commas between its values", name, len(values))
		}
		if err := take(values[0]); err != nil {
			return nil, fmt.Errorf("query parameter %q: %w", name, err)
		}
	}
	return given, nil
}

// Number takes a number from 1 to most.
func Number(into *int, most int) Param {
	return func(value string) (err error) {
		*into, err = strconv.Atoi(value)
		if err != nil || *into < 1 || *into > most {
			return fmt.Errorf("%q: expected a number from 1 to %d", clip(value), most)
		}
		return nil
	}
}

func order(descending *bool) Param {
	return func(value string) error {
		switch value {
		case "created_at":
			*descending = false
		case "-created_at":
			*descending = true
		default:
			return fmt.Errorf("%q: expected created_at or -created_at", clip(value))
		}
		return nil
	}
}

// Strings takes a list of values with commas between them, as check spells
// them.
func Strings(into *[]string, check func(string) (string, error)) Param {
	return func(value string) error {
		if n := strings.Count(value, ",") + 1; n > maxValues {
			return fmt.Errorf("%d values; at most %d are allowed", n, maxValues)
		}
		for one := range strings.SplitSeq(value, ",") {
			checked, err := check(one)
			if err != nil {
				return fmt.Errorf("%q: %w", clip(one), err)
			}
			*into = append(*into, checked)
		}
		return nil
	}
}

// Time takes a time of RFC 3339.
func Time(into *time.Time) Param {
	return func(value string) error {
		at, err := time.Parse(time.RFC3339, value)
		if year := at.UTC().Year(); err != nil || year < 1970 || year > 9999 {
			return fmt.Errorf("%q: expected a time like 2026-12-31T00:00:00Z (RFC 3339)", clip(value))
		}
		*into = at.UTC()
		return nil
	}
}

var guid = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$`)

// GUID accepts the ids that the broker does.
func GUID(value string) (string, error) {
	if !guid.MatchString(value) {
		return "", errors.New("expected a guid: 1 to 128 letters, digits or any of . _ ~ -")
	}
	return value, nil
}

// OneOf accepts these names.
func OneOf(names ...string) func(string) (string, error) {
	return func(value string) (string, error) {
		if !slices.Contains(names, value) {
			return "", fmt.Errorf("expected one of %s", strings.Join(names, ", "))
		}
		return value, nil
	}
}

// Text accepts printable text.
func Text(value string) (string, error) {
	if value == "" || len(value) > maxText || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", fmt.Errorf("expected printable text of at most %d bytes", maxText)
	}
	return value, nil
}

// clip bounds what is quoted in an error.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
