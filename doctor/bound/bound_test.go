package bound_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/doctor/bound"
	"github.com/mtls-authz/mtls-authz/doctor/state"
)

const present = "https://mtls-authz.apps.example.com"

// cloud is what Cloud Controller says.
type cloud struct {
	bindings []bound.RouteBinding
	domains  map[string]bound.Domain
	orgs     int
	err      error
}

func (c cloud) Orgs(context.Context) (int, error) { return c.orgs, c.err }

func (c cloud) RouteBindings(context.Context) ([]bound.RouteBinding, error) { return c.bindings, c.err }

func (c cloud) Domains(_ context.Context, names []string) (map[string]bound.Domain, error) {
	found := map[string]bound.Domain{}
	for name, domain := range c.domains {
		if slices.Contains(names, name) {
			found[name] = domain
		}
	}
	return found, c.err
}

// here is a binding of the store.
func here(id, route string) state.Binding {
	return state.Binding{ID: id, Instance: "si-1", Route: route, Prefix: present, Org: "org-1", Space: "space-1"}
}

// there is one of Cloud Controller.
func there(id, route string) bound.RouteBinding {
	return bound.RouteBinding{ID: id, Instance: "si-1", Route: route, RouteSpace: "space-1", InstanceSpace: "space-1", Service: present}
}

// look returns what a check says as "status about: found".
func look(t *testing.T, cfg bound.Config, item string) (said []string) {
	t.Helper()
	cfg.GatewayURL, cfg.NoCloud = present, "CF_CLIENT_ID is not set"
	for _, f := range run(t, cfg, item) {
		said = append(said, fmt.Sprintf("%s %s: %s", f.Status, f.About, f.Found))
		assert.True(t, f.Fix != "" || f.Status == doctor.OK || f.Status == doctor.Skipped, "%v has no fix", f)
	}
	require.NotEmpty(t, said, item)
	return said
}

// are demands findings that begin so.
func are(t *testing.T, said []string, want ...string) {
	t.Helper()
	if !assert.Len(t, said, len(want), "%q", said) {
		return
	}
	for i := range want {
		assert.Regexp(t, "^"+want[i], said[i])
	}
}

func TestBindingsUnderAFormerURLAreCounted(t *testing.T) {
	old, strange := here("2", "b.example.com"), here("4", "d.example.com")
	old.Prefix, strange.Prefix = "https://old.example.com", ""
	said := look(t, bound.Config{Bindings: []state.Binding{here("1", "a.example.com"), old, here("3", "c.example.com"), strange}}, "gateway URL")
	are(t, said, "ok "+present+": 2 bindings", "warn no URL: 1 binding", "warn https://old.example.com: 1 binding under a former")
	are(t, look(t, bound.Config{}, "gateway URL"), "ok "+present+": 0 bindings")
}

func TestWithoutTheStoreNothingIsKnown(t *testing.T) {
	away := bound.Config{BindingsErr: errors.New("the database is away"), Cloud: cloud{}}
	for _, item := range []string{"gateway URL", "certificates arrive", "shared domains", "reconcile"} {
		are(t, look(t, away, item), "skipped : the bindings are not known$") // why not, the store's item says once
	}
	away.Reconcile = true
	are(t, look(t, away, "reconcile"), "fail : the bindings are not known$")
}

// Each kind of failure has its own way out.
func TestCloudControllerItself(t *testing.T) {
	are(t, look(t, bound.Config{}, "Cloud Controller"), "skipped : CF_CLIENT_ID is not set")
	are(t, look(t, bound.Config{Cloud: cloud{orgs: 3}}, "Cloud Controller"), "ok : .* sees 3 orgs")
	are(t, look(t, bound.Config{Cloud: cloud{}}, "Cloud Controller"), "fail : .* may see no org")
	for _, c := range []struct {
		err error
		fix string
	}{
		{fmt.Errorf("uaa answered 401: %w", controller.ErrUnauthorized), "CF_CLIENT_SECRET"},
		{fmt.Errorf("api answered 403: %w", controller.ErrForbidden), "cloud_controller.global_auditor"},
		{controller.ErrNotFound, "CF_API_URL must be"},
		{fmt.Errorf("%w: %w", controller.ErrUnavailable, &net.DNSError{}), "DNS"},
		{fmt.Errorf("%w: %w", controller.ErrUnavailable, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), "security group"},
		{fmt.Errorf("%w: %w", controller.ErrUnavailable, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), "CA_FILES"},
		{fmt.Errorf("api answered 503: %w", controller.ErrUnavailable), "run it again"},
	} {
		for _, item := range []string{"Cloud Controller", "reconcile"} {
			found := run(t, bound.Config{Cloud: cloud{err: c.err}, Reconcile: true}, item)
			require.Len(t, found, 1)
			assert.Equal(t, "fail "+c.err.Error(), found[0].Status.String()+" "+found[0].Found, item)
			assert.Contains(t, found[0].Fix, c.fix, item)
		}
	}
}

// run are the findings of one item.
func run(t *testing.T, cfg bound.Config, item string) []doctor.Finding {
	t.Helper()
	for _, c := range bound.Checks(cfg) {
		if c.Item == item {
			return doctor.Run(t.Context(), []doctor.Check{c}, nil, nil).Findings
		}
	}
	t.Fatalf("no item %q", item)
	return nil
}

