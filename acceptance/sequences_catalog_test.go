package acceptance_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground/controller"
	"github.com/mtls-authz/mtls-authz/playground/controller/faults"
)

func TestSequencesOfTheEnvelope(t *testing.T) {
	t.Parallel()
	onBoth(t, sequences{
		"S1 the catalog obeys Cloud Controller's rules":                             catalogRules,
		"S1 nothing answers without the right password":                             wrongPasswords,
		"S1 every 2.x is spoken, and nothing else":                                  versions,
		"S19 what is asked for its last operation has succeeded or is not there":    lastOperations,
		"S21 whatever the originating identity looks like it is never an error":     originators,
		"S21 a request identity of any text comes back with errors as with answers": requestIdentities,
	})
}

type offeringInCatalog struct {
	ID, Name, Description string
	Bindable              bool
	Retrievable           bool `json:"instances_retrievable"`
	BindingsRetrievable   bool `json:"bindings_retrievable"`
	PlanUpdateable        bool `json:"plan_updateable"`
	Requires, Tags        []string
	Metadata              map[string]any
	Plans                 []planInCatalog
	Dashboard             json.RawMessage `json:"dashboard_client"`
}

type planInCatalog struct {
	ID, Name, Description string
	Free                  bool
	Rotatable             json.RawMessage `json:"binding_rotatable"`
	Maintenance           json.RawMessage `json:"maintenance_info"`
	Schemas               struct {
		Instance struct {
			Create, Update struct{ Parameters json.RawMessage }
		} `json:"service_instance"`
		Binding struct {
			Create struct{ Parameters json.RawMessage }
		} `json:"service_binding"`
	}
}

func catalogRules(c *cloud) {
	t := c.t
	var first []byte
	for range c.servers {
		answer := c.is(200)(c.Catalog(t.Context()))
		if first == nil {
			first = answer.Body
		}
		require.JSONEq(t, string(first), string(answer.Body), "the same of every gateway")
	}
	var catalog struct{ Services []offeringInCatalog }
	require.NoError(t, json.Unmarshal(first, &catalog))
	require.Len(t, catalog.Services, 1)
	o := catalog.Services[0]
	assert.Equal(t, offering, o.ID)
	assert.Equal(t, []string{"route_forwarding"}, o.Requires)
	assert.True(t, o.Bindable && o.Retrievable && o.BindingsRetrievable && o.PlanUpdateable)
	assert.Empty(t, o.Dashboard)
	assert.NotEqual(t, true, o.Metadata["shareable"], "Cloud Controller refuses to share route services")
	assert.LessOrEqual(t, len(strings.Join(o.Tags, "")), 2048)
	ids, planNames := []string{}, map[string]bool{}
	for _, p := range o.Plans {
		ids, planNames[p.Name] = append(ids, p.ID), true
		assert.Regexp(t, `^[a-z0-9-]+$`, p.Name)
		assert.NotEmpty(t, p.Description)
		assert.LessOrEqual(t, len(p.Description), 255)
		assert.True(t, p.Free)
		assert.Empty(t, p.Rotatable)
		assert.Empty(t, p.Maintenance)
		for _, schema := range []json.RawMessage{p.Schemas.Instance.Create.Parameters, p.Schemas.Instance.Update.Parameters, p.Schemas.Binding.Create.Parameters} {
			schemaRules(t, schema)
		}
	}
	assert.Equal(t, []string{planSpace, planOrg, planAny}, ids)
	assert.Len(t, planNames, len(ids))
	assert.Regexp(t, `^[a-z0-9-]+$`, o.Name)
	assert.NotEmpty(t, o.Description)
}

