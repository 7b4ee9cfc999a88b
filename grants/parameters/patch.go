package parameters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/identity"
)

// Update applies the parameters of an update request: a JSON Merge Patch (RFC
// 7396), then allow_remove, then allow_add. It returns a new value; on any
// error nothing is changed. Grants that the patch sets must not have expired
// at now.
//
// Cloud Controller sends {} on every update, a rename included: it changes
// nothing.
func (p Parameters) Update(raw []byte, now time.Time) (Parameters, error) {
	patch, err := readObject(raw)
	if err != nil {
		return Parameters{}, err
	}
	delete(patch, "status")
	if err := expandAlias(patch); err != nil {
		return Parameters{}, err
	}
	remove, err := takeList(patch, "allow_remove")
	if err != nil {
		return Parameters{}, err
	}
	add, err := takeList(patch, "allow_add")
	if err != nil {
		return Parameters{}, err
	}
	before := p.JSON()
	current, err := readObject(before)
	if err != nil {
		return Parameters{}, err
	}
	next, err := parseObject(mergePatch(current, patch))
	if err != nil {
		return Parameters{}, err
	}
	if _, set := patch["allow"]; set {
		if err := RefuseExpired(next.Allow, now); err != nil {
			return Parameters{}, err
		}
	}
	if next, err = next.amend(remove, add, now); err != nil {
		return Parameters{}, err
	}
	// Many small updates must not pile up what one request could not bring.
	// What makes it smaller is always taken.
	if size := len(next.JSON()); size > maxDocument && size > len(before) {
		return Parameters{}, refuse("the parameters would have %d bytes, at most %d are allowed", size, maxDocument)
	}
	return next, nil
}

// amend removes and then adds grants, in a list that is the receiver's alone.
// Both are idempotent: what is not there is not removed, what is there is not
// added again.
func (p Parameters) amend(remove, add []json.RawMessage, now time.Time) (Parameters, error) {
	if remove == nil && add == nil {
		return p, nil
	}
	list, err := removeFrom(p.Allow, remove)
	if err != nil {
		return Parameters{}, err
	}
	if list, err = addTo(list, add, now); err != nil {
		return Parameters{}, err
	}
	if len(list) > grants.MaxGrants {
		return Parameters{}, refuse("allow would have %d entries, at most %d are allowed", len(list), grants.MaxGrants)
	}
	if err := grants.CheckList("allow", list); err != nil {
		return Parameters{}, refuse("%w", err)
	}
	p.Allow, p.given.allow = list, p.given.allow || len(list) > 0
	return p, nil
}

// removeFrom takes the entries out of list, which it changes. One without conditions
// removes every grant of its source: better too much removed than access left
// that was to end.
func removeFrom(list []grants.Grant, remove []json.RawMessage) ([]grants.Grant, error) {
	if len(remove) > grants.MaxGrants {
		return nil, refuse("allow_remove has %d entries, at most %d are allowed", len(remove), grants.MaxGrants)
	}
	sources, entries := map[grants.Source]bool{}, map[string]bool{}
	for i, raw := range remove {
		gone, err := grants.ParseGrant(raw)
		switch {
		case err != nil:
			return nil, refuse("allow_remove[%d]: %w", i, err)
		case gone.IsConditional():
			entries[gone.Identity()] = true
		default:
			sources[gone.Source] = true
		}
	}
	return slices.DeleteFunc(list, func(g grants.Grant) bool {
		return sources[g.Source] || len(entries) > 0 && entries[g.Identity()]
	}), nil
}

// addTo appends to list, which it changes, the entries that are not there.
// Those that are there take a new reason.
func addTo(list []grants.Grant, add []json.RawMessage, now time.Time) ([]grants.Grant, error) {
	added, err := grants.ParseList("allow_add", add)
	if err != nil {
		return nil, refuse("%w", err)
	}
	if err := refuseExpired("allow_add", added, now); err != nil {
		return nil, err
	}
	if len(added) == 0 {
		return list, nil
	}
	places := make(map[string]int, len(list))
	for i, grant := range list {
		places[grant.Identity()] = i
	}
	for _, grant := range added {
		if i, there := places[grant.Identity()]; !there {
			list = append(list, grant)
		} else if grant.Terms != nil && grant.Terms.Reason != "" {
			list[i] = grant
		}
	}
	return list, nil
}

func readObject(raw []byte) (map[string]any, error) {
	object := map[string]any{}
	err := decodeObject(raw, &object)
	return object, err
}

// decodeObject reads one JSON object and nothing after it into a map; null, or
// no bytes at all, leave the map as it is.
func decodeObject(raw []byte, into any) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return refuse("%w", mistake.OfJSON(err, "parameters"))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return refuse("parameters: expected one JSON object and nothing after it")
	}
	return nil
}

// mergePatch is the algorithm of RFC 7396, section 2, for objects.
func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = map[string]any{}
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any)
			target[name] = mergePatch(inner, value)
		default:
			target[name] = value
		}
	}
	return target
}

// takeList removes a list of entries from the patch; a null is no list.
func takeList(patch map[string]any, name string) ([]json.RawMessage, error) {
	value, ok := patch[name]
	delete(patch, name)
	if !ok || value == nil {
		return nil, nil
	}
	values, ok := value.([]any)
	if !ok {
		return nil, refuse("%s: expected a list of sources or entries", name)
	}
	entries := make([]json.RawMessage, len(values))
	for i, one := range values {
		raw, err := json.Marshal(one)
		if err != nil {
			return nil, refuse("%s[%d]: %w", name, i, err)
		}
		entries[i] = raw
	}
	return entries, nil
}

// The flat form of the first RFC draft.
var aliases = []struct {
	name string
	kind grants.Kind
}{{"mtls_allowed_apps", grants.App}, {"mtls_allowed_spaces", grants.Space}, {"mtls_allowed_orgs", grants.Org}}

const aliasAny = "mtls_allow_any"

// expandAlias turns the flat form into allow, before anything else looks.
func expandAlias(object map[string]any) error {
	var list []any
	used := ""
	for _, alias := range aliases {
		value, ok := object[alias.name]
		if !ok {
			continue
		}
		used = alias.name
		delete(object, alias.name)
		sources, err := aliasSources(value, alias.kind)
		if err != nil {
			return refuse("%s: %w", alias.name, err)
		}
		list = append(list, sources...)
	}
	if value, ok := object[aliasAny]; ok {
		delete(object, aliasAny)
		anyone, isBool := value.(bool)
		if !isBool && value != nil {
			return refuse("%s: expected true or false", aliasAny)
		}
		if anyone && len(list) > 0 {
			return refuse("%s excludes %s", aliasAny, used)
		}
		if anyone {
			list = append(list, "cf:any")
		}
		used = aliasAny
	}
	if used == "" {
		return nil
	}
	if _, ok := object["allow"]; ok {
		return refuse("%s is the older spelling of allow; give one of them", used)
	}
	object["allow"] = append([]any{}, list...)
	return nil
}

func aliasSources(value any, kind grants.Kind) ([]any, error) {
	if value == nil {
		return nil, nil
	}
	text, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("expected guids with commas between them in one string")
	}
	var sources []any
	for guid := range strings.SplitSeq(text, ",") {
		guid = strings.TrimSpace(guid)
		if guid == "" && strings.TrimSpace(text) == "" {
			continue
		}
		id, err := identity.ParseGUID(guid)
		if err != nil {
			return nil, err
		}
		sources = append(sources, grants.Source{Kind: kind, ID: id}.String())
	}
	return sources, nil
}
