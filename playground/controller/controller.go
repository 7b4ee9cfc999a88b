// Package controller is a broker client that speaks as Cloud Controller does:
// the same headers, queries and bodies, the same reading of the answers. A
// [Platform] also deletes what a failed create may have left behind. The package
// serves the playground and the tests. It trusts its caller and believes a
// broker nothing: an answer that Cloud Controller would not accept is no success.
// Not part of it: time. Nothing polls or retries by itself.
package controller

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	apiVersion     = "2.15" // what Cloud Controller sends
	defaultTimeout = 60 * time.Second
	defaultAPI     = "api.playground.identity/"
	maxAnswer      = 16 << 20
)

// Client calls one broker. The fields must not change while calls run.
type Client struct {
	// URL of the broker without a trailing slash: paths are appended to it as
	// they are. Required.
	URL string
	// Username and Password of the broker. Required.
	Username, Password string
	// User is the guid, or UAA client id, of who acts. Empty: no originating
	// identity is sent, as in background jobs.
	User string
	// APILocation is sent as X-Api-Info-Location. Default: a placeholder.
	APILocation string
	// Timeout of one call, from connecting to the end of the answer. Default:
	// 60 s, as broker_client_timeout_seconds.
	Timeout time.Duration
	// Transport carries the calls; redirects are not followed. Default:
	// http.DefaultTransport.
	Transport http.RoundTripper
}

// Space is where a service instance lives.
type Space struct {
	GUID, Name       string
	OrgGUID, OrgName string
}

// Service is a service instance as Cloud Controller keeps it.
type Service struct {
	GUID, Name         string
	OfferingID, PlanID string // the catalog's ids
	Space              Space
}

// Binding is a route binding of a service instance.
type Binding struct {
	GUID string
	// Route is "host.domain/path" without a scheme, in the user's spelling.
	Route   string
	Service Service
}

// Change is what one update of a service instance asks for. Zero: nothing,
// which Cloud Controller would not send to a broker at all.
type Change struct {
	// Name the instance gets. Default: it keeps its name.
	Name string
	// PlanID it moves to. Default: it keeps its plan.
	PlanID string
	// Parameters as given with -c, a JSON object. Default: {}, and that is sent.
	Parameters json.RawMessage
}

// Catalog is cf create-service-broker's and update-service-broker's call.
func (c *Client) Catalog(ctx context.Context) (*Answer, error) {
	return c.call(ctx, catalog, http.MethodGet, "/v2/catalog", nil, nil)
}

// CreateService is cf create-service. Empty parameters are left out.
func (c *Client) CreateService(ctx context.Context, s Service, parameters json.RawMessage) (*Answer, error) {
	body := provisionBody{
		ServiceID: s.OfferingID, PlanID: s.PlanID, Organization: s.Space.OrgGUID, Space: s.Space.GUID,
		Context: s.Space.context().named(s.Name).annotated(),
	}
	var err error
	if body.Parameters, err = object(parameters, nil); err != nil {
		return nil, err
	}
	return c.call(ctx, provision, http.MethodPut, s.path(), incomplete(), body)
}

// UpdateService is cf update-service and rename-service; s is the instance as
// it was before. Parameters are always sent.
func (c *Client) UpdateService(ctx context.Context, s Service, change Change) (*Answer, error) {
	body := updateBody{
		ServiceID: s.OfferingID, PlanID: s.PlanID,
		Previous: previousValues{PlanID: s.PlanID, ServiceID: s.OfferingID, Organization: s.Space.OrgGUID, Space: s.Space.GUID},
		Context:  s.Space.context().named(s.Name),
	}
	if change.Name != "" {
		body.Context = s.Space.context().named(change.Name)
	}
	if change.PlanID != "" {
		body.PlanID = change.PlanID
	}
	var err error
	if body.Parameters, err = object(change.Parameters, json.RawMessage("{}")); err != nil {
		return nil, err
	}
	return c.call(ctx, update, http.MethodPatch, s.path(), incomplete(), body)
}

// FetchService is cf service --params: no query at all.
func (c *Client) FetchService(ctx context.Context, s Service) (*Answer, error) {
	return c.call(ctx, fetch, http.MethodGet, s.path(), nil, nil)
}

// DeleteService is the last call of cf delete-service, after its unbinds.
func (c *Client) DeleteService(ctx context.Context, s Service) (*Answer, error) {
	return c.call(ctx, deprovision, http.MethodDelete, s.path(), s.ids(incomplete()), nil)
}

// BindRoute is cf bind-route-service. Empty parameters are left out.
func (c *Client) BindRoute(ctx context.Context, b Binding, parameters json.RawMessage) (*Answer, error) {
	return c.bind(ctx, b, bindBody{Resource: bindResource{Route: b.Route}}, parameters)
}

