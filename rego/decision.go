package rego

import (
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// ErrPolicy: the policy gave no usable decision: undefined, an error, the
// deadline, another type, more than one result. The request is denied and
// nothing is remembered.
var ErrPolicy = errors.New("the policy gave no decision")

// A Decision is what the policy says of one request. The zero Decision denies.
type Decision struct {
	Allow bool
	// Policy names what decided, as the decision line does; on allow it is
	// empty, and the grant that Go confirms names it.
	Policy string
	// Reason is the reason id of a denial.
	Reason string
	// Headers go to the app if the request is allowed.
	Headers []Header
	// Cache tells where the decision came from.
	Cache Tier
}

// Header is one X-Mtls-Authz-Policy-* header.
type Header struct{ Name, Value string }

// Reason ids of decisions.
const (
	ReasonNoMatchingGrant = "no_matching_grant"
	ReasonPolicyDenied    = "policy_denied"
)

// ReservedReasons are the ids that a check may not give as its own reason: they
// name refusals of the gateway, and a log must not say that they happened.
var ReservedReasons = []string{
	"not_ready", "overloaded", "unknown_binding", "malformed_request", "loop", "route_mismatch", "router_untrusted",
	"no_certificate", "untrusted_certificate", "identity_extraction", "scope", "no_grants", ReasonNoMatchingGrant,
	"policy_error", "router_rejected", "upstream_unreachable", "upstream_timeout", "request_timeout",
}

const (
	headerPrefix   = "X-Mtls-Authz-Policy-"
	maxHeaders     = 8
	maxHeaderValue = 1 << 10
)

var (
	reasonGrammar = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	headerGrammar = regexp.MustCompile(`^` + headerPrefix + `[A-Za-z0-9-]{1,64}$`)
)

// decisionOf accepts exactly one result that is exactly a decision.
func decisionOf(results []ast.Value) (Decision, error) {
	if len(results) != 1 {
		return Decision{}, fmt.Errorf("%w: expected one result, got %d", ErrPolicy, len(results))
	}
	object, ok := results[0].(ast.Object)
	if !ok || object.Len() != 4 {
		return Decision{}, fmt.Errorf("%w: expected an object of allow, policy, reason and headers", ErrPolicy)
	}
	allow, isBool := member[ast.Boolean](object, "allow")
	policy, isPolicy := member[ast.String](object, "policy")
	reason, isReason := member[ast.String](object, "reason")
	headers, isHeaders := member[ast.Object](object, "headers")
	if !isBool || !isPolicy || !isReason || !isHeaders {
		return Decision{}, fmt.Errorf("%w: a member of the decision has another type", ErrPolicy)
	}
	list, err := headersOf(headers)
	if err != nil {
		return Decision{}, err
	}
	if !allow {
		return Decision{Policy: string(policy), Reason: denialReason(string(policy), string(reason))}, nil
	}
	return Decision{Allow: true, Headers: list}, nil
}

func member[T ast.Value](object ast.Object, name string) (T, bool) {
	var zero T
	term := object.Get(ast.InternedTerm(name))
	if term == nil {
		return zero, false
	}
	value, ok := term.Value.(T)
	return value, ok
}

// denialReason keeps the built-in reason, and a check's own only if it is one
// that a check may give.
func denialReason(policy, reason string) string {
	if !strings.HasPrefix(policy, "policy:") && reason == ReasonNoMatchingGrant {
		return reason
	}
	if reasonGrammar.MatchString(reason) && !slices.Contains(ReservedReasons, reason) {
		return reason
	}
	return ReasonPolicyDenied
}

// headersOf returns the headers by name in canonical form, so that two
// spellings of one name cannot both be sent.
func headersOf(object ast.Object) ([]Header, error) {
	if object.Len() > maxHeaders {
		return nil, fmt.Errorf("%w: %d headers, at most %d are allowed", ErrPolicy, object.Len(), maxHeaders)
	}
	var list []Header
	err := object.Iter(func(key, term *ast.Term) error {
		name, isName := key.Value.(ast.String)
		value, isValue := term.Value.(ast.String)
		if !isName || !isValue || len(value) > maxHeaderValue || !headerGrammar.MatchString(string(name)) || !isVisibleASCII(string(value)) {
			return fmt.Errorf("%w: header %v: expected %s* and at most %d visible ASCII characters", ErrPolicy, key, headerPrefix, maxHeaderValue)
		}
		list = append(list, Header{textproto.CanonicalMIMEHeaderKey(string(name)), string(value)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Header) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(list); i++ {
		if list[i].Name == list[i-1].Name {
			return nil, fmt.Errorf("%w: header %q is given twice, in two spellings", ErrPolicy, list[i].Name)
		}
	}
	return list, nil
}

// isVisibleASCII allows spaces between visible characters; at the ends they
// would be lost on the way.
func isVisibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// A Tier tells where a decision came from.
type Tier uint8

// The tiers, as the decision line names them. The zero value is a decision
// that no cache stood in front of.
const (
	NotCached Tier = iota
	Miss
	Local
	Shared
)

// String returns none, miss, local or shared.
func (t Tier) String() string {
	return [...]string{"none", "miss", "local", "shared"}[t&3]
}
