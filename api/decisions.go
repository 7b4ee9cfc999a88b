package api

import (
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/api/envelope"
	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/grants/route"
	"github.com/mtls-authz/mtls-authz/rego/recording"
)

const (
	defaultDecisions = 100
	maxDecisions     = 100_000 // more than are kept
)

// listDecisions shows the decisions that this gateway keeps in memory, one a
// line, the newest first: what policy diff and policy eval read.
func (a *api) listDecisions(w http.ResponseWriter, r *http.Request) error {
	filter := recording.Filter{Limit: defaultDecisions}
	_, err := list.ParseParams(r.URL.RawQuery, map[string]list.Param{
		"route":   func(value string) (err error) { filter.Route, err = route.Parse(value); return err },
		"binding": func(value string) (err error) { filter.Binding, err = list.GUID(value); return err },
		"since":   list.Time(&filter.Since), "limit": list.Number(&filter.Limit, maxDecisions),
	})
	if err != nil {
		return envelope.Refuse(http.StatusBadRequest, "%w", err)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := a.Recording.Write(w, filter); err != nil {
		return fmt.Errorf("%w: %w", envelope.ErrHalf, err)
	}
	return nil
}
