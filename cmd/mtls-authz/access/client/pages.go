package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// pageSize is how many resources are asked for at once: their parameters may be
// large, and a gateway shows a bounded part of them.
const pageSize = 128

// List is a page of one, or all of it.
type List[T any] struct {
	Pagination struct {
		Total int       `json:"total_results"`
		Next  *struct{} `json:"next"`
	} `json:"pagination"`
	Warnings  []string `json:"warnings"`
	Resources []T      `json:"resources"`
}

// pages gives show each page of a list, as it came; show reports whether there are
// more. Of pages that are too large, it asks for smaller ones.
func (g *Client) pages(ctx context.Context, path string, show func([]byte, http.Header) (more bool, err error)) error {
	for size, page, more := pageSize, 1, true; more; {
		answer, head, err := g.send(ctx, http.MethodGet, fmt.Sprintf("%s?per_page=%d&page=%d", path, size, page), nil)
		var refused *refusal
		if errors.As(err, &refused) && strings.Contains(refused.detail, "too large") && size > 1 {
			size, page = size/2, 2*page-1 // begins where the larger one did
			continue
		}
		if err != nil {
			return err
		}
		if more, err = show(answer, head); err != nil {
			return err
		}
		page++
	}
	return nil
}

// All reads a whole list.
func All[T any](ctx context.Context, g *Client, path string) (whole List[T], err error) {
	plain := *g
	plain.accept = asJSON
	whole.Warnings, whole.Resources = []string{}, []T{}
	err = plain.pages(ctx, path, func(answer []byte, _ http.Header) (bool, error) {
		var page List[T]
		if err := json.Unmarshal(answer, &page); err != nil {
			return false, fmt.Errorf("%s%s: expected JSON of a gateway: %w", g.base, path, err)
		}
		whole.Pagination.Total = page.Pagination.Total
		whole.Warnings, whole.Resources = append(whole.Warnings, page.Warnings...), append(whole.Resources, page.Resources...)
		return page.Pagination.Next != nil, nil
	})
	return whole, err
}

// ShowList prints a whole list, as text one page below the other.
func (g *Client) ShowList(ctx context.Context, w io.Writer, path string) error {
	if g.accept == asJSON {
		whole, err := All[json.RawMessage](ctx, g, path)
		if err != nil {
			return err
		}
		text, err := json.Marshal(whole)
		if err != nil {
			return err
		}
		return Show(w, append(text, '\n'))
	}
	return g.pages(ctx, path, func(answer []byte, head http.Header) (bool, error) {
		return strings.Contains(head.Get("Link"), `rel="next"`), Show(w, answer)
	})
}
