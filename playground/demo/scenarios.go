package demo

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// The routes of the demo.
const (
	backendRoute = "backend." + playground.Domain
	liveRoute    = "live." + playground.Domain
	foreignRoute = "foreign." + playground.Domain
)

// Result is one row of the table.
type Result struct {
	Caller, Request, Expected, Got, Reason string
	OK                                     bool
}

// demo is a foundation with a protected app and its callers.
type demo struct {
	*playground.Foundation
	app     *demoApp
	service controller.Service
	callers map[string]*ca.Credential
}

// startDemo protects backend.apps.identity: frontend may do all, monitoring may
// GET /metrics until it expires, nobody else may anything.
func startDemo(ctx context.Context, cfg playground.Config, routing router.Config) (d *demo, err error) {
	d = &demo{callers: map[string]*ca.Credential{}}
	other, err := ca.NewRoot("another CA")
	if err != nil {
		return d, err
	}
	if d.callers["forger"], err = other.Instance(playground.Frontend.Identity()); err != nil {
		return d, err
	}
	// Production routers accept clients of more CAs than issue instances.
	routing.ClientCAs = x509.NewCertPool()
	routing.ClientCAs.AddCert(other.Certificate())
	cfg.Router = func(t playground.Trust) (playground.Router, error) { return playground.NewRouter(t, routing) }
	if d.Foundation, err = playground.Start(ctx, cfg); err != nil {
		return d, err
	}
	if d.app, err = startDemoApp(); err != nil {
		return d, err
	}
	for _, route := range []string{backendRoute, liveRoute, foreignRoute} {
		if err := d.Router.Register(route, d.app.url); err != nil {
			return d, err
		}
	}
	if err := d.mintCallers(); err != nil {
		return d, err
	}
	parameters := fmt.Sprintf(`{"allow": ["cf:app:%s", {"source": "cf:space:%s", "methods": ["GET"], "paths": ["/metrics"]}]}`,
		playground.Frontend.Identity().App, playground.Monitoring.Identity().Space)
	if d.service, err = d.CreateService(ctx, "my-authz", "org", playground.Backend, parameters); err != nil {
		return d, err
	}
	_, _, err = d.BindRoute(ctx, d.service, backendRoute, "")
	return d, err
}