// schemaRules are Cloud Controller's for the schema of parameters.
func schemaRules(t *testing.T, schema json.RawMessage) {
	t.Helper()
	assert.LessOrEqual(t, len(schema), 64<<10)
	var members map[string]any
	require.NoError(t, json.Unmarshal(schema, &members))
	assert.Equal(t, "http://json-schema.org/draft-04/schema#", members["$schema"])
	assert.Equal(t, "object", members["type"])
	for _, reference := range bytes.Split(schema, []byte(`"$ref":"`))[1:] {
		assert.True(t, bytes.HasPrefix(reference, []byte("#")), "%.40s leads elsewhere", reference)
	}
}

// everyCall is each kind of request of Cloud Controller's, for things that do not
// exist.
func (c *cloud) everyCall() map[string]func() (*controller.Answer, error) {
	ctx, s := c.t.Context(), c.service()
	b := c.binding(s)
	return map[string]func() (*controller.Answer, error){
		"catalog":     func() (*controller.Answer, error) { return c.Catalog(ctx) },
		"provision":   func() (*controller.Answer, error) { return c.CreateService(ctx, s, nil) },
		"update":      func() (*controller.Answer, error) { return c.UpdateService(ctx, s, controller.Change{}) },
		"fetch":       func() (*controller.Answer, error) { return c.FetchService(ctx, s) },
		"deprovision": func() (*controller.Answer, error) { return c.DeleteService(ctx, s) },
		"bind":        func() (*controller.Answer, error) { return c.BindRoute(ctx, b, nil) },
		"fetch bound": func() (*controller.Answer, error) { return c.FetchBinding(ctx, b) },
		"unbind":      func() (*controller.Answer, error) { return c.UnbindRoute(ctx, b) },
		"poll":        func() (*controller.Answer, error) { return c.PollService(ctx, s, controller.Poll{}) },
		"poll bound":  func() (*controller.Answer, error) { return c.PollBinding(ctx, b, controller.Poll{}) },
	}
}

func wrongPasswords(c *cloud) {
	for name, edit := range map[string]func(*http.Request){
		"none":           func(r *http.Request) { r.Header.Del("Authorization") },
		"wrong password": func(r *http.Request) { r.SetBasicAuth("broker", password+"x") },
		"no password":    func(r *http.Request) { r.SetBasicAuth("broker", "") },
		"wrong user":     func(r *http.Request) { r.SetBasicAuth("admin", password) },
		"bearer":         func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+password) },
		"no base64":      func(r *http.Request) { r.Header.Set("Authorization", "Basic %%%") },
	} {
		for call, send := range c.everyCall() {
			c.network.Next(faults.Edit(edit))
			answer, err := send()
			require.NoError(c.t, err)
			require.Equal(c.t, 401, answer.Status, "%s: %s", name, call)
			assert.Contains(c.t, answer.Header.Get("Www-Authenticate"), "Basic", name)
			assert.NotEmpty(c.t, answer.Description(), name)
		}
	}
}

func versions(c *cloud) {
	for version, supported := range map[string]bool{
		"": false, "1.0": false, "3.0": false, "2": false, "2.x": false, "2.14x": false, "2.14": true, "2.15": true, "2.17": true, "2.99": true,
	} {
		edit := faults.Edit(func(r *http.Request) {
			r.Header.Del("X-Broker-Api-Version")
			if version != "" {
				r.Header.Set("X-Broker-Api-Version", version)
			}
		})
		for call, send := range c.everyCall() {
			c.network.Next(edit)
			answer, err := send()
			require.NoError(c.t, err)
			assert.Equal(c.t, supported, answer.Status != 412, "%q: %s", version, call)
			assert.True(c.t, supported || answer.Description() != "", "%q: %s", version, call)
		}
	}
}

