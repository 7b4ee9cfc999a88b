package playground

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/controller"
)

// Client returns an HTTP client as an app of the foundation has one: every
// host leads to the router, and the app's certificate is presented. A nil
// credential presents none.
func (f *Foundation) Client(credential *ca.Credential) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(f.RouterCA.Certificate())
	config := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if credential != nil {
		certificate := credential.TLS()
		// Presented whatever CAs the router names: a forger would.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
	var dialer net.Dialer
	return &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			TLSClientConfig: config,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, network, f.Router.Addr())
			},
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Reply is what a caller heard.
type Reply struct {
	Status int
	Header http.Header
	Body   string
	// Reason is the reason id of the gateway's refusal; "" where the answer is
	// not one.
	Reason string
}

// Call sends one request without a body and reads the answer.
func Call(ctx context.Context, client *http.Client, method, url string, header http.Header) (Reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return Reply{}, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	res, err := client.Do(request)
	if err != nil {
		return Reply{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return Reply{}, err
	}
	reply := Reply{Status: res.StatusCode, Header: res.Header, Body: string(body)}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/problem+json") {
		var problem struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(body, &problem); err != nil {
			return reply, fmt.Errorf("problem body: %w", err)
		}
		reply.Reason = problem.Reason
	}
	return reply, nil
}

// Service returns a service instance in an app's space; plan is space, org or
// any.
func (f *Foundation) Service(ctx context.Context, name, plan string, owner App) (controller.Service, error) {
	var catalog struct {
		Services []struct {
			ID    string
			Plans []struct{ ID, Name string }
		}
	}
	answer, err := f.Controller.Catalog(ctx)
	if err != nil {
		return controller.Service{}, err
	}
	if err := answer.JSON(&catalog); err != nil {
		return controller.Service{}, fmt.Errorf("catalog: %w", err)
	}
	id := owner.Identity()
	for _, offering := range catalog.Services {
		for _, p := range offering.Plans {
			if p.Name == plan {
				return controller.Service{
					GUID: GUID("service " + name), Name: name, OfferingID: offering.ID, PlanID: p.ID,
					Space: controller.Space{GUID: id.Space, Name: owner.Space, OrgGUID: id.Org, OrgName: owner.Org},
				}, nil
			}
		}
	}
	return controller.Service{}, fmt.Errorf("plan %q is not in the catalog", plan)
}

// CreateService is cf create-service.
func (f *Foundation) CreateService(ctx context.Context, name, plan string, owner App, parameters string) (controller.Service, error) {
	service, err := f.Service(ctx, name, plan, owner)
	if err != nil {
		return service, err
	}
	return service, Succeeded(f.Controller.CreateService(ctx, service, json.RawMessage(parameters)))
}

// UpdateService is cf update-service -c.
func (f *Foundation) UpdateService(ctx context.Context, service controller.Service, parameters string) error {
	return Succeeded(f.Controller.UpdateService(ctx, service, controller.Change{Parameters: json.RawMessage(parameters)}))
}

// BindRoute is cf bind-route-service: broker first, then the router.
func (f *Foundation) BindRoute(ctx context.Context, service controller.Service, route, parameters string) (controller.Binding, string, error) {
	binding := controller.Binding{GUID: GUID("binding " + service.Name + " " + route), Route: route, Service: service}
	answer, err := f.Controller.BindRoute(ctx, binding, json.RawMessage(parameters))
	if err := Succeeded(answer, err); err != nil {
		return binding, "", err
	}
	var bound struct {
		URL string `json:"route_service_url"`
	}
	if err := answer.JSON(&bound); err != nil {
		return binding, "", err
	}
	return binding, bound.URL, f.Router.Bind(route, bound.URL)
}

// UnbindRoute is cf unbind-route-service.
func (f *Foundation) UnbindRoute(ctx context.Context, binding controller.Binding) error {
	if err := Succeeded(f.Controller.UnbindRoute(ctx, binding)); err != nil {
		return err
	}
	return f.Router.Unbind(binding.Route)
}

// Succeeded turns an answer that Cloud Controller would not take for success into an
// error.
func Succeeded(answer *controller.Answer, err error) error {
	if err != nil {
		return err
	}
	if outcome := answer.Outcome(); outcome != controller.Succeeded {
		return fmt.Errorf("broker: %s (status %d): %s", outcome, answer.Status, answer.Description())
	}
	return nil
}