func (d *demo) mintCallers() (err error) {
	for _, app := range []playground.App{playground.Frontend, playground.Monitoring, playground.Intruder} {
		if d.callers[app.Name], err = d.Credential(app); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) stop() error {
	var problems []error
	if d.app != nil {
		problems = append(problems, d.app.stop())
	}
	if d.Foundation != nil {
		problems = append(problems, d.Stop())
	}
	return errors.Join(problems...)
}

// call plays one row.
func (d *demo) call(ctx context.Context, caller, method, url string, header http.Header, expected string) Result {
	row := Result{Caller: caller, Request: method + " " + url, Expected: expected}
	for name := range header {
		row.Request += ", forged " + name
	}
	if row.Caller == "" {
		row.Caller = "no certificate"
	}
	reply, err := playground.Call(ctx, d.Client(d.callers[caller]), method, "https://"+url, header)
	if err != nil {
		row.Got, row.Reason = "error", err.Error()
		return row
	}
	row.Got, row.Reason = fmt.Sprint(reply.Status), reply.Reason
	row.OK = row.Expected == row.outcome()
	return row
}

// outcome is the status and, of a refusal, its reason.
func (r Result) outcome() string {
	if r.Reason == "" {
		return r.Got
	}
	return r.Got + " " + r.Reason
}

// check plays every scenario.
func (d *demo) check(ctx context.Context) []Result {
	forged := http.Header{"X-Forwarded-Client-Cert": {d.callers[playground.Frontend.Name].XFCC()}}
	rows := []Result{
		d.call(ctx, "frontend", "GET", backendRoute+"/hello", nil, "200"),
		d.call(ctx, "frontend", "DELETE", backendRoute+"/orders/1", nil, "200"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/metrics", nil, "200"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/orders", nil, "403 no_matching_grant"),
		d.call(ctx, "monitoring", "POST", backendRoute+"/metrics", nil, "403 no_matching_grant"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", nil, "403 scope"),
		d.call(ctx, "forger", "GET", backendRoute+"/hello", nil, "403 untrusted_certificate"),
		d.call(ctx, "", "GET", backendRoute+"/hello", nil, "403 no_certificate"),
		d.call(ctx, "", "GET", backendRoute+"/hello", forged, "403 no_certificate"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", forged, "403 scope"),
		d.call(ctx, "intruder", "GET", backendRoute+"/hello", http.Header{"X-Mtls-Authz-Caller": {"app=" + playground.Frontend.Identity().App}}, "403 scope"),
		d.call(ctx, "monitoring", "GET", backendRoute+"/metrics/../orders", nil, "400 malformed_request"),
	}
	rows = append(rows, d.forgedSignature(ctx))
	return append(rows, d.migrate(ctx)...)
}

// forgedSignature: the intruder owns a route with a route service of its own,
// and sends the gateway a signature that is valid there, with a forged caller.
// Only who knows the secret URL gets as far as leg 3, where the router refuses.
func (d *demo) forgedSignature(ctx context.Context) Result {
	header := d.Router.Sign("https://" + foreignRoute + "/")
	header.Set("X-Cf-Forwarded-Url", "https://"+backendRoute+"/hello")
	header.Set("X-Forwarded-Client-Cert", d.callers[playground.Frontend.Name].XFCC())
	row := d.call(ctx, "intruder", "GET", playground.GatewayHost+"/r/"+playground.GUID("binding my-authz "+backendRoute)+"/guessed", header, "403 unknown_binding")
	row.Request = "GET " + playground.GatewayHost + "/r/..., guessed, with a signature for another route and a forged caller"
	return row
}

// migrate protects a route that is in use without breaking anybody: the five
// commands of the README.
func (d *demo) migrate(ctx context.Context) []Result {
	url := liveRoute + "/hello"
	rows := []Result{d.call(ctx, "frontend", "GET", url, nil, "200")}
	step := func(command, expected string, f func() error) {
		row := Result{Caller: "developer", Request: command, Expected: expected, Got: expected, OK: true}
		if err := f(); err != nil {
			row.Got, row.Reason, row.OK = "error", err.Error(), false
		}
		rows = append(rows, row)
	}
	var service controller.Service
	step(`cf create-service mtls-authz org live-authz -c '{"mode":"report"}'`, "ok", func() (err error) {
		service, err = d.CreateService(ctx, "live-authz", "org", playground.Backend, `{"mode":"report"}`)
		return err
	})
	step("cf bind-route-service apps.identity live-authz --hostname live", "ok", func() error {
		_, _, err := d.BindRoute(ctx, service, liveRoute, "")
		return err
	})
	rows = append(rows, d.call(ctx, "frontend", "GET", url, nil, "200"), d.call(ctx, "intruder", "GET", url, nil, "200"))
	step("cf service live-authz --params", "mode report", func() error { return d.expectMode(ctx, service, "report") })
	step(`cf update-service live-authz -c '{"allow_add":["cf:app:<frontend>"]}'`, "ok", func() error {
		return d.UpdateService(ctx, service, `{"allow_add":["cf:app:`+playground.Frontend.Identity().App+`"]}`)
	})
	step(`cf update-service live-authz -c '{"mode":"enforce"}'`, "ok", func() error {
		return d.UpdateService(ctx, service, `{"mode":"enforce"}`)
	})
	return append(rows, d.call(ctx, "frontend", "GET", url, nil, "200"), d.call(ctx, "intruder", "GET", url, nil, "403 scope"))
}

func (d *demo) expectMode(ctx context.Context, service controller.Service, mode string) error {
	answer, err := d.Controller.FetchService(ctx, service)
	if err := playground.Succeeded(answer, err); err != nil {
		return err
	}
	var fetched struct {
		Parameters struct {
			Status struct {
				Routes []struct{ Mode string }
			}
		}
	}
	if err := json.Unmarshal(answer.Body, &fetched); err != nil {
		return err
	}
	if routes := fetched.Parameters.Status.Routes; len(routes) != 1 || routes[0].Mode != mode {
		return fmt.Errorf("status: expected one route in mode %s, got %v", mode, routes)
	}
	return nil
}
