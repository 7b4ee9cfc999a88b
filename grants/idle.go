package grants

import (
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
)

// Idle are the grants of a route that people wrote and that let nobody pass now:
// what [Live] leaves out.
type Idle struct {
	// Ended have expired; of a name, its former holders whose grace has ended are
	// among them. Elsewhere are for other routes.
	Ended, Elsewhere []Rule
	// Nobody are names that stand for nobody and are for this route.
	Nobody []Naming
}

// Idle returns them at now, the operator's included.
func (a *Access) Idle(now time.Time, site *Site) Idle {
	in, idle := lookup{a.Owner, a.Names.Page()}, Idle{}
	add := func(rules []Rule, named bool) {
		resolved, _ := in.resolve(rules, named)
		for _, rule := range resolved {
			if !rule.applies(a.Route) {
				idle.Elsewhere = append(idle.Elsewhere, rule)
			} else if rule.Expired(now) {
				idle.Ended = append(idle.Ended, rule)
			}
		}
	}
	add(site.rules(), false)
	if a.common != nil {
		add(a.common.rules, a.common.named)
	}
	add(a.own, a.named)
	sortRules(idle.Ended)
	for _, naming := range a.Namings() {
		if (Rule{Grant: naming.Written}).applies(a.Route) && naming.Reference.Name.Kind != names.OwnOrg && len(naming.Resolution.At(now)) == 0 {
			idle.Nobody = append(idle.Nobody, naming)
		}
	}
	return idle
}
