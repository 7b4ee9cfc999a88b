package grants

import (
	"fmt"

	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Scope is the operator's boundary around a route's callers. A service plan
// sets it; instance and binding may narrow it. The zero value means "not
// given" in parameters and admits nobody in an [Access].
type Scope uint8

// The scopes, from the narrowest to the widest; they are also the names of the
// service plans.
const (
	ScopeSpace Scope = iota + 1
	ScopeOrg
	ScopeAny
)

// ParseScope reads "space", "org" or "any".
func ParseScope(s string) (Scope, error) {
	for scope := ScopeSpace; scope <= ScopeAny; scope++ {
		if scope.String() == s {
			return scope, nil
		}
	}
	return 0, fmt.Errorf("scope %q: expected space, org or any", mistake.Clip(s))
}

// String returns the name that [ParseScope] reads, "" for the zero value.
func (s Scope) String() string {
	switch s {
	case ScopeSpace:
		return "space"
	case ScopeOrg:
		return "org"
	case ScopeAny:
		return "any"
	}
	return ""
}

// Narrowest returns the narrowest of the scopes that are given; zero, which
// admits nobody, if none is.
func Narrowest(scopes ...Scope) Scope {
	var narrowest Scope
	for _, scope := range scopes {
		if scope != 0 && (narrowest == 0 || scope < narrowest) {
			narrowest = scope
		}
	}
	return narrowest
}

// Owner is the service instance that a route is bound to, and where it lives.
type Owner struct {
	// Instance is the guid of the service instance, as Cloud Controller sent it.
	Instance string
	// Space and Org are those of the service instance, which are the route's.
	Space, Org identity.GUID
}

// Admits reports whether the caller is within the scope around the owner.
func (s Scope) Admits(caller identity.Caller, owner Owner) bool {
	if caller.IsZero() || owner.Space.IsZero() || owner.Org.IsZero() {
		return false
	}
	switch s {
	case ScopeSpace:
		return caller.Space == owner.Space && caller.Org == owner.Org
	case ScopeOrg:
		return caller.Org == owner.Org
	case ScopeAny:
		return true
	}
	return false
}

// A Mode tells what becomes of a refusal. The zero value enforces.
type Mode uint8

const (
	// Enforce refuses what is not allowed.
	Enforce Mode = iota
	// Report logs what would have been refused and lets the request go on.
	Report
)

// String returns "enforce" or "report".
func (m Mode) String() string {
	if m == Report {
		return "report"
	}
	return "enforce"
}

// ParseMode reads "enforce" or "report".
func ParseMode(s string) (Mode, error) {
	for mode := Enforce; mode <= Report; mode++ {
		if mode.String() == s {
			return mode, nil
		}
	}
	return Enforce, fmt.Errorf("mode %q: expected enforce or report", mistake.Clip(s))
}
