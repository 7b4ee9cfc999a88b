package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/grants/admission"
	"github.com/mtls-authz/mtls-authz/grants/mistake"
	"github.com/mtls-authz/mtls-authz/grants/parameters"
	"github.com/mtls-authz/mtls-authz/store"
)

// maxPatch bounds the body of a change, in bytes, as the broker does.
const maxPatch = 1 << 20

// changeGrants adds and removes grants of a service instance, as cf update-service
// with allow_add and allow_remove does: the same parser, transaction and audit.
func (a *api) changeGrants(w http.ResponseWriter, r *http.Request) error {
	id, err := pathGUID(r, "service instance")
	if err != nil {
		return err
	}
	patch, err := readPatch(w, r)
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	operator := admission.Operator{Report: a.ReportAllowed, Names: a.Names}
	err = a.Updater.UpdateInstance(r.Context(), envelope.CauseOf(r), id, func(i store.Instance) (store.Instance, error) {
		former := i.Parameters
		var err error
		if i.Parameters, err = former.Update(patch, a.Now()); err != nil {
			return i, err
		}
		return i, operator.Check(i.Parameters, former, i.Plan)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return envelope.Missing("service instance", id)
	case errors.Is(err, parameters.ErrParameters):
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	case err != nil:
		return err
	}
	return a.showInstance(w, r)
}

// readPatch reads a change of grants and of nothing else: what a user's token changes
// here, Cloud Controller does not hear.
func readPatch(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	raw, err := envelope.Body(w, r, maxPatch)
	if err != nil {
		return nil, err
	}
	const expected = `expected {"allow_add": [...], "allow_remove": [...]}`
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("%w; %s", mistake.OfJSON(err, "the change"), expected)
	}
	if len(members) == 0 {
		return nil, errors.New("nothing to change; " + expected)
	}
	for name := range members {
		if name != "allow_add" && name != "allow_remove" {
			return nil, fmt.Errorf("unknown member %q; %s", envelope.Clip(name), expected)
		}
	}
	return raw, nil
}
