package osb

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
)

type requestKey struct{}

// Request is who sent a request, as far as headers tell.
type Request struct {
	// Originator is the user id that the platform sent, a guid or the name of
	// a UAA client; "" where it named nobody, as orphan mitigation does.
	Originator string
	// ID is the router's id of the request, Identity the platform's.
	ID, Identity string
}

func withRequest(r *http.Request) context.Context {
	return context.WithValue(r.Context(), requestKey{}, Request{
		Originator: originator(r), ID: clip(r.Header.Get(headerRequestID)), Identity: clip(r.Header.Get(headerRequestIdentity)),
	})
}

// RequestOf returns the request that is being answered.
func RequestOf(ctx context.Context) Request {
	request, _ := ctx.Value(requestKey{}).(Request)
	return request
}

func originator(r *http.Request) string {
	_, encoded, _ := strings.Cut(r.Header.Get(headerOriginator), " ")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return ""
	}
	var identity struct {
		UserID string `json:"user_id"`
	}
	if json.Unmarshal(raw, &identity) != nil {
		return ""
	}
	return clip(identity.UserID)
}

// clip makes outside text fit for a log and a database: bounded, printable,
// UTF-8.
func clip(s string) string {
	const most = 512
	if len(s) > most {
		s = s[:most]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
}
