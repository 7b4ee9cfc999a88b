package display_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/grants"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/identity"
)

func id(n int) identity.GUID {
	g, err := identity.ParseGUID(fmt.Sprintf("d76446a1-f429-4444-8797-%012d", n))
	if err != nil {
		panic(err)
	}
	return g
}

var (
	acme, globex, shop, lab, frontend, intruder, deleted, unknown = id(1), id(2), id(3), id(4), id(5), id(6), id(7), id(8)
	since                                                         = time.Date(2026, 5, 4, 10, 15, 0, 0, time.UTC)
)

func labels(_ grants.Kind, id identity.GUID) display.Label {
	return map[identity.GUID]display.Label{
		acme: {Name: "acme", Org: acme}, globex: {Name: "globex", Org: globex},
		shop: {Name: "shop", Space: shop, Org: acme}, lab: {Name: "lab", Space: lab, Org: globex},
		frontend: {Name: "frontend", Space: shop, Org: acme}, intruder: {Name: "intruder", Space: lab, Org: globex},
		deleted: {Name: "former", Space: lab, Org: globex, Gone: since},
	}[id]
}

// A developer reads names of the own org and of no other.
func TestWhoSeesWhichNames(t *testing.T) {
	all := display.Labels(labels)
	for _, row := range []struct {
		kind     grants.Kind
		id       identity.GUID
		all, own string
	}{
		{grants.App, frontend, "acme/shop/frontend", "acme/shop/frontend"},
		{grants.Space, shop, "acme/shop", "acme/shop"},
		{grants.Org, acme, "acme", "acme"},
		{grants.App, intruder, "globex/lab/intruder", ""},
		{grants.Space, lab, "globex/lab", ""},
		{grants.Org, globex, "globex", ""},
		{grants.App, deleted, "globex/lab/former", ""},
		{grants.App, unknown, "", ""},
		{grants.App, identity.GUID{}, "", ""},
	} {
		assert.Equal(t, []string{row.all, row.own}, []string{all.Name(row.kind, row.id), all.Within(acme).Name(row.kind, row.id)})
		assert.Empty(t, all.Within(identity.GUID{}).Name(row.kind, row.id))
		assert.Empty(t, display.Labels(nil).Name(row.kind, row.id))
		assert.Empty(t, display.Labels(nil).Within(acme).Name(row.kind, row.id))
	}
	assert.Equal(t, "acme/shop/frontend", all.App(frontend.String()))
	assert.Empty(t, all.App(""))
	assert.Empty(t, all.App("cf:any"))
}

func TestWhatIsGoneIsToldOfGrantsByGUID(t *testing.T) {
	all := display.Labels(labels)
	grant := func(text string) grants.Grant {
		g, err := grants.ParseGrant([]byte(`"` + text + `"`))
		require.NoError(t, err)
		return g
	}
	gone, there := grant("cf:app:"+deleted.String()), grant("cf:app:"+frontend.String())
	bound := grants.NewAccess(&grants.Access{Route: route.Route{Host: "a.example"}}, []grants.Grant{gone, there}, nil)
	want := "cf:app:" + deleted.String() + " (instance): the app was deleted, at the latest at 2026-05-04T10:15:00Z: remove the grant with allow_remove"
	var told []string
	for _, rule := range bound.Live(since, &grants.Site{Grants: []grants.Grant{grant("cf:app:" + deleted.String())}}).Rules {
		assert.Equal(t, all.Gone(rule), all.Within(acme).Gone(rule))
		assert.Empty(t, display.Labels(nil).Gone(rule))
		if text := all.Gone(rule); text != "" {
			told = append(told, text)
		}
	}
	assert.Equal(t, []string{want}, told, "not of the operator's")
}
