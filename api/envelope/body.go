package envelope

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/api/list"
)

// Body reads the JSON that a request without a query brings, most bytes at most.
func Body(w http.ResponseWriter, r *http.Request, most int64) ([]byte, error) {
	if _, err := list.ParseParams(r.URL.RawQuery, nil); err != nil {
		return nil, err
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return nil, errors.New("expected Content-Type: application/json")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return nil, fmt.Errorf("the body could not be read: %w", err)
	}
	return raw, nil
}