// BindApp is cf bind-service: b has no route.
func (c *Client) BindApp(ctx context.Context, b Binding, app string) (*Answer, error) {
	resource := bindResource{App: app, Space: b.Service.Space.GUID, AppAnnotations: new(annotations)}
	return c.bind(ctx, b, bindBody{App: app, Resource: resource}, nil)
}

// CreateKey is cf create-service-key: b has no route, and nothing names what is
// bound.
func (c *Client) CreateKey(ctx context.Context, b Binding) (*Answer, error) {
	return c.bind(ctx, b, bindBody{}, nil)
}

func (c *Client) bind(ctx context.Context, b Binding, body bindBody, parameters json.RawMessage) (*Answer, error) {
	s := b.Service
	body.ServiceID, body.PlanID, body.Context = s.OfferingID, s.PlanID, s.Space.context()
	var err error
	if body.Parameters, err = object(parameters, nil); err != nil {
		return nil, err
	}
	return c.call(ctx, bind, http.MethodPut, b.path(), incomplete(), body)
}

// FetchBinding is the call behind /v3/service_route_bindings/:guid/parameters.
func (c *Client) FetchBinding(ctx context.Context, b Binding) (*Answer, error) {
	return c.call(ctx, fetch, http.MethodGet, b.path(), nil, nil)
}

// UnbindRoute is cf unbind-route-service.
func (c *Client) UnbindRoute(ctx context.Context, b Binding) (*Answer, error) {
	return c.call(ctx, unbind, http.MethodDelete, b.path(), b.Service.ids(incomplete()), nil)
}

// DeleteRoute is the unbind of cf delete-route and delete-space: it accepts no
// asynchronous answer, and says so by saying nothing.
func (c *Client) DeleteRoute(ctx context.Context, b Binding) (*Answer, error) {
	return c.call(ctx, unbind, http.MethodDelete, b.path(), b.Service.ids(url.Values{}), nil)
}

// Poll is what Cloud Controller knows of an operation that a broker still works
// on.
type Poll struct {
	// Operation as the broker named it. Default: it gave no name.
	Operation string
	// Deleting tells a deletion from a create or an update: then 410 is
	// success.
	Deleting bool
}

// PollService asks how an operation on a service instance goes; s has the plan
// from before an update.
func (c *Client) PollService(ctx context.Context, s Service, p Poll) (*Answer, error) {
	return c.poll(ctx, s.path(), s, p)
}

// PollBinding asks how an operation on a binding goes.
func (c *Client) PollBinding(ctx context.Context, b Binding, p Poll) (*Answer, error) {
	return c.poll(ctx, b.path(), b.Service, p)
}

func (c *Client) poll(ctx context.Context, path string, s Service, p Poll) (*Answer, error) {
	op, query := poll, s.ids(url.Values{})
	if p.Deleting {
		op = pollDelete
	}
	if p.Operation != "" {
		query.Set("operation", p.Operation)
	}
	return c.call(ctx, op, http.MethodGet, path+"/last_operation", query, nil)
}

// call sends one request. Its error is an *Unanswered when the broker gave no
// answer; all others mean that nothing was sent.
func (c *Client) call(ctx context.Context, op operation, method, path string, query url.Values, body any) (*Answer, error) {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	transport := c.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	answer := &Answer{operation: op, RequestID: req.Header.Get(requestIdentity)}
	res, err := transport.RoundTrip(req)
	if err == nil {
		defer res.Body.Close()
		answer.Status, answer.Header = res.StatusCode, res.Header
		answer.Body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	}
	if err != nil {
		return nil, &Unanswered{operation: op, RequestID: answer.RequestID, Timeout: timedOut(err), Err: err}
	}
	return answer, nil
}

const requestIdentity = "X-Broker-Api-Request-Identity"

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	target := c.URL + path
	if len(query) > 0 {
		target += "?" + query.Encode() // sorted by name, as Cloud Controller writes them
	}
	var content bytes.Buffer
	if body != nil {
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(body); err != nil {
			return nil, fmt.Errorf("controller: encode body for %s %q: %w", method, path, err)
		}
		content.Truncate(content.Len() - 1) // the encoder's newline
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(content.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("controller: broker URL %q: %w", c.URL, err)
	}
	req.SetBasicAuth(c.Username, c.Password)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Broker-Api-Version", apiVersion)
	req.Header.Set("X-Vcap-Request-Id", newGUID()+"::"+newGUID())
	req.Header.Set(requestIdentity, newGUID())
	req.Header.Set("X-Api-Info-Location", c.apiLocation())
	if c.User != "" {
		req.Header.Set("X-Broker-Api-Originating-Identity", "cloudfoundry "+identity(c.User))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func (c *Client) apiLocation() string {
	if c.APILocation == "" {
		return defaultAPI
	}
	return c.APILocation
}

func identity(user string) string {
	encoded, _ := json.Marshal(map[string]string{"user_id": user}) // strings always encode
	return base64.StdEncoding.EncodeToString(encoded)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

func newGUID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
