package rego

import (
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/identity"
)

// A Request is what a decision is about.
type Request struct {
	// Policy decides. It is part of the request because the operator's grants
	// in Live come with it.
	Policy *Policy
	// Live are the unexpired grants of the route.
	Live   *grants.Live
	Caller identity.Caller
	Method string
	// Host is in lower case, Path decoded once, Segments its non-empty parts.
	Host, Path string
	Segments   []string
	// Now is the time of the request.
	Now time.Time
}

// routeInput is the part of the input that is the same for every request to a
// route until its grants change.
type routeInput struct{ route, owner, grants *ast.Term }

func text(s string) *ast.Term { return ast.StringTerm(s) }

// The input's keys, made once: terms are immutable.
var (
	keyCaller, keyRequest, keyRoute, keyOwner, keyGrants, keyNow = text("caller"), text("request"), text("route"), text("owner"), text("grants"), text("now")
	keyKind, keyFoundation, keyApp, keySpace, keyOrg, keyInst    = text("kind"), text("foundation"), text("app"), text("space"), text("org"), text("instance")
	keyMethod, keyHost, keyPath, keySegments                     = text("method"), text("host"), text("path"), text("segments")
	keyMinute, keyWeekday, keyDate                               = text("minute"), text("weekday"), text("date")
	keyMethods, keyPaths                                         = text("methods"), text("paths")
	kindCF                                                       = text("cf")
	noConditions                                                 = ast.NewTerm(ast.NewObject())
)

func object(members ...[2]*ast.Term) *ast.Term { return ast.NewTerm(ast.NewObject(members...)) }

// termBlock hands out string terms from one block of memory: building the input
// is a good part of what an evaluation allocates.
type termBlock []ast.Term

func (b *termBlock) text(s string) *ast.Term {
	if len(*b) == 0 {
		*b = make(termBlock, 24)
	}
	term := &(*b)[0]
	*b = (*b)[1:]
	term.Value = ast.String(s)
	return term
}

// input builds the closed input document of one request.
func (r *Request) input(route *routeInput, zone *time.Location) *ast.Term {
	var t termBlock
	segments := make([]*ast.Term, len(r.Segments))
	for i, segment := range r.Segments {
		segments[i] = t.text(segment)
	}
	return object(
		[2]*ast.Term{keyCaller, object(
			[2]*ast.Term{keyKind, kindCF},
			[2]*ast.Term{keyFoundation, t.text(r.Caller.Foundation)},
			[2]*ast.Term{keyApp, t.text(r.Caller.App.String())},
			[2]*ast.Term{keySpace, t.text(r.Caller.Space.String())},
			[2]*ast.Term{keyOrg, t.text(r.Caller.Org.String())},
			[2]*ast.Term{keyInst, t.text(r.Caller.Instance)},
		)},
		[2]*ast.Term{keyRequest, object(
			[2]*ast.Term{keyMethod, t.text(r.Method)},
			[2]*ast.Term{keyHost, t.text(r.Host)},
			[2]*ast.Term{keyPath, t.text(r.Path)},
			[2]*ast.Term{keySegments, ast.ArrayTerm(segments...)},
		)},
		[2]*ast.Term{keyRoute, route.route},
		[2]*ast.Term{keyOwner, route.owner},
		[2]*ast.Term{keyGrants, route.grants},
		[2]*ast.Term{keyNow, nowTerm(r.Now.In(zone))},
	)
}

var weekdays = [...]*ast.Term{text("sun"), text("mon"), text("tue"), text("wed"), text("thu"), text("fri"), text("sat")}

func nowTerm(now time.Time) *ast.Term {
	return object(
		[2]*ast.Term{keyMinute, ast.InternedTerm(now.Hour()*60 + now.Minute())},
		[2]*ast.Term{keyWeekday, weekdays[now.Weekday()]},
		[2]*ast.Term{keyDate, text(now.Format(time.DateOnly))},
	)
}

// newRouteInput groups the grants by kind and keys them by guid, so that the
// policy finds a caller's in constant time.
func newRouteInput(live *grants.Live) *routeInput {
	labels := make([][2]*ast.Term, 0, len(live.Labels))
	for key, value := range live.Labels {
		labels = append(labels, [2]*ast.Term{text(key), text(value)})
	}
	return &routeInput{
		route: object(
			[2]*ast.Term{keyHost, text(live.Route.Host)},
			[2]*ast.Term{keyPath, text(live.Route.Path)},
			[2]*ast.Term{text("binding"), text(live.Binding)},
			[2]*ast.Term{text("labels"), object(labels...)},
		),
		owner: object(
			[2]*ast.Term{text("service_instance"), text(live.Owner.Instance)},
			[2]*ast.Term{keySpace, text(live.Owner.Space.String())},
			[2]*ast.Term{keyOrg, text(live.Owner.Org.String())},
			[2]*ast.Term{text("scope"), text(live.Scope.String())},
		),
		grants: grantsTerm(live.Rules),
	}
}

func grantsTerm(rules []grants.Rule) *ast.Term {
	kinds := map[grants.Kind][][2]*ast.Term{}
	anyone := []*ast.Term{}
	for from := 0; from < len(rules); {
		source := rules[from].Source
		var conditions []*ast.Term
		for from < len(rules) && rules[from].Source == source {
			conditions = append(conditions, conditionsTerm(rules[from].Terms))
			from++
		}
		if source.Kind == grants.Any {
			anyone = conditions
			continue
		}
		kinds[source.Kind] = append(kinds[source.Kind], [2]*ast.Term{text(source.ID.String()), ast.ArrayTerm(conditions...)})
	}
	return object(
		[2]*ast.Term{text("any"), ast.ArrayTerm(anyone...)},
		[2]*ast.Term{text("apps"), object(kinds[grants.App]...)},
		[2]*ast.Term{text("spaces"), object(kinds[grants.Space]...)},
		[2]*ast.Term{text("orgs"), object(kinds[grants.Org]...)},
	)
}

func conditionsTerm(terms *grants.Terms) *ast.Term {
	if terms == nil || terms.Methods == nil && terms.Paths == nil {
		return noConditions
	}
	var members [][2]*ast.Term
	if terms.Methods != nil {
		members = append(members, [2]*ast.Term{keyMethods, textsTerm(terms.Methods)})
	}
	if terms.Paths != nil {
		members = append(members, [2]*ast.Term{keyPaths, textsTerm(terms.Paths)})
	}
	return object(members...)
}

func textsTerm[T ~string](values []T) *ast.Term {
	terms := make([]*ast.Term, len(values))
	for i, value := range values {
		terms[i] = text(string(value))
	}
	return ast.ArrayTerm(terms...)
}
