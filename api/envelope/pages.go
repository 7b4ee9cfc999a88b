package envelope

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mtls-authz/mtls-authz/api/list"
	"github.com/mtls-authz/mtls-authz/store"
)

// A Page is what the store found for a query.
type Page[T any] struct {
	// BaseURL is the prefix of links.
	BaseURL string
	Query   list.Query
	Found   []T
	Total   int
	Err     error
}

// PageOf is the part of a list that a query asks for.
func PageOf(q list.Query) store.Page {
	return store.Page{Number: q.Number, Size: q.Size, Descending: q.Descending}
}

// AnswerList answers with a page; what is damaged becomes a warning, so that it
// does not hide the rest.
func AnswerList[T, R any](w http.ResponseWriter, r *http.Request, p Page[T], represent func(T) R) error {
	warnings, err := Damages(p.Err)
	if err != nil {
		return err
	}
	pagination := p.lead(w, r)
	w.Header().Set("Content-Type", "application/json")
	resources := func(yield func(R) bool) {
		for _, one := range p.Found {
			if !yield(represent(one)) {
				return
			}
		}
	}
	if err := list.Write(w, pagination, warnings, resources); err != nil {
		return fmt.Errorf("%w: %w", ErrHalf, err)
	}
	return nil
}

// lead leads to the next page, also those who read text (RFC 8288).
func (p Page[T]) lead(w http.ResponseWriter, r *http.Request) list.Pagination {
	pagination := p.Query.Pagination(p.BaseURL+r.URL.Path, p.Total)
	if pagination.Next != nil {
		w.Header().Set("Link", "<"+pagination.Next.Href+`>; rel="next"`)
	}
	return pagination
}

// AnswerText answers with a page as text, which write writes; where the page stands
// among what, and what is damaged, is told below.
func AnswerText[T any](w http.ResponseWriter, r *http.Request, p Page[T], what string, write func(io.Writer) error) error {
	warnings, err := Damages(p.Err)
	if err != nil {
		return err
	}
	pagination := p.lead(w, r)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := write(w); err != nil {
		return fmt.Errorf("%w: %w", ErrHalf, err)
	}
	var foot strings.Builder
	if pagination.TotalPages > 1 || p.Total == 0 {
		fmt.Fprintf(&foot, "page %d of %d; %d %s in all\n", p.Query.Number, pagination.TotalPages, p.Total, what)
	}
	for _, warning := range warnings {
		foot.WriteString("- " + Clip(warning) + "\n")
	}
	_, _ = io.WriteString(w, foot.String()) // the client may be gone
	return nil
}

// Damages tells the damaged rows from an error that leaves nothing to show.
func Damages(err error) (warnings []string, other error) {
	if err == nil {
		return nil, nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			more, other := Damages(one)
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

// Missing is the refusal of what is not there.
func Missing(what, id string) error {
	return Refuse(http.StatusNotFound, "there is no %s %q", what, Clip(id))
}
