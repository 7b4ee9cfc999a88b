package grants

import (
	"sync/atomic"
	"time"
)

// Common is what the routes of a service instance have in common: its grants, in
// memory once however many routes it has.
type Common struct {
	rules   []Rule // sorted
	limited []Rule // those of them that are for some routes only
	named   bool   // some of them are by name
	latest  atomic.Pointer[Live]
}

// NewCommon sorts the grants of an instance.
func NewCommon(ofInstance []Grant) *Common {
	c := &Common{rules: sortedRules(ofInstance, FromInstance)}
	c.named = hasNames(c.rules)
	for _, rule := range c.rules {
		if rule.limited() {
			c.limited = append(c.limited, rule)
		}
	}
	return c
}

// Access does what [NewAccess] does, for one route of the instance.
func (c *Common) Access(a *Access, ofBinding []Grant) *Access {
	a.common, a.own = c, sortedRules(ofBinding, FromBinding)
	a.named = hasNames(a.own)
	return a
}

// at are the unexpired grants, the operator's included, that are for all routes;
// without an access, which is each route's own. All routes look names up alike:
// they have one owner.
func (c *Common) at(now time.Time, site *Site, operators []Rule, in lookup) *Live {
	if !c.named {
		in.page = nil
	}
	if live := c.latest.Load(); live.holds(now, site) && live.stands(in, c.rules) {
		return live
	}
	rules, digest := in.resolve(c.rules, c.named)
	live := newLive(now, site, func(r Rule) bool { return !r.limited() }, rules, operators)
	live.Resolution = digest
	live.page.Store(in.page.Number())
	c.latest.Store(live)
	return live
}
