// Package readiness says whether this instance can decide, and if not, why: to
// Cloud Foundry's health checks a word, to people and monitors each reason. The
// reasons name servers and files; only readers with credentials see them.
package readiness

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/gateway/ports"
	"github.com/mtls-authz/mtls-authz/rego/activation"
)

// Config configures [New]. All of it is required, unless it says otherwise.
type Config struct {
	// LastContact is when the state was last known to be whole, and why not
	// since then.
	LastContact func() (time.Time, error)
	Policy      *activation.Follower
	// Routers are the domains whose routers are not proven, and why, and what else
	// is worth a note about routers; nil: nobody checks them.
	Routers func() (untrusted, notes []string)
	// Redis says why it is not in use, "" if it is; nil: there is none.
	Redis func() string
	// InstancePorts is CF_INSTANCE_PORTS, "" outside Cloud Foundry; Port is the one
	// that the gateway listens on.
	InstancePorts string
	Port          int
	// MayRead reports whether a request may see the reasons.
	MayRead func(*http.Request) bool
}

// Readiness answers at /healthz and /readyz. Create it with [New].
type Readiness struct{ cfg Config }

// New returns a Readiness.
func New(cfg Config) *Readiness { return &Readiness{cfg} }

// Health is for Cloud Foundry: once there is a first policy, this instance is as
// good as another. The state was loaded before anything listened.
func (r *Readiness) Health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if r.cfg.Policy.Policy() == nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("no policy yet\n")) // the client may be gone
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// report is the answer of /readyz.
type report struct {
	Ready bool `json:"ready"`
	// Reasons why not, and Notes that need not worry; only for readers.
	Reasons []string `json:"reasons,omitempty"`
	Notes   []string `json:"notes,omitempty"`
	// RouteIntegrity is whether anybody but gorouter can reach this instance's port;
	// only for readers, and on Cloud Foundry.
	RouteIntegrity string `json:"route_integrity,omitempty"`
}

// Report is for people and monitors.
func (r *Readiness) Report(w http.ResponseWriter, request *http.Request) {
	found := r.report()
	status := http.StatusOK
	if !found.Ready {
		status = http.StatusServiceUnavailable
	}
	if !r.cfg.MayRead(request) {
		found = report{Ready: found.Ready}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(found) // the client may be gone
}

func (r *Readiness) report() report {
	var found report
	if at, err := r.cfg.LastContact(); err != nil {
		found.Reasons = append(found.Reasons, "state: not reached since "+at.UTC().Format(time.RFC3339)+": "+err.Error())
	}
	found.addPolicy(r.cfg.Policy)
	if r.cfg.Routers == nil {
		found.Notes = append(found.Notes, "router: ROUTER_TRUST=assume, nobody checks that forged certificates are stripped")
	} else {
		untrusted, notes := r.cfg.Routers()
		found.Reasons, found.Notes = append(found.Reasons, untrusted...), append(found.Notes, notes...)
	}
	if r.cfg.Redis != nil {
		if why := r.cfg.Redis(); why != "" {
			found.Notes = append(found.Notes, "redis: "+why+"; decisions are not shared")
		}
	}
	found.addPorts(r.cfg.InstancePorts, r.cfg.Port)
	slices.Sort(found.Reasons)
	found.Ready = len(found.Reasons) == 0
	return found
}

// addPorts: an open port is a note, as refusing what comes through the router would
// close nothing.
func (found *report) addPorts(instancePorts string, port int) {
	if instancePorts == "" {
		return
	}
	found.RouteIntegrity = "ok"
	if err := ports.Check(instancePorts, port); err != nil {
		found.RouteIntegrity = err.Error()
		if errors.Is(err, ports.ErrOpen) {
			found.Notes = append(found.Notes, "route integrity: "+err.Error()+"; "+ports.Fix)
		}
	}
}

// addPolicy: a policy that could not be replaced is in force all the same.
func (found *report) addPolicy(policy *activation.Follower) {
	status := policy.Status()
	switch none := policy.Ready(); {
	case none != nil:
		found.Reasons = append(found.Reasons, "policy: "+none.Error())
	case status.Error != "":
		found.Notes = append(found.Notes, "policy: the last good one stays in force: "+status.Error)
	case status.From == activation.FromSaved:
		found.Notes = append(found.Notes, "policy: its source is away; the saved bundle is in force")
	}
}
