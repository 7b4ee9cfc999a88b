package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/rego"
)

// ErrNotRecorded: the policy reads something that the line does not have.
var ErrNotRecorded = errors.New("the policy reads what was not recorded")

// OmittedPath and OmittedSegments stand in Omitted, together, where a path was
// too long to be recorded.
const OmittedPath, OmittedSegments = "request.path", "request.segments"

// omissions are what a line can leave out.
var omissions = []string{"grants.apps", "grants.spaces", "grants.orgs", OmittedPath, OmittedSegments}

// A Replay has one policy decide recorded requests. It is not safe for
// concurrent use.
type Replay struct {
	policy *rego.Policy
	reads  map[string]bool
}

// NewReplay returns the replay of a policy.
func NewReplay(policy *rego.Policy) *Replay {
	return &Replay{policy: policy, reads: map[string]bool{}}
}

// Decide is what the gateway would have decided under the policy: with the
// operator's grants that come with it, as the guard, the policy and Go's
// confirmation say. If something that was not recorded could matter, the error
// is [ErrNotRecorded] and there is no decision. An error that is
// [rego.ErrPolicy] comes with the denial that it means.
func (p *Replay) Decide(ctx context.Context, r Recorded) (rego.Decision, error) {
	for _, path := range r.Omitted {
		reads, known := p.reads[path]
		if !known {
			reads = p.policy.ReadsAny([]string{path})
			p.reads[path] = reads
		}
		if reads {
			return rego.Decision{}, fmt.Errorf("%w: input.%s", ErrNotRecorded, path)
		}
	}
	request, err := r.Request(p.policy)
	if err != nil {
		return rego.Decision{}, err
	}
	if len(request.Live.Rules) == 0 && len(r.Omitted) > 0 { // there were grants, to others
		return rego.Decision{Policy: "route:" + rego.ReasonNoMatchingGrant, Reason: rego.ReasonNoMatchingGrant}, nil
	}
	return rego.Answer(ctx, request)
}

// Request returns the request again, as the policy would get it. What Omitted
// names is not there.
func (r Recorded) Request(policy *rego.Policy) (*rego.Request, error) {
	p, err := r.parse()
	if err != nil {
		return nil, err
	}
	minute := p.date.Add(time.Duration(r.Input.Now.Minute) * time.Minute)
	now := time.Date(minute.Year(), minute.Month(), minute.Day(), minute.Hour(), minute.Minute(), 0, 0, policy.Zone())
	if NowOf(now) != r.Input.Now {
		return nil, malformed("now: there is no %s in the time zone %s", minute.Format("2006-01-02 15:04"), policy.Zone())
	}
	at := r.Time
	if at.IsZero() {
		at = now
	}
	q := r.Input.Request
	return &rego.Request{
		Policy: policy, Live: p.access.Live(at, policy.Site()), Caller: p.caller,
		Method: q.Method, Host: q.Host, Path: q.Path, Segments: q.Segments, Now: now,
	}, nil
}

// parsed is a line that went through the parsers.
type parsed struct {
	caller identity.Caller
	// access has the grants of the route's owner.
	access *grants.Access
	date   time.Time
}

func (r *Recorded) parse() (p parsed, err error) {
	for _, path := range r.Omitted {
		if !slices.Contains(omissions, path) {
			return p, malformed("omitted: %q; expected some of %s", path, strings.Join(omissions, ", "))
		}
	}
	if p.caller, err = r.Input.Caller.parse(); err != nil {
		return p, err
	}
	if err := r.checkRequest(); err != nil {
		return p, err
	}
	now := r.Input.Now
	if p.date, err = time.Parse(time.DateOnly, now.Date); err != nil || now.Minute < 0 || now.Minute >= 24*60 ||
		NowOf(p.date.Add(time.Duration(now.Minute)*time.Minute)) != now {
		return p, malformed("now: expected a date, its weekday and a minute of the day below 1440, found %q, %q and %d", now.Date, now.Weekday, now.Minute)
	}
	access, err := r.access()
	if err != nil {
		return p, err
	}
	owners, err := r.ownersGrants()
	if err != nil {
		return p, err
	}
	p.access = grants.NewAccess(access, owners, nil)
	return p, nil
}

