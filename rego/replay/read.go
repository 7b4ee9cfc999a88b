package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
)

// ErrMalformed: a line, or an input, is not one that package recording wrote.
var ErrMalformed = errors.New("malformed recorded input")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// maxLine bounds a line, in bytes. The largest that can be written, about a
// caller with the most and longest grants in every list, stays below.
const maxLine = 8 << 20

// Read reads lines as package recording writes them. A line that is not exactly such
// a line gives an [ErrMalformed] with its number, and reading goes on with the
// next one.
func Read(r io.Reader) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxLine)
		number := 1
		for ; lines.Scan(); number++ {
			recorded, err := parseLine(lines.Bytes())
			if err != nil {
				recorded, err = Recorded{}, fmt.Errorf("line %d: %w", number, err)
			}
			if !yield(recorded, err) {
				return
			}
		}
		if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(Recorded{}, fmt.Errorf("line %d: %w", number, malformed("longer than %d bytes", maxLine)))
		} else if err != nil {
			yield(Recorded{}, fmt.Errorf("line %d: %w", number, err))
		}
	}
}

func parseLine(line []byte) (Recorded, error) {
	var r Recorded
	if err := strict(line, &r); err != nil {
		return Recorded{}, err
	}
	if _, err := r.parse(); err != nil {
		return Recorded{}, err
	}
	return r, nil
}

// ParseInput reads one input document alone, such as a policy author writes by
// hand: the route has no grants but those in it, and those of the operator that
// come with the policy.
func ParseInput(document []byte) (Recorded, error) {
	r := Recorded{OperatorGrants: NewGrants(), Omitted: []string{}}
	if err := strict(document, &r.Input); err != nil {
		return Recorded{}, err
	}
	r.Route, r.Binding = r.Input.Route.Host+r.Input.Route.Path, r.Input.Route.Binding
	if _, err := r.parse(); err != nil {
		return Recorded{}, err
	}
	return r, nil
}

// strict decodes a closed document in which every member must be: encoding/json
// alone would take a missing, a null or a differently spelled one for empty.
func strict(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return malformed("%w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return malformed("expected one JSON object, found more after it")
	}
	var given, expected any
	again, err := json.Marshal(into)
	if err == nil {
		err = errors.Join(json.Unmarshal(text, &given), json.Unmarshal(again, &expected))
	}
	if err != nil {
		return malformed("%w", err)
	}
	return sameShape("", given, expected)
}

// sameShape compares the members of two documents, not their values.
func sameShape(path string, given, expected any) error {
	switch expected := expected.(type) {
	case map[string]any:
		object, ok := given.(map[string]any)
		if !ok {
			return malformed("%q is null", path)
		}
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if _, ok := expected[name]; !ok {
				return malformed("%q: not a member, or empty", path+"."+name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(expected)) {
			value, ok := object[name]
			if !ok {
				return malformed("%q is missing", path+"."+name)
			}
			if err := sameShape(path+"."+name, value, expected[name]); err != nil {
				return err
			}
		}
	case []any:
		list, ok := given.([]any)
		if !ok || len(list) != len(expected) {
			return malformed("%q: expected a list", path)
		}
		for i := range list {
			if err := sameShape(fmt.Sprintf("%s[%d]", path, i), list[i], expected[i]); err != nil {
				return err
			}
		}
	case nil:
		return malformed("%q is null", path)
	default:
		if given == nil {
			return malformed("%q is null", path)
		}
	}
	return nil
}

// ParseOne reads one line as package recording writes it, or an input document.
func ParseOne(text []byte) (Recorded, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return Recorded{}, malformed("expected one recorded request, or one input document: %w", err)
	}
	if _, isLine := members["input"]; isLine {
		return parseLine(text)
	}
	return ParseInput(text)
}
