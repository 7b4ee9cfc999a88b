package target_test

import (
	"bufio"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/target"
)

// The grammar once more, as regular expressions over what RFC 3986 calls the
// parts of a URL.
var (
	grammar = regexp.MustCompile(`\Ahttps://([A-Za-z0-9._-]+)(?::443)?((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*)(?:\?([^#\x00-\x20\x7f]*))?\z`)
	label   = regexp.MustCompile(`\A[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\z`)
	number  = regexp.MustCompile(`\A(?:[0-9]+|0x[0-9a-f]*)\z`)
	escape  = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	refused = regexp.MustCompile(`(?:\A|/) *\.\.? *(?:[;?#][^/]*)?(?:/|\z)|[\x{00}-\x{1f}\x{7f}-\x{9f}\\]`)
	unclear = regexp.MustCompile(`//|[;?#]|%[0-9A-Fa-f]{2}|[` + lookalikes + `]`)
)

// lookalikes are the single characters that NFKC makes hold one of . / \ ; ? # %,
// less those that only make words with a dot of it ("3.", "a.m.", "Co.") or the
// name "...".
const lookalikes = "\u037e\u2024\u2025\u2047-\u2049\u2100\u2101\u2105\u2106\ufe14\ufe16\ufe30\ufe52\ufe54\ufe56\ufe5f\ufe68\ufe6a\uff03\uff05\uff0e\uff0f\uff1b\uff1f\uff3c"

func decode(s string) string {
	return escape.ReplaceAllStringFunc(s, func(e string) string {
		c, _ := strconv.ParseUint(e[1:], 16, 8)
		return string([]byte{byte(c)})
	})
}

// reference reads a forwarded URL as the documentation says.
func reference(forwarded string) (t target.Target, ok bool) {
	parts := grammar.FindStringSubmatch(forwarded)
	if parts == nil || len(forwarded) > 16<<10 {
		return target.Target{}, false
	}
	t.Host, t.RawPath, t.Query = strings.ToLower(parts[1]), parts[2], parts[3]
	t.HasQuery = strings.Contains(forwarded, "?")
	labels := strings.Split(t.Host, ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return target.Target{}, false
		}
	}
	if len(t.Host) > 253 || number.MatchString(labels[len(labels)-1]) {
		return target.Target{}, false
	}
	if t.RawPath == "" {
		t.RawPath = "/"
	}
	t.Path = decode(t.RawPath)
	for _, reading := range []string{t.Path, decode(t.Path)} {
		if !utf8.ValidString(reading) || refused.MatchString(reading) {
			return target.Target{}, false
		}
	}
	for _, segment := range strings.Split(t.Path, "/") {
		if segment != "" {
			t.Segments = append(t.Segments, segment)
		}
	}
	return t, true
}

