package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/access/explanation"
	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/gateway"
	"github.com/mtls-authz/mtls-authz/gateway/target"
	"github.com/mtls-authz/mtls-authz/grants/effective"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/store"
)

// question is the body of a POST to /v1/decide.
type question struct {
	// Caller is who would call; null: somebody without a certificate. Of an app
	// that has called before, the app is enough.
	Caller *explanation.Caller `json:"caller"`
	Method string              `json:"method"`
	URL    string              `json:"url"`
	// Binding chooses among several of a route; "": the newest.
	Binding string `json:"binding_guid"`
}

// maxQuestion bounds the body, in bytes.
const maxQuestion = 64 << 10

func (a *Access) decide(w http.ResponseWriter, r *http.Request) error {
	return a.Decide(w, r, Viewer{})
}

// Decide answers what a request would get.
func (a *Access) Decide(w http.ResponseWriter, r *http.Request, v Viewer) error {
	asked, err := readQuestion(w, r)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	who, err := a.callerOf(r, asked.Caller, v)
	if err != nil {
		return err
	}
	b, err := a.boundTo(r, asked, v)
	if err != nil {
		return err
	}
	e, err := a.of(r.Context(), a.Explain(r.Context(), gateway.Question{Binding: b.ID, Caller: who, Method: asked.Method, URL: asked.URL}), b, v)
	if err != nil {
		return err
	}
	if !v.Org.IsZero() {
		b = b.ForOwner()
	}
	for _, text := range effective.SameRoute(b.Others, b.Foreign) {
		e.Warn("%s", text)
	}
	if a.NotBound != nil {
		if reason := a.NotBound(b.Route.String()); reason != "" {
			e.Warn("requests to the route do not come to the gateway: %s", reason)
		}
	}
	return answer(w, r, e)
}

func readQuestion(w http.ResponseWriter, r *http.Request) (q question, err error) {
	raw, err := envelope.Body(w, r, maxQuestion)
	if err != nil {
		return q, err
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&q); err != nil {
		return q, fmt.Errorf(`%w; expected {"caller": {"app", "space", "org"}, "method", "url"}`, mistake.OfJSON(err, "the question"))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return q, errors.New("something follows the question")
	}
	if q.Method == "" || q.URL == "" {
		return q, errors.New("method and url are required, such as GET and https://host/path")
	}
	return q, nil
}

// callerOf completes the caller by what verified callers have shown: to a user it is
// not told where an app is.
func (a *Access) callerOf(r *http.Request, given *explanation.Caller, v Viewer) (identity.Caller, error) {
	if given == nil {
		return identity.Caller{}, nil
	}
	who := identity.Caller{Foundation: a.Foundation}
	parse := func(name, text string, into *identity.GUID) (err error) {
		if *into, err = identity.ParseGUID(text); err != nil {
			err = envelope.Refuse(http.StatusBadRequest, "caller.%s: %w", name, err)
		}
		return err
	}
	if err := parse("app", given.App, &who.App); err != nil {
		return identity.Caller{}, err
	}
	if given.Space == "" && given.Org == "" && v.Org.IsZero() {
		homes, err := a.Store.Sightings().Fresh(r.Context()).Homes(r.Context(), []string{given.App}, nil)
		if err != nil {
			return identity.Caller{}, err
		}
		home, known := homes[given.App]
		if !known {
			return identity.Caller{}, envelope.Refuse(http.StatusBadRequest, "app %s has not called yet, so where it is must be said: caller.space and caller.org", given.App)
		}
		given.Space, given.Org = home.Space, home.Org
	}
	err := parse("space", given.Space, &who.Space)
	if err == nil {
		err = parse("org", given.Org, &who.Org)
	}
	if err != nil {
		return identity.Caller{}, err
	}
	return who, nil
}

// boundTo is the binding that the question is about.
func (a *Access) boundTo(r *http.Request, asked question, v Viewer) (store.BoundRoute, error) {
	if asked.Binding != "" {
		b, err := a.binding(r, asked.Binding)
		if errors.Is(err, store.ErrNotFound) || err == nil && !v.sees(b) {
			err = envelope.Missing("binding", asked.Binding)
		}
		return b, err
	}
	to, err := target.Parse(asked.URL)
	if to.Host == "" {
		return store.BoundRoute{}, envelope.Refuse(http.StatusBadRequest, "url: %w; the gateway answers 400", err)
	}
	b, err := a.bindingFor(r, to, v)
	if errors.Is(err, errNoRoute) {
		err = envelope.Refuse(http.StatusNotFound, "no route that is bound to the gateway is for https://%s%s", to.Host, envelope.Clip(to.RawPath))
		if v.Instance != "" {
			err = envelope.Refuse(http.StatusNotFound, "no route that is bound to the service instance is for https://%s%s", to.Host, envelope.Clip(to.RawPath))
		}
	}
	return b, err
}

// sees reports whether a binding is one that the viewer may ask about.
func (v Viewer) sees(b store.BoundRoute) bool {
	return v.Instance == "" || v.Instance == b.InstanceID
}

// binding is one by its guid, or [store.ErrNotFound].
func (a *Access) binding(r *http.Request, id string) (store.BoundRoute, error) {
	found, _, err := a.Store.AllBindings(r.Context(), store.BindingFilter{IDs: []string{id}}, store.Page{Number: 1, Size: 1})
	if err == nil && len(found) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.BoundRoute{}, err
	}
	return found[0], nil
}