func (c Caller) parse() (identity.Caller, error) {
	if c.Kind != "cf" {
		return identity.Caller{}, malformed("caller.kind %q: expected \"cf\"", c.Kind)
	}
	caller := identity.Caller{Foundation: c.Foundation, Instance: c.Instance}
	for _, guid := range []struct {
		name, text string
		into       *identity.GUID
	}{{"app", c.App, &caller.App}, {"space", c.Space, &caller.Space}, {"org", c.Org, &caller.Org}} {
		if err := guid.into.UnmarshalText([]byte(guid.text)); err != nil {
			return identity.Caller{}, malformed("caller.%s: %w", guid.name, err)
		}
	}
	return caller, nil
}

func (r *Recorded) checkRequest() error {
	q := r.Input.Request
	if !grants.IsMethod(q.Method) {
		return malformed("request.method %q: expected an upper-case method", q.Method)
	}
	if err := route.CheckHost(q.Host); err != nil {
		return malformed("request.host: %w", err)
	}
	if slices.Contains(r.Omitted, OmittedPath) != slices.Contains(r.Omitted, OmittedSegments) {
		return malformed("omitted: %s and %s go together", OmittedPath, OmittedSegments)
	}
	if !slices.Equal(q.Segments, route.Segments(q.Path)) {
		return malformed("request.segments %q: expected the non-empty segments of path %q", q.Segments, q.Path)
	}
	return nil
}

// access is what applies to the route, without its grants.
func (r *Recorded) access() (*grants.Access, error) {
	in := &r.Input
	a := &grants.Access{Binding: in.Route.Binding, Labels: in.Route.Labels, Owner: grants.Owner{Instance: in.Owner.ServiceInstance}}
	var err error
	if a.Route, err = route.ParseExact(in.Route.Host + in.Route.Path); err != nil {
		return nil, malformed("route: %w", err)
	}
	if a.Route != (route.Route{Host: in.Route.Host, Path: in.Route.Path}) {
		return nil, malformed("route: expected a host %q and a path %q", a.Route.Host, a.Route.Path)
	}
	if r.Route != a.Route.String() || r.Binding != a.Binding {
		return nil, malformed("route %q and binding %q are others in the input", r.Route, r.Binding)
	}
	if a.Scope, err = grants.ParseScope(in.Owner.Scope); err != nil {
		return nil, malformed("owner: %w", err)
	}
	if err := a.Owner.Space.UnmarshalText([]byte(in.Owner.Space)); err != nil {
		return nil, malformed("owner.space: %w", err)
	}
	if err := a.Owner.Org.UnmarshalText([]byte(in.Owner.Org)); err != nil {
		return nil, malformed("owner.org: %w", err)
	}
	return a, nil
}

// ownersGrants are the grants less the operator's, which are the last of each
// source.
func (r *Recorded) ownersGrants() ([]grants.Grant, error) {
	owners := Grants{Apps: maps.Clone(r.Input.Grants.Apps), Spaces: maps.Clone(r.Input.Grants.Spaces), Orgs: maps.Clone(r.Input.Grants.Orgs)}
	var err error
	if owners.Any, err = less(r.Input.Grants.Any, r.OperatorGrants.Any); err != nil {
		return nil, err
	}
	for kind := grants.App; kind < grants.Any; kind++ {
		list := owners.of(kind)
		for guid, operators := range r.OperatorGrants.of(kind) {
			if list[guid], err = less(list[guid], operators); err != nil {
				return nil, err
			}
		}
	}
	return owners.parse()
}

func less(all, operators []Conditions) ([]Conditions, error) {
	from := len(all) - len(operators)
	same := func(a, b Conditions) bool {
		return slices.Equal(a.Methods, b.Methods) && slices.Equal(a.Paths, b.Paths)
	}
	if from < 0 || !slices.EqualFunc(all[from:], operators, same) {
		return nil, malformed("operator_grants: expected the last of input.grants of the same source")
	}
	return all[:from], nil
}

// parse builds the grants again with the parser of grants.
func (g *Grants) parse() ([]grants.Grant, error) {
	var list []grants.Grant
	add := func(source string, conditions []Conditions) error {
		for _, c := range conditions {
			entry, err := json.Marshal(struct {
				Source string `json:"source"`
				Conditions
			}{source, c})
			if err != nil {
				return malformed("grants: %w", err)
			}
			grant, err := grants.ParseGrant(entry)
			if err != nil {
				return malformed("grants: %w", err)
			}
			list = append(list, grant)
		}
		return nil
	}
	for kind := grants.App; kind < grants.Any; kind++ {
		byGUID := g.of(kind)
		for _, guid := range slices.Sorted(maps.Keys(byGUID)) {
			if err := add("cf:"+kind.String()+":"+guid, byGUID[guid]); err != nil {
				return nil, err
			}
		}
	}
	return list, add("cf:any", g.Any)
}
