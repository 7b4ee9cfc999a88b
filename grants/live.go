package grants

import (
	"slices"
	"time"
)

// Live returns the route's unexpired grants at now together with the
// operator's.
func (a *Access) Live(now time.Time, site *Site) *Live {
	common := a.common
	if common == nil {
		common = &Common{}
	}
	in := lookup{a.Owner, nil}
	if a.named || common.named { // else no other route's names concern it
		in.page = a.Names.Page()
	}
	if live := a.live.Load(); live.holds(now, site) && live.stands(in, common.rules, a.own) {
		return live
	}
	live := a.makeLive(now, site, in, common)
	live.Access = a
	live.page.Store(in.page.Number())
	a.live.Store(live)
	return live
}

// holds reports whether these are still the grants, whatever names stand for.
func (l *Live) holds(now time.Time, site *Site) bool {
	return l != nil && l.site == site && (l.Until.IsZero() || now.Before(l.Until))
}

// stands reports whether the names among the rules still stand for what they did.
// It is far cheaper than resolving them, and the names of others change all the
// time.
func (l *Live) stands(in lookup, lists ...[]Rule) bool {
	before, now := l.page.Load(), in.page.Number()
	if before >= now { // another request may have seen a newer page
		return true
	}
	for _, rules := range lists {
		for i := range rules {
			if rules[i].Source.Kind == Named && in.page.Since(before, rules[i].Source.Name().From(in.owner.Org, in.owner.Space)) {
				return false
			}
		}
	}
	l.page.CompareAndSwap(before, now)
	return true
}

// makeLive takes what the route has in common with others, if it has nothing
// else.
func (a *Access) makeLive(now time.Time, site *Site, in lookup, common *Common) *Live {
	operators := site.rules()
	here := func(r Rule) bool { return r.limited() && r.applies(a.Route) }
	if len(a.own) == 0 && !slices.ContainsFunc(common.limited, here) && !slices.ContainsFunc(operators, here) {
		shared := common.at(now, site, operators, in)
		return &Live{
			Rules: shared.Rules, Until: shared.Until, HasMethods: shared.HasMethods, HasPaths: shared.HasPaths,
			Resolution: shared.Resolution, site: site,
		}
	}
	ofInstance, one := in.resolve(common.rules, common.named)
	ofBinding, other := in.resolve(a.own, a.named)
	live := newLive(now, site, func(r Rule) bool { return r.applies(a.Route) }, ofInstance, ofBinding, operators)
	live.Resolution = one + other
	return live
}

// newLive makes the grants of some lists, each sorted, that apply and have not
// expired. It shares a list's memory where nothing is left out and nothing comes
// to it.
func newLive(now time.Time, site *Site, applies func(Rule) bool, lists ...[]Rule) *Live {
	live := &Live{site: site}
	gone := func(r Rule) bool { return !applies(r) || r.Expired(now) }
	var parts [][]Rule
	for _, list := range lists {
		if slices.ContainsFunc(list, gone) {
			list = slices.DeleteFunc(slices.Clone(list), gone)
		}
		if len(list) > 0 {
			parts = append(parts, slices.Clip(list))
		}
	}
	if len(parts) == 1 {
		live.Rules = parts[0]
	} else {
		live.Rules = slices.Concat(parts...)
		sortRules(live.Rules)
	}
	for _, rule := range live.Rules {
		live.note(rule.Terms)
	}
	return live
}

func (l *Live) note(terms *Terms) {
	if terms == nil {
		return
	}
	l.HasMethods = l.HasMethods || terms.Methods != nil
	l.HasPaths = l.HasPaths || terms.Paths != nil
	if !terms.Expires.IsZero() && (l.Until.IsZero() || terms.Expires.Before(l.Until)) {
		l.Until = terms.Expires
	}
}
