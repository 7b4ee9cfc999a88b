package grants

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/mtls-authz/mtls-authz/grants/names"
)

// lookup tells what names stand for that an owner wrote.
type lookup struct {
	owner Owner
	page  *names.Page
}

// resolve puts in the place of each rule by name one for each app, space or org
// that the name stands for: for a former one, until its grace ends. What is more
// than a list may hold is left out. It also returns a digest of what it found.
func (l lookup) resolve(rules []Rule, named bool) (resolved []Rule, digest string) {
	if !named {
		return rules, ""
	}
	hash := sha256.New()
	patterns := map[Source]int{}
	for i := range rules {
		sources := []names.Holder{{ID: rules[i].Source.ID}}
		kind := rules[i].Source.Kind
		if kind == Named {
			kind, sources = l.standsFor(rules[i].Source.Name())
			hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(sources))))
		}
		for _, one := range sources {
			rule := rules[i]
			if rule.Source.Kind == Named {
				hash.Write(append(one.ID[:], byte(kind)))
				hash.Write(binary.BigEndian.AppendUint64(nil, uint64(one.Until.UnixMilli())))
				rule.written = &rules[i].Grant
				rule.Source, rule.Terms = Source{Kind: kind, ID: one.ID}, rule.Terms.Until(one.Until)
			}
			patterns[rule.Source] += max(1, len(rule.paths()))
			if patterns[rule.Source] <= MaxOfSource && len(resolved) < MaxGrants {
				resolved = append(resolved, rule)
			}
		}
	}
	sortRules(resolved)
	return resolved, string(hash.Sum(nil))
}

// standsFor is what a name stands for now. The own org is known without looking
// it up.
func (l lookup) standsFor(name names.Name) (Kind, []names.Holder) {
	if l.owner.Org.IsZero() || l.owner.Space.IsZero() {
		return 0, nil
	}
	if name.Kind == names.OwnOrg {
		return Org, []names.Holder{{ID: l.owner.Org}}
	}
	found, _ := l.page.Look(name.From(l.owner.Org, l.owner.Space))
	kind := map[names.Kind]Kind{names.App: App, names.Labelled: App, names.Space: Space}[name.Kind]
	return kind, slices.DeleteFunc(slices.Clone(found.Holders), func(h names.Holder) bool { return h.ID.IsZero() })
}

func hasNames(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.Source.Kind == Named })
}

// References are the names among the route's sources that have to be looked up.
func (a *Access) References() []names.Reference {
	var list []names.Reference
	for _, naming := range a.Namings() {
		if naming.Reference.Name.Kind != names.OwnOrg {
			list = append(list, naming.Reference)
		}
	}
	return list
}

// A Naming is a source by name of a route, and what it stands for.
type Naming struct {
	Origin Origin
	// Written is the grant as its owner wrote it.
	Written   Grant
	Reference names.Reference
	// Resolution is what the name stands for; the zero Resolution with Known false
	// if it was never looked up.
	Resolution names.Resolution
	Known      bool
}

// Warning tells the developer what is wrong with the name; "": nothing. now is the
// time of the question.
func (n Naming) Warning(now time.Time) string {
	what := map[names.Kind]string{names.App: "no app bears this name", names.Space: "no space bears this name", names.Labelled: "no app bears these labels"}[n.Reference.Name.Kind]
	switch holders := n.Resolution.At(now); {
	case n.Reference.Name.Kind == names.OwnOrg:
		return ""
	case !n.Known:
		return fmt.Sprintf("%s was not looked up yet and allows nobody", n.Written.Source)
	case n.Resolution.Missing.IsZero() && n.Resolution.Trimmed:
		return fmt.Sprintf("%s: more than %d apps bear these labels; the others are left out", n.Written.Source, names.MaxHolders)
	case n.Resolution.Missing.IsZero():
		return ""
	case len(holders) > 0:
		return fmt.Sprintf("%s: %s since %s; those that did are let in until %s at the latest", n.Written.Source, what,
			n.Resolution.Missing.Format(time.RFC3339), latest(holders).Format(time.RFC3339))
	}
	text := fmt.Sprintf("%s: %s since %s, so it allows nobody", n.Written.Source, what, n.Resolution.Missing.Format(time.RFC3339))
	if n.Reference.Name.Kind == names.Space {
		text += "; whoever gives a space of the organization this name will be allowed, so remove the entry if none is to come"
	}
	return text
}

func latest(holders []names.Holder) time.Time {
	return slices.MaxFunc(holders, func(a, b names.Holder) int { return a.Until.Compare(b.Until) }).Until
}

// Namings are the route's sources by name, those of the instance first.
func (a *Access) Namings() []Naming {
	if !a.named && (a.common == nil || !a.common.named) {
		return nil
	}
	page := a.Names.Page()
	var list []Naming
	lists := [][]Rule{a.own}
	if a.common != nil {
		lists = [][]Rule{a.common.rules, a.own}
	}
	for _, rules := range lists {
		for _, rule := range rules {
			if rule.Source.Kind != Named {
				continue
			}
			one := Naming{Origin: rule.Origin, Written: rule.Grant, Reference: rule.Source.Name().From(a.Owner.Org, a.Owner.Space)}
			one.Resolution, one.Known = page.Look(one.Reference)
			list = append(list, one)
		}
	}
	return list
}
