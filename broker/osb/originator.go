package osb

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
)

type originatorKey struct{}

func withOriginator(r *http.Request) context.Context {
	return context.WithValue(r.Context(), originatorKey{}, originator(r))
}

// Originator is who caused the request: the user id that the platform sent, a
// guid or the name of a UAA client; "" where it named nobody, as orphan
// mitigation does.
func Originator(ctx context.Context) string {
	user, _ := ctx.Value(originatorKey{}).(string)
	return user
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
