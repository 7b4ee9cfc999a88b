package rego

import (
	"encoding/binary"
	"time"

	"github.com/mtls-authz/mtls-authz/rego/reads"
)

// Reads tells which parts of a request the operator's checks can read. Where a
// part decides, it must be unambiguous.
type Reads struct{ Method, Path, Now bool }

func readsOf(keys *reads.Keys) Reads {
	checks := keys.Checks()
	return Reads{Method: checks.Has(reads.Method), Path: checks.RequestPath(), Now: checks.Now()}
}

// Key tells what a remembered decision about the request must be keyed by. A
// caller without app, space or org, which no verified caller is, is told apart
// by the whole input.
func (r *Request) Key() *reads.Key {
	if r.Caller.App.IsZero() || r.Caller.Space.IsZero() || r.Caller.Org.IsZero() {
		return r.Policy.keys.Whole()
	}
	return r.Policy.keys.Of(reads.ShapeOf(r.Live))
}

// AppendPaths appends the values that the input has at these paths, each with
// its path, its type and its length. It must say as [Request.input] does.
func (r *Request) AppendPaths(b []byte, paths reads.Paths) []byte {
	var now time.Time
	if paths.Now() {
		now = r.Now.In(r.Policy.zone)
	}
	for rest := range paths.All() {
		b = r.appendPath(append(b, byte(rest)), rest, now)
	}
	return b
}

// The types of values in keys.
const (
	absent byte = iota
	ofText
	ofGUID
	ofNumber
	ofList
)

func (r *Request) appendPath(b []byte, path reads.Path, now time.Time) []byte {
	switch path {
	case reads.Foundation:
		return appendText(b, r.Caller.Foundation)
	case reads.App:
		return append(append(b, ofGUID), r.Caller.App[:]...)
	case reads.Space:
		return append(append(b, ofGUID), r.Caller.Space[:]...)
	case reads.Org:
		return append(append(b, ofGUID), r.Caller.Org[:]...)
	case reads.Instance:
		return appendText(b, r.Caller.Instance)
	case reads.Method:
		return appendText(b, r.Method)
	case reads.Host:
		return appendText(b, r.Host)
	case reads.RawPath:
		return appendText(b, r.Path)
	case reads.Segments:
		b = binary.BigEndian.AppendUint32(append(b, ofList), uint32(len(r.Segments)))
		for _, segment := range r.Segments {
			b = appendText(b, segment)
		}
		return b
	case reads.Minute:
		return appendNumber(b, now.Hour()*60+now.Minute())
	case reads.Weekday:
		return appendNumber(b, int(now.Weekday()))
	case reads.Date:
		return appendNumber(b, now.Year()*512+now.YearDay())
	}
	if i := int(path - reads.First); i < len(r.Segments) {
		return appendText(b, r.Segments[i])
	}
	return append(b, absent)
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(append(b, ofText), uint32(len(s)))
	return append(b, s...)
}

func appendNumber(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint64(append(b, ofNumber), uint64(n))
}
