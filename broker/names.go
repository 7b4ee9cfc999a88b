package broker

import (
	"slices"

	"github.com/mtls-authz/mtls-authz/broker/osb"
	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
)

// checkNames refuses sources by name where nobody looks them up: they would
// never allow anybody. Those that former has already may stay.
func (b *broker) checkNames(p, former parameters.Parameters) error {
	if b.Names {
		return nil
	}
	for i, grant := range p.Allow {
		name := grant.Source.Name()
		there := slices.ContainsFunc(former.Allow, func(g grants.Grant) bool { return g.Source == grant.Source })
		if grant.Source.Kind == grants.Named && name.Kind != names.OwnOrg && !there {
			return osb.BadRequest("allow[%d]: source %q: this gateway cannot look up names, because its operator has set no CF_CLIENT_ID; give the guid, such as cf:app:<guid> with what cf app <name> --guid prints", i, name)
		}
	}
	return nil
}
