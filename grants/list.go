package grants

import (
	"encoding/json"
	"fmt"

	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/route"
)

const (
	// MaxGrants bounds a list of grants.
	MaxGrants = 10_000
	// MaxOfSource bounds the entries and the path patterns of one source in a
	// list: the policy looks at them one after the other.
	MaxOfSource = 100
	// MaxNames bounds the sources by name of a list: each is looked up again and
	// again.
	MaxNames = 100
)

// ParseList reads a list of entries, such as allow, and refuses what contradicts itself.
func ParseList(name string, entries []json.RawMessage) ([]Grant, error) {
	if len(entries) > MaxGrants {
		return nil, fmt.Errorf("%s has %d entries, at most %d are allowed", name, len(entries), MaxGrants)
	}
	list := make([]Grant, len(entries))
	for i, entry := range entries {
		grant, err := ParseGrant(entry)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		list[i] = grant
	}
	return list, CheckList(name, list)
}

// CheckList refuses a list that contradicts itself, and names the entry.
func CheckList(name string, list []Grant) error {
	firsts := make(map[Source]Grant, len(list))
	seen := map[string]bool{} // of the sources that are there more than once
	patterns := map[Source]int{}
	plain, anyone, named := 0, -1, 0
	for i, grant := range list {
		if !grant.IsConditional() {
			plain++
			if grant.Source.Kind == Any {
				anyone = i
			}
		}
		if grant.Source.Kind == Named {
			named++
		}
		if named > MaxNames {
			return fmt.Errorf("%s[%d]: more than %d sources by name; use space:<name>, labels or guids to say it in fewer", name, i, MaxNames)
		}
		patterns[grant.Source] += max(1, len(grant.paths()))
		if patterns[grant.Source] > MaxOfSource {
			return fmt.Errorf("%s[%d]: source %q has more than %d entries or paths; use * and ** to say it in fewer", name, i, grant.Source, MaxOfSource)
		}
		first, again := firsts[grant.Source]
		if !again {
			firsts[grant.Source] = grant
			continue
		}
		seen[first.Identity()] = true
		key := grant.Identity()
		if seen[key] {
			return fmt.Errorf("%s[%d]: %s is there twice", name, i, mistake.Clip(key))
		}
		seen[key] = true
		if grant.IsConditional() != first.IsConditional() {
			return fmt.Errorf("%s[%d]: source %q is there both with and without conditions; the conditions would not matter", name, i, grant.Source)
		}
	}
	if anyone >= 0 && plain > 1 {
		return fmt.Errorf("%s[%d]: cf:any without conditions stands beside other sources without conditions, which would not matter; remove it or them", name, anyone)
	}
	return nil
}

func (g Grant) paths() []route.Pattern {
	if g.Terms == nil {
		return nil
	}
	return g.Terms.Paths
}
