package recording

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego/replay"
)

// Write writes what All gives as JSON Lines, the newest first.
func (r *Recording) Write(w io.Writer, f Filter) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	for recorded := range r.All(f) {
		if err := encoder.Encode(recorded); err != nil {
			return err
		}
	}
	return nil
}

func (e *entry) recorded() replay.Recorded {
	text := string(e.text)
	method, host, path := text[:e.ends[0]], text[e.ends[0]:e.ends[1]], text[e.ends[1]:e.ends[2]]
	instance, reason, headers := text[e.ends[2]:e.ends[3]], text[e.ends[3]:e.ends[4]], text[e.ends[4]:]
	at := time.Unix(0, e.at)
	r := replay.Recorded{
		DecisionID: e.id, Time: at.UTC(), Route: e.route.access.Route.String(), Binding: e.route.access.Binding,
		PolicyRevision: hex.EncodeToString(e.revision[:]),
		Decision:       replay.Decision{Allow: e.allow, Policy: e.policy, Reason: reason, Headers: headersOf(headers)},
		Cache:          e.tier.String(),
		Input: replay.Input{
			Caller: replay.Caller{
				Kind: "cf", Foundation: e.foundation, App: e.app.String(), Space: e.space.String(), Org: e.org.String(), Instance: instance,
			},
			Request: replay.Request{Method: method, Host: host, Path: path, Segments: orEmpty(route.Segments(path))},
			Now:     replay.NowOf(at.In(e.zone)),
		},
		Omitted: []string{},
	}
	e.route.describe(&r.Input)
	e.describeGrants(&r)
	if e.longPath {
		r.Omitted = append(r.Omitted, replay.OmittedPath, replay.OmittedSegments)
	}
	return r
}

func orEmpty(list []string) []string { return append([]string{}, list...) }

func (b *boundRoute) describe(in *replay.Input) {
	in.Route = replay.Route{Host: b.access.Route.Host, Path: b.access.Route.Path, Binding: b.access.Binding, Labels: map[string]string{}}
	for name, value := range b.access.Labels {
		in.Route.Labels[name] = value
	}
	in.Owner = replay.Owner{
		ServiceInstance: b.access.Owner.Instance, Space: b.access.Owner.Space.String(),
		Org: b.access.Owner.Org.String(), Scope: b.access.Scope.String(),
	}
}

// describeGrants writes the grants that can concern the caller: a route can have
// ten thousand others.
func (e *entry) describeGrants(r *replay.Recorded) {
	r.Input.Grants, r.OperatorGrants = replay.NewGrants(), replay.NewGrants()
	for _, source := range e.sources() {
		own, others := e.route.concerning(source)
		for _, rule := range own {
			r.Input.Grants.Add(rule.Grant)
			if rule.Origin == grants.FromOperator {
				r.OperatorGrants.Add(rule.Grant)
			}
		}
		if others {
			r.Omitted = append(r.Omitted, "grants."+source.Kind.String()+"s")
		}
	}
}

func headersOf(text string) map[string]string {
	headers := map[string]string{}
	lines := strings.Split(text, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		headers[lines[i]] = lines[i+1]
	}
	return headers
}
