package sightings

import (
	"strings"
	"unicode"
)

// Bounds of texts, in bytes.
const (
	maxID    = 128
	maxField = 256
	maxPath  = 1 << 10
)

// text copies what may be a part of a request, bounded and printable: a database
// does not take everything, and people read it.
func text(s string, most int) string { return strings.Clone(plain(s, most)) }

// plain is text that may be the request's own.
func plain(s string, most int) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s[:min(len(s), most)])
}

// copy keeps nothing of the request that the decision is about.
func (d *Decision) copy() Decision {
	c := *d
	c.Cut = len(d.Path) > maxPath
	c.DecisionID, c.Binding, c.App = text(d.DecisionID, maxID), text(d.Binding, maxID), text(d.App, maxID)
	c.Owner = text(d.Owner, maxID)
	c.Space, c.Org, c.Route = text(d.Space, maxID), text(d.Org, maxID), text(d.Route, maxPath)
	c.Policy, c.Reason, c.Detail = text(d.Policy, maxField), text(d.Reason, maxField), text(d.Detail, maxField)
	c.Method, c.Host, c.Path = text(d.Method, maxField), text(d.Host, maxField), text(d.Path, maxPath)
	c.Mode, c.Outcome, c.PolicyRevision = text(d.Mode, maxID), text(d.Outcome, maxID), text(d.PolicyRevision, maxID)
	c.Names = text(d.Names, maxID)
	return c
}
