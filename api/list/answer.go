package list

import (
	"encoding/json"
	"io"
	"iter"
	"maps"
	"strconv"
)

// A Link leads to another resource.
type Link struct {
	Href string `json:"href"`
}

// Pagination tells where a page stands in its list.
type Pagination struct {
	TotalResults int   `json:"total_results"`
	TotalPages   int   `json:"total_pages"`
	First        Link  `json:"first"`
	Last         Link  `json:"last"`
	Next         *Link `json:"next"`
	Previous     *Link `json:"previous"`
}

// Pagination leads from this page of a list at url, which has no query, to the
// others, with the same filters. An empty list has one page.
func (q Query) Pagination(url string, total int) Pagination {
	pages := max(1, (total+q.Size-1)/q.Size)
	p := Pagination{TotalResults: total, TotalPages: pages, First: q.page(url, 1), Last: q.page(url, pages)}
	if q.Number < pages {
		next := q.page(url, q.Number+1)
		p.Next = &next
	}
	if q.Number > 1 {
		previous := q.page(url, min(q.Number-1, pages))
		p.Previous = &previous
	}
	return p
}

func (q Query) page(url string, number int) Link {
	query := maps.Clone(q.given)
	query.Set("page", strconv.Itoa(number))
	query.Set("per_page", strconv.Itoa(q.Size))
	return Link{url + "?" + query.Encode()}
}

// Write writes a page, one resource a line. The resources are made one after the
// other, so that a page of large ones is never in memory as a whole. After an
// error, what was written is half a page and must not look like a whole one.
func Write[T any](w io.Writer, p Pagination, warnings []string, resources iter.Seq[T]) error {
	if warnings == nil {
		warnings = []string{}
	}
	out := &writer{w: w}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false) // of the links, which people copy
	out.text(`{"pagination":`)
	out.note(encoder.Encode(p))
	out.text(`,"warnings":`)
	out.note(encoder.Encode(warnings))
	out.text(`,"resources":[`)
	separator := "\n"
	for resource := range resources {
		out.text(separator)
		out.note(encoder.Encode(resource))
		if out.err != nil {
			return out.err
		}
		separator = ","
	}
	out.text("]}\n")
	return out.err
}

// writer keeps the first error.
type writer struct {
	w   io.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.note(err)
	return n, err
}

func (w *writer) text(s string) { _, _ = w.Write([]byte(s)) } // the error is kept

func (w *writer) note(err error) {
	if w.err == nil {
		w.err = err
	}
}