// The broker is synchronous, so Cloud Controller never asks; a job of another
// time may. It survives success, and what it survives by asking again.
func lastOperations(c *cloud) {
	ctx, s := c.t.Context(), c.created("")
	b := c.bound(s, "")
	unknown := c.service()
	for _, poll := range []controller.Poll{{}, {Operation: "task 1&x=y"}, {Deleting: true}} {
		for _, answer := range []*controller.Answer{c.is200(c.PollService(ctx, s, poll)), c.is200(c.PollBinding(ctx, b.Binding, poll))} {
			assert.Equal(c.t, controller.Succeeded, answer.Outcome())
			assert.JSONEq(c.t, `{"state":"succeeded"}`, string(answer.Body))
		}
		for _, f := range []func() (*controller.Answer, error){
			func() (*controller.Answer, error) { return c.PollService(ctx, unknown, poll) },
			func() (*controller.Answer, error) { return c.PollBinding(ctx, c.binding(s), poll) },
		} {
			answer, err := f()
			require.NoError(c.t, err)
			assert.Equal(c.t, 404, answer.Status)
			assert.Equal(c.t, controller.InProgress, answer.Outcome())
			assert.NotEmpty(c.t, answer.Description())
		}
	}
	c.is(200)(c.FetchBinding(ctx, b.Binding))
}

func (c *cloud) is200(answer *controller.Answer, err error) *controller.Answer {
	c.t.Helper()
	require.NoError(c.t, err)
	require.Equal(c.t, 200, answer.Status, string(answer.Body))
	return answer
}

func originators(c *cloud) {
	encoded := func(identity string) string {
		return "cloudfoundry " + base64.StdEncoding.EncodeToString([]byte(identity))
	}
	for _, value := range []string{
		"", " ", "cloudfoundry", "cloudfoundry ", "cloudfoundry %%%", "kubernetes e30=", encoded(""), encoded("[]"), encoded("null"), encoded("{}"),
		encoded(`{"user_id":7}`), encoded(`{"user_id":null}`), encoded(`{"user_id":"a-client","extra":{"deep":[1]}}`), encoded(`{"user_id":"` + strings.Repeat("user.", 800) + `"}`),
		encoded("{\"user_id\":\"a\\u0000b\\ud800\"}"), encoded("\xff\xfe"),
	} {
		edit := faults.Edit(func(r *http.Request) {
			r.Header.Del("X-Broker-Api-Originating-Identity")
			if value != "" {
				r.Header.Set("X-Broker-Api-Originating-Identity", value)
			}
		})
		c.network.Next(edit, edit, edit, edit, edit)
		s := c.created(onlyFrontend)
		c.is(200)(c.UpdateService(c.t.Context(), s, controller.Change{Parameters: given(onlyMonitoring)}))
		b := c.bound(s, "")
		c.is(200)(c.UnbindRoute(c.t.Context(), b.Binding))
		c.is(200)(c.DeleteService(c.t.Context(), s))
	}
}

func requestIdentities(c *cloud) {
	s := c.created("")
	for _, value := range []string{"e26cee84-6b38-4456-b34e-d1a9f002c956", "any text; with=signs", strings.Repeat("x", 4000)} {
		edit := faults.Edit(func(r *http.Request) { r.Header.Set("X-Broker-Api-Request-Identity", value) })
		wrong := faults.Edit(func(r *http.Request) {
			r.Header.Set("X-Broker-Api-Request-Identity", value)
			r.Header.Del("Authorization")
		})
		c.network.Next(edit, edit, edit, wrong)
		for _, f := range []func() (*controller.Answer, error){
			func() (*controller.Answer, error) { return c.FetchService(c.t.Context(), s) },
			func() (*controller.Answer, error) {
				return c.BindRoute(c.t.Context(), c.binding(s), given(`{"allow":7}`))
			},
			func() (*controller.Answer, error) { return c.UnbindRoute(c.t.Context(), c.binding(s)) },
			func() (*controller.Answer, error) { return c.Catalog(c.t.Context()) },
		} {
			answer, err := f()
			require.NoError(c.t, err)
			assert.Equal(c.t, value, answer.Header.Get("X-Broker-Api-Request-Identity"), "%d", answer.Status)
		}
	}
}
