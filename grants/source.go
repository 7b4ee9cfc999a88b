package grants

import "github.com/mtls-authz/mtls-authz/grants/source"

// Source is whom a grant allows; see [source.Source].
type Source = source.Source

// Kind tells what a [Source] names; see [source.Kind].
type Kind = source.Kind

// The kinds of sources, from the narrowest to the widest; Named is a source by
// name, which [Live] has not.
const (
	App   = source.App
	Space = source.Space
	Org   = source.Org
	Any   = source.Any
	Named = source.Named
)

// ErrReservedSource: the selector is one that this version does not offer.
var ErrReservedSource = source.ErrReserved

// ParseSource reads a source by guid or by name; see [source.Parse].
func ParseSource(s string) (Source, error) { return source.Parse(s) }
