package target_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/target"
)

func TestAccepted(t *testing.T) {
	for forwarded, want := range map[string]target.Target{
		"https://backend.apps.identity":              {Host: "backend.apps.identity", RawPath: "/", Path: "/"},
		"https://backend.apps.identity/":             {Host: "backend.apps.identity", RawPath: "/", Path: "/"},
		"https://Backend.Apps.Identity/A/b":          {Host: "backend.apps.identity", RawPath: "/A/b", Path: "/A/b", Segments: []string{"A", "b"}},
		"https://backend.apps.identity:443/a":        {Host: "backend.apps.identity", RawPath: "/a", Path: "/a", Segments: []string{"a"}},
		"https://b.x/a%20b":                          {Host: "b.x", RawPath: "/a%20b", Path: "/a b", Segments: []string{"a b"}},
		"https://b.x/a%2Fb":                          {Host: "b.x", RawPath: "/a%2Fb", Path: "/a/b", Segments: []string{"a", "b"}},
		"https://b.x//a//":                           {Host: "b.x", RawPath: "//a//", Path: "//a//", Segments: []string{"a"}},
		"https://b.x/a;v=1":                          {Host: "b.x", RawPath: "/a;v=1", Path: "/a;v=1", Segments: []string{"a;v=1"}},
		"https://b.x/%25":                            {Host: "b.x", RawPath: "/%25", Path: "/%", Segments: []string{"%"}},
		"https://b.x/100%25x":                        {Host: "b.x", RawPath: "/100%25x", Path: "/100%x", Segments: []string{"100%x"}},
		"https://b.x/%C3%A9":                         {Host: "b.x", RawPath: "/%C3%A9", Path: "/é", Segments: []string{"é"}},
		"https://b.x/...":                            {Host: "b.x", RawPath: "/...", Path: "/...", Segments: []string{"..."}},
		"https://b.x/.well-known/x":                  {Host: "b.x", RawPath: "/.well-known/x", Path: "/.well-known/x", Segments: []string{".well-known", "x"}},
		"https://b.x?":                               {Host: "b.x", RawPath: "/", Path: "/", HasQuery: true},
		"https://b.x/a?q=../..&r=%zz|{}\"":           {Host: "b.x", RawPath: "/a", Path: "/a", Segments: []string{"a"}, Query: "q=../..&r=%zz|{}\"", HasQuery: true},
		"https://b.x/a?https://evil/":                {Host: "b.x", RawPath: "/a", Path: "/a", Segments: []string{"a"}, Query: "https://evil/", HasQuery: true},
		"https://xn--bcher-kva.apps.identity/a":      {Host: "xn--bcher-kva.apps.identity", RawPath: "/a", Path: "/a", Segments: []string{"a"}},
		"https://under_score.apps.identity/-._~!$&'": {Host: "under_score.apps.identity", RawPath: "/-._~!$&'", Path: "/-._~!$&'", Segments: []string{"-._~!$&'"}},
	} {
		got, err := target.Parse(forwarded)
		if assert.NoError(t, err, forwarded) {
			assert.Equal(t, want, got, forwarded)
		}
	}
}

// What was decided on is sent on, byte for byte.
func TestURLIsByteForByte(t *testing.T) {
	for _, raw := range []string{
		"/", "/a", "/a/", "//", "//a", "//a//b", "/a%2Fb", "/a%2fb", "/%41", "/a%20b", "/a;b=c,d", "/!$&'()*+,;=:@", "/%C3%A9", "/a?", "/a?b", "/?b=c&d", "/a?b?c", "/a?%zz", "/~%7E",
		"/%25", "/a%25b?x=%00", "//evil.example/a", "/a:b", "/a?q=\"|\"",
	} {
		parsed, err := target.Parse("https://b.x" + raw)
		require.NoError(t, err, raw)
		assert.Equal(t, raw, parsed.URL().RequestURI())
		assert.Equal(t, "b.x", parsed.URL().Host)
	}
}

func TestTheLengthIsBounded(t *testing.T) {
	within := "https://b.x/" + strings.Repeat("a", 88)
	for _, most := range []int{0, 100, 1000} {
		_, err := target.ParseWithin(most, within)
		require.NoError(t, err, most)
	}
	_, err := target.ParseWithin(99, within)
	require.ErrorIs(t, err, target.ErrMalformed)
	_, err = target.ParseWithin(0, within+strings.Repeat("a", target.DefaultMax))
	require.ErrorIs(t, err, target.ErrMalformed)
}

// What is logged of a path that was refused moves no cursor, and holds neither query
// nor fragment.
func TestRefusedPathsForTheLog(t *testing.T) {
	for forwarded, want := range map[string]string{
		"https://b.x/a/../b?secret=1": "/a/../b", "https://b.x/\xc2\x9b31m": "/%C2%9B31m", "https://b.x/a\x1b[2J": "/a%1B%5B2J",
		"https://b.x/a#secret/..": "/a", "https://b.x/\xe2\x80\xaegnp/..": "/%E2%80%AEgnp/..", "https://b.x/a\xff": "/a%FF", "https://b.x": "", "": "",
	} {
		assert.Equal(t, want, target.RefusedPath(forwarded), "%q", forwarded)
	}
}
