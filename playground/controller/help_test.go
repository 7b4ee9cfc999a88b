package controller_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
)

var (
	service = controller.Service{
		GUID: "instance-guid", Name: "my-authz", OfferingID: "offering", PlanID: "plan",
		Space: controller.Space{GUID: "space-guid", Name: "space", OrgGUID: "org-guid", OrgName: "org"},
	}
	binding = controller.Binding{GUID: "binding-guid", Route: "Backend.apps.identity/Path", Service: service}
)

// call is one of the client's methods with fixed arguments.
type call func(*controller.Client) (*controller.Answer, error)

var (
	ctx     = context.Background()
	catalog = call(func(c *controller.Client) (*controller.Answer, error) { return c.Catalog(ctx) })
	create  = call(func(c *controller.Client) (*controller.Answer, error) { return c.CreateService(ctx, service, nil) })
	update  = call(func(c *controller.Client) (*controller.Answer, error) {
		return c.UpdateService(ctx, service, controller.Change{})
	})
	fetch        = call(func(c *controller.Client) (*controller.Answer, error) { return c.FetchService(ctx, service) })
	remove       = call(func(c *controller.Client) (*controller.Answer, error) { return c.DeleteService(ctx, service) })
	bind         = call(func(c *controller.Client) (*controller.Answer, error) { return c.BindRoute(ctx, binding, nil) })
	fetchBinding = call(func(c *controller.Client) (*controller.Answer, error) { return c.FetchBinding(ctx, binding) })
	unbind       = call(func(c *controller.Client) (*controller.Answer, error) { return c.UnbindRoute(ctx, binding) })
	deleteRoute  = call(func(c *controller.Client) (*controller.Answer, error) { return c.DeleteRoute(ctx, binding) })
	bindApp      = call(func(c *controller.Client) (*controller.Answer, error) { return c.BindApp(ctx, binding, "app-guid") })
	createKey    = call(func(c *controller.Client) (*controller.Answer, error) { return c.CreateKey(ctx, binding) })
)

func pollWith(p controller.Poll) call {
	return func(c *controller.Client) (*controller.Answer, error) { return c.PollService(ctx, service, p) }
}

func pollBindingWith(p controller.Poll) call {
	return func(c *controller.Client) (*controller.Answer, error) { return c.PollBinding(ctx, binding, p) }
}

func createWith(parameters string) call {
	return func(c *controller.Client) (*controller.Answer, error) {
		return c.CreateService(ctx, service, json.RawMessage(parameters))
	}
}

func updateWith(change controller.Change) call {
	return func(c *controller.Client) (*controller.Answer, error) { return c.UpdateService(ctx, service, change) }
}

func bindWith(parameters string) call {
	return func(c *controller.Client) (*controller.Answer, error) {
		return c.BindRoute(ctx, binding, json.RawMessage(parameters))
	}
}

// broker is a transport that answers everything alike and keeps the request.
type broker struct {
	status int
	body   string
	err    error

	request *http.Request
	sent    string
}

func (b *broker) RoundTrip(req *http.Request) (*http.Response, error) {
	b.request = req
	if req.Body != nil {
		sent, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		b.sent = string(sent)
	}
	if b.err != nil {
		return nil, b.err
	}
	return &http.Response{
		StatusCode: b.status, Header: http.Header{"X-Answer": {"yes"}},
		Body: io.NopCloser(bytes.NewReader([]byte(b.body))),
	}, nil
}

func (b *broker) client() *controller.Client {
	return &controller.Client{URL: "https://broker.example/prefix", Username: "user", Password: "secret", User: "user-guid", Transport: b}
}

// play makes the call against a broker that answers {} with 200.
func play(t *testing.T, c call) *broker {
	t.Helper()
	b := &broker{status: http.StatusOK, body: "{}"}
	_, err := c(b.client())
	require.NoError(t, err)
	return b
}