// FuzzParse: Parse and the reference agree on every string, and what is accepted
// has one reading: net/url and a server that reads the request line see the
// same, and what is printed is read again as the same.
func FuzzParse(f *testing.F) {
	for _, g := range attacks {
		for _, s := range g.strings {
			if len(s) < 1<<10 {
				f.Add(strings.TrimPrefix("https://b.x"+s, "https://b.xhttps://b.x"))
			}
		}
	}
	f.Add("https://backend.apps.identity:443/a%2Fb?q")
	f.Fuzz(func(t *testing.T, forwarded string) {
		parsed, err := target.Parse(forwarded)
		want, ok := reference(forwarded)
		require.Equal(t, ok, err == nil, "%v", err)
		if err != nil {
			require.ErrorIs(t, err, target.ErrMalformed)
			require.Equal(t, target.Target{Host: parsed.Host}, parsed)
			return
		}
		require.Equal(t, want, parsed)
		// Printed and parsed, it is the same.
		printed := parsed.URL().String()
		again, err := target.Parse(printed)
		require.NoError(t, err)
		require.Equal(t, parsed, again)
		// So net/url reads what came and what goes.
		for _, s := range []string{forwarded, printed} {
			u, err := url.Parse(s)
			require.NoError(t, err)
			require.True(t, strings.EqualFold(parsed.Host, u.Hostname()))
			require.Equal(t, strings.TrimSuffix(parsed.RawPath, "/"), strings.TrimSuffix(u.EscapedPath(), "/"))
			require.Equal(t, strings.TrimSuffix(parsed.Path, "/"), strings.TrimSuffix(u.Path, "/"))
			require.Equal(t, parsed.Query, u.RawQuery)
			require.Nil(t, u.User)
			require.Empty(t, u.Fragment+u.Opaque)
		}
		// The app reads the request line as one request for the same.
		line := "GET " + parsed.URL().RequestURI() + " HTTP/1.1\r\nHost: " + parsed.Host + "\r\n\r\n"
		reader := bufio.NewReader(strings.NewReader(line))
		r, err := http.ReadRequest(reader)
		require.NoError(t, err)
		require.Equal(t, parsed.Host, r.Host)
		require.Equal(t, strings.TrimPrefix(printed, "https://"+parsed.Host), r.RequestURI)
		require.Zero(t, reader.Buffered())
	})
}

// FuzzUnambiguous: where the path decides, segments are the raw path's own, each
// decoded once and for all, and hold nothing that another server would cut at.
func FuzzUnambiguous(f *testing.F) {
	for _, g := range attacks {
		for _, s := range g.strings {
			if strings.HasPrefix(s, "/") && len(s) < 1<<10 {
				f.Add(s)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw string) {
		parsed, err := target.Parse("https://b.x/" + strings.TrimPrefix(raw, "/"))
		if err != nil {
			return
		}
		err = parsed.Unambiguous()
		slashes := strings.Contains(strings.ToLower(parsed.RawPath), "%2f")
		require.Equal(t, slashes || unclear.MatchString(parsed.Path), err != nil, "%v", err)
		if err != nil {
			require.ErrorIs(t, err, target.ErrMalformed)
			return
		}
		require.Equal(t, parsed.Path, decode(parsed.Path), "decoded for good")
		var segments []string
		for _, segment := range strings.Split(strings.Trim(parsed.RawPath, "/"), "/") {
			if segment != "" {
				segments = append(segments, decode(segment))
			}
		}
		require.Equal(t, segments, parsed.Segments, "split before or after decoding, the same")
		for _, segment := range parsed.Segments {
			require.NotContains(t, []string{"", ".", ".."}, segment)
			require.False(t, strings.ContainsAny(segment, "/\\;?#\x00\r\n"), "%q", segment)
		}
	})
}

// FuzzByHost: a setting by host is refused, or gives each host the value of its
// longest pattern.
func FuzzByHost(f *testing.F) {
	for _, s := range []string{"a", "*.b.x=one,two", "b.x=1,*.b.x=2,*.x=3,d", "a,b", "*.=a", "=", ",", "b.x=a=b", " *.x = a , b"} {
		f.Add(s, "c.b.x")
		f.Add(s, "b.x")
	}
	f.Fuzz(func(t *testing.T, text, host string) {
		b, err := target.ParseByHost(text, "fallback", parseWord)
		if err != nil {
			return
		}
		want, longest := "fallback", -1
		for _, item := range strings.Split(text, ",") {
			pattern, value, found := strings.Cut(strings.TrimSpace(item), "=")
			pattern = strings.ToLower(strings.TrimRight(strings.TrimSpace(pattern), "/"))
			suffix, wild := strings.CutPrefix(pattern, "*")
			switch {
			case !found && longest < 0:
				want = strings.TrimSpace(item)
			case found && len(pattern) > longest && (host == pattern || wild && len(host) > len(suffix) && strings.HasSuffix(host, suffix)):
				want, longest = strings.TrimSpace(value), len(pattern)
			}
		}
		require.Equal(t, want, b.For(host))
	})
}