// Behind a balancer that ends TLS nobody comes with a certificate.
func TestADomainInWhichNobodyShowsACertificate(t *testing.T) {
	cfg := bound.Config{Bindings: []state.Binding{here("1", "a.good.com"), here("2", "b.good.com"), here("3", "a.bad.com/x"), here("4", "a.new.com"), here("5", "*.bad.com"), here("6", "two.labels")}}
	cfg.Seen = func(_ context.Context, ids []string) (map[string]bound.Seen, error) {
		assert.Equal(t, []string{"1", "2", "3", "4", "5", "6"}, ids)
		return map[string]bound.Seen{"1": {With: 0, Without: 5}, "2": {With: 1}, "3": {Without: 7}}, nil
	}
	are(t, look(t, cfg, "certificates arrive"), "warn bad.com: 7 requests, and none ever", `ok good.com: .*1 with, 5 without`, "skipped new.com: no request", "skipped two.labels: no request")
	cfg.Seen = func(context.Context, []string) (map[string]bound.Seen, error) { return nil, errors.New("away") }
	are(t, look(t, cfg, "certificates arrive"), "skipped : away")
	cfg.Seen = nil
	are(t, look(t, cfg, "certificates arrive"), "skipped : what callers show is not recorded")
}

func TestDomainsThatOrgsShare(t *testing.T) {
	cfg := bound.Config{Bindings: []state.Binding{here("1", "a.apps.example.com"), here("2", "b.apps.example.com/x"), here("3", "a.own.example.com"), here("4", "*.team.example.com"), here("5", "x.unknown.org")}}
	are(t, look(t, cfg, "shared domains"), "skipped : CF_CLIENT_ID")
	c := cloud{domains: map[string]bound.Domain{
		"apps.example.com": {Shared: true}, "example.com": {Orgs: []string{"o"}}, "own.example.com": {Orgs: []string{"o"}}, "team.example.com": {Orgs: []string{"o", "p"}},
	}}
	cfg.Cloud = c
	are(t, look(t, cfg, "shared domains"), "warn apps.example.com: 2 bindings .* every org", "ok own.example.com: 1 binding", "warn team.example.com: 1 binding .* 2 orgs")
	c.domains = nil
	cfg.Cloud = c
	are(t, look(t, cfg, "shared domains"), "skipped : Cloud Controller knows none")
	cfg.Cloud = cloud{err: errors.New("503")}
	are(t, look(t, cfg, "shared domains"), "skipped : Cloud Controller does not say")
}

func TestReconcile(t *testing.T) {
	cfg := bound.Config{Bindings: []state.Binding{here("1", "a.example.com"), here("2", "b.example.com")}}
	are(t, look(t, cfg, "reconcile"), "skipped : CF_CLIENT_ID")
	cfg.Reconcile = true // what was asked for and cannot be done is no success
	are(t, look(t, cfg, "reconcile"), "fail : CF_CLIENT_ID")
	cfg.Reconcile = false
	same := []bound.RouteBinding{there("1", "a.example.com"), there("2", "b.example.com")}
	cfg.Cloud = cloud{bindings: same}
	are(t, look(t, cfg, "reconcile"), "skipped : not asked for")
	cfg.Reconcile = true
	are(t, look(t, cfg, "reconcile"), "ok : .* the same 2 bindings")

	// Of other brokers, nothing is said.
	other := bound.RouteBinding{ID: "9", Instance: "other", Route: "x.example.com", Service: "https://logger.example.com"}
	cfg.Cloud = cloud{bindings: append(slices.Clone(same), other)}
	are(t, look(t, cfg, "reconcile"), "ok ")

	cfg.Cloud = cloud{bindings: same[:1]}
	are(t, look(t, cfg, "reconcile"), "warn b.example.com: stale: .* binding 2")

	byURL := there("3", "c.example.com")
	byURL.Instance = "unknown here"
	byInstance := there("4", "d.example.com")
	byInstance.Service = "https://forgotten.example.com"
	cfg.Cloud = cloud{bindings: append(slices.Clone(same), byURL, byInstance)}
	are(t, look(t, cfg, "reconcile"), "fail c.example.com: lost: .* binding 3", "fail d.example.com: lost: .* binding 4")

	moved, wrong := there("1", "a.example.com"), there("2", "b.example.com")
	moved.RouteSpace, wrong.InstanceSpace = "space-2", "space-3"
	cfg.Cloud = cloud{bindings: []bound.RouteBinding{moved, wrong}}
	are(t, look(t, cfg, "reconcile"), "warn a.example.com: moved: the route is in space space-2", "fail b.example.com: .*space-3")
}

// A client that may see nothing gets an empty list: nothing follows from that.
func TestReconcileBelievesNoEmptyList(t *testing.T) {
	cfg := bound.Config{Bindings: []state.Binding{here("1", "a.example.com")}, Cloud: cloud{}, Reconcile: true}
	are(t, look(t, cfg, "reconcile"), "fail : Cloud Controller shows no route binding")
	cfg.Cloud = cloud{bindings: []bound.RouteBinding{there("1", "a.example.com")}, err: errors.New("401")}
	are(t, look(t, cfg, "reconcile"), "fail : 401")
	cfg.Bindings, cfg.Cloud = nil, cloud{}
	are(t, look(t, cfg, "reconcile"), "ok ")
}

func TestManyOfAKindAreCounted(t *testing.T) {
	cfg := bound.Config{Reconcile: true, Cloud: cloud{bindings: []bound.RouteBinding{there("0", "x.example.com")}}, Bindings: []state.Binding{here("0", "x.example.com")}}
	for i := range 120 {
		cfg.Bindings = append(cfg.Bindings, here(fmt.Sprint("b", i), fmt.Sprintf("r%d.example.com", i)))
	}
	said := look(t, cfg, "reconcile")
	require.Len(t, said, 51)
	assert.Equal(t, "warn : 70 more like these", said[50])
}
