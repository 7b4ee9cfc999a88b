package grants

import (
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
)

// Live returns the route's unexpired grants at now together with the
// operator's.
func (a *Access) Live(now time.Time, site *Site) *Live {
	page := a.page()
	if live := a.live.Load(); live.holds(now, site, page) {
		return live
	}
	live := a.makeLive(now, site, page)
	live.Access, live.page = a, page
	a.live.Store(live)
	return live
}

// page is where the route's names are looked up; nil if it has none, so that no
// other route's names concern it.
func (a *Access) page() *names.Page {
	if a.named || a.common != nil && a.common.named {
		return a.Names.Page()
	}
	return nil
}

// holds reports whether these are still the grants.
func (l *Live) holds(now time.Time, site *Site, page *names.Page) bool {
	return l != nil && l.site == site && l.page == page && (l.Until.IsZero() || now.Before(l.Until))
}

// makeLive takes what the route has in common with others, if it has nothing
// else.
func (a *Access) makeLive(now time.Time, site *Site, page *names.Page) *Live {
	common, operators := a.common, site.rules()
	if common == nil {
		common = &Common{}
	}
	here := func(r Rule) bool { return r.limited() && r.applies(a.Route) }
	if len(a.own) == 0 && !slices.ContainsFunc(common.limited, here) && !slices.ContainsFunc(operators, here) {
		live := *common.at(now, site, operators, lookup{a.Owner, page})
		return &live
	}
	in := lookup{a.Owner, page}
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
