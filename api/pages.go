package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/store"
)

// page is what the store found for a query.
type page[T any] struct {
	found []T
	total int
	err   error
}

func pageOf(q list.Query) store.Page {
	return store.Page{Number: q.Number, Size: q.Size, Descending: q.Descending}
}

// answerList answers with a page; what is damaged becomes a warning, so that it
// does not hide the rest.
func answerList[T, R any](a *api, w http.ResponseWriter, r *http.Request, q list.Query, p page[T], represent func(T) R) error {
	warnings, err := damages(p.err)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	resources := func(yield func(R) bool) {
		for _, one := range p.found {
			if !yield(represent(one)) {
				return
			}
		}
	}
	if err := list.Write(w, q.Pagination(a.BaseURL+r.URL.Path, p.total), warnings, resources); err != nil {
		return fmt.Errorf("%w: %w", envelope.ErrHalf, err)
	}
	return nil
}

// damages tells the damaged rows from an error that leaves nothing to show.
func damages(err error) (warnings []string, other error) {
	if err == nil {
		return nil, nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			more, other := damages(one)
			if other != nil {
				return nil, err
			}
			warnings = append(warnings, more...)
		}
		return warnings, nil
	}
	if !errors.Is(err, store.ErrDamaged) {
		return nil, err
	}
	return []string{err.Error() + "; it admits nobody and can be deleted"}, nil
}

// pathGUID is the guid in the path. What cannot be one is not there.
func pathGUID(r *http.Request, what string) (string, error) {
	id, err := list.GUID(r.PathValue("guid"))
	if err != nil {
		return "", missing(what, r.PathValue("guid"))
	}
	return id, nil
}

func missing(what, id string) error {
	return envelope.Refuse(http.StatusNotFound, "there is no %s %q", what, envelope.Clip(id))
}

// only is the one that was asked for.
func only[T any](what, id string, found []T, err error) (one T, _ error) {
	switch warnings, other := damages(err); {
	case other != nil:
		return one, other
	case len(warnings) > 0:
		return one, envelope.Refuse(http.StatusInternalServerError, "%s", warnings[0])
	case len(found) == 0:
		return one, missing(what, id)
	}
	return found[0], nil
}

func deleted(w http.ResponseWriter, what, id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return missing(what, id)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
