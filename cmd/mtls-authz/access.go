package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/api/access"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/own"
	"github.com/mtls-authz/mtls-authz/gateway/line"
	"github.com/mtls-authz/mtls-authz/rego/recording"
	"github.com/mtls-authz/mtls-authz/rego/replay"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// buildAccess makes what explains access in /v1.
func (g *server) buildAccess() []func(*envelope.Envelope) {
	g.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "mtls_authz_sightings_dropped_total", Help: "Decisions that were not noted for /v1/routes and /v1/decisions, because too much came at once.",
	}, func() float64 { return float64(g.store.Sightings().Dropped()) }))
	of := access.New(access.Config{
		Store: g.store, Policy: g.policy.Policy, Explain: g.gateway.Explain, Recorded: g.recorded, Foundation: g.FoundationName, BaseURL: g.apiURL(),
		NotBound: g.notBound(), Labels: g.cloud.Labels(),
	})
	ofOne := own.New(own.Config{Store: g.store, Access: of, Labels: g.cloud.Labels(), BaseURL: g.apiURL()})
	return []func(*envelope.Envelope){of.Add, ofOne.Add}
}

// recorded finds a decision in memory.
func (g *server) recorded(decisionID string) (replay.Recorded, bool) {
	for one := range g.recording.All(recording.Filter{}) {
		if one.DecisionID == decisionID {
			return one, true
		}
	}
	return replay.Recorded{}, false
}

// sighted notes who called, with what outcome. Where the router has refused the
// signature, the request came from anybody.
func (g *server) sighted(l *line.Line, at time.Time) {
	if l.Auth != sightings.Allowed && l.Reason == "" {
		return // the client left before there was a decision
	}
	d := sightings.Decision{
		DecisionID: l.DecisionID, At: at, Binding: l.Binding, Route: l.Route, Mode: l.Mode, Outcome: l.Auth, Policy: l.Policy, Reason: l.Reason,
		Detail: l.Detail, Method: l.Method, Host: l.Host, Path: l.Path, PolicyRevision: l.PolicyRevision, Revision: l.Revision,
	}
	bound := g.store.View().Access(l.Binding)
	if bound != nil {
		d.Owner = bound.Owner.Org.String()
	}
	if policy := g.policy.Policy(); bound != nil && policy != nil && l.Auth != sightings.Allowed {
		d.Names = access.Names(bound, at, policy)
	}
	if !l.RouterRejected {
		d.App, d.Space, d.Org = l.App, l.Space, l.Org
	}
	g.store.Sightings().Note(&d)
}

// checks are those of the policy in force.
func (g *server) checks() []string {
	if policy := g.policy.Policy(); policy != nil {
		return policy.Checks()
	}
	return nil
}

// notBound says of a route why its requests do not come to the gateway; nil where
// nobody probes.
func (g *server) notBound() func(route string) string {
	if g.selftest == nil {
		return nil
	}
	return g.selftest.NotBound
}
