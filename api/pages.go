package api

import (
	"errors"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/store"
)

// pathGUID is the guid in the path. What cannot be one is not there.
func pathGUID(r *http.Request, what string) (string, error) {
	id, err := list.GUID(r.PathValue("guid"))
	if err != nil {
		return "", envelope.Missing(what, r.PathValue("guid"))
	}
	return id, nil
}

// only is the one that was asked for.
func only[T any](what, id string, found []T, err error) (one T, _ error) {
	switch warnings, other := envelope.Damages(err); {
	case other != nil:
		return one, other
	case len(warnings) > 0:
		return one, envelope.Refuse(http.StatusInternalServerError, "%s", warnings[0])
	case len(found) == 0:
		return one, envelope.Missing(what, id)
	}
	return found[0], nil
}

func deleted(w http.ResponseWriter, what, id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return envelope.Missing(what, id)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
