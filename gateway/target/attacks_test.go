package target_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/target"
)

// What becomes of a request: refused always, refused where the path decides and
// passed on byte for byte elsewhere, or passed on everywhere since it has only
// one reading, which is what is decided on.
const (
	always  = "400"
	decides = "400 where the path decides"
	never   = "passes as it is"
)

// group is one trick in its spellings. A string that begins with "/" is the
// path of https://b.x. Every one has been a way around some proxy or server:
// the public advisories and write-ups for nginx, Apache httpd, HAProxy, Envoy,
// Traefik, Caddy, Tomcat, Jetty, Spring, IIS and the URL parsers of several
// languages say which.
type group struct {
	trick, outcome, why string
	strings             []string
}

var attacks = []group{
	{"another scheme, or none", always, "gorouter writes https:// and nothing else", []string{
		"", "b.x/a", "//b.x/a", "http://b.x/a", "HTTPS://b.x/a", "hTTps://b.x/", "ftp://b.x/", "file:///a", "javascript:alert(1)", "https:/b.x/", "https:b.x/",
		"https:///b.x/", " https://b.x/", "\thttps://b.x/", "https://b.x/\n", "https:\\\\b.x/", "https;//b.x/", "url:https://b.x/", "view-source:https://b.x/",
	}},
	{"absolute form in the request line", always, "the router puts its own https://host before it", []string{
		"https://b.xhttp://evil.example/abs", "https://b.xhttps://evil.example/", "https://b.x*", "https://b.x[evil]",
	}},
	{"user information", always, "parsers disagree which side of the @ is the host", []string{
		"https://user@b.x/", "https://user:pass@b.x/", "https://b.x@evil.example/", "https://b.x:443@evil.example/", "https://b.x%40evil.example/", "https://@b.x/", "https://:@b.x/",
		"https://b.x:@evil.example", "https://a@b.x@evil.example/", "https://b.x\\@evil.example/",
	}},
	{"what ends a host in one parser only", always, "backslash, fragment, list and escape", []string{
		"https://b.x\\evil.example/", "https://b.x#evil.example/", "https://b.x#@evil.example/", "https://evil.example#.b.x/", "https://b.x;evil/", "https://b.x,evil.example/",
		"https://b.x%2fevil/", "https://b.x%5cevil/", "https://b.x%00.evil/", "https://b.x%23.evil/", "https://b.x\x00.evil/", "https://b x/", "https://b\tx/", "https://b\r\nx/", "https://b.x /",
		"https://b.x&evil/", "https://b.x|evil/", "https://b.x$evil/", "https://(b.x)/", "https://'b.x'/", "https://<b.x>/", "https://*.b.x/", "https://b*.x/", "https://{b}.x/",
	}},
	{"escaped letters in the host", always, "who decodes them sees another host", []string{
		"https://b%2ex/", "https://%62.x/", "https://b%252ex/", "https://%b.x/", "https://b.x%/", "https://b.x%20/", "https://b.x%0d%0a/",
	}},
	{"no host, or a strange one", always, "labels of 1 to 63 letters, digits, hyphens and underscores, 253 in all", []string{
		"https://", "https:///a", "https://?", "https://.", "https://./", "https://b..x/", "https://.b.x/", "https://b.x./", "https://b.x../", "https://-b.x/", "https://b-.x/", "https://b.-x/",
		"https://" + strings.Repeat("a", 64) + ".x/", "https://" + strings.Repeat("a.", 127) + "xx/",
	}},
	{"a port", always, "gorouter drops it; only :443 says nothing new", []string{
		"https://b.x:80/", "https://b.x:8443/", "https://b.x:/", "https://b.x:0/", "https://b.x:65536/", "https://b.x:65979/", "https://b.x:0443/", "https://b.x:00443/", "https://b.x:+443/", "https://b.x:-443/",
		"https://b.x:443:443/", "https://b.x::443/", "https://b.x:443./", "https://b.x:4\uff143/", "https://b.x:\u0664\u0664\u0663/", "https://b.x:https/", "https://b.x:4_43/", "https://b.x:443 /", "https://b.x:%34%34%33/", "https://b.x:1bb/",
	}},
	{"an IP address in any spelling", always, "routes have names; an address is a way to somewhere else", []string{
		"https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.0.0.1./", "https://169.254.169.254/latest/", "https://0/", "https://b.1/", "https://b.0x1/",
		"https://[::1]/", "https://[::1]:443/", "https://::1/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25en0]/", "https://[fe80::1%en0]/", "https://[v1.x]/", "https://[b.x]/", "https://\u2460\u2461\u2466.0.0.1/",
	}},
	{"other letters that look like the host's, or become them", always, "only ASCII; lower case by ASCII alone, since U+212A is a k and U+0130 an i to Unicode", []string{
		"https://\u212a.x/", "https://\u0130.x/", "https://\u017f.x/", "https://b\u00fccher.x/", "https://\uff42.x/", "https://b\uff0ex/", "https://b\u3002x/", "https://b\uff61x/", "https://b\u2024x/", "https://\u0430.x/", "https://b\u200b.x/",
		"https://b\u00ad.x/", "https://\ufeffb.x/", "https://b.x\u2044a/", "https://b.x\uff0fa/", "https://b.x\u2215a/", "https://b\u2100.x/", "https://\u202eb.x/", "https://\xff.x/", "https://b\xc0\xaex/", "https://\U0001f4a9.x/",
	}},
	{"a fragment", always, "it never travels; some proxies cut there, some forward it", []string{
		"/#", "/a#b", "https://b.x#a", "/a?q#f", "https://b.x?#", "/a#?b", "/#/../a", "/a#%2f..", "/public#/../private",
	}},
	{"dot segments", always, "who removes them gets another path", []string{
		"/.", "/..", "/../", "/a/../b", "/a/./b", "/a/..", "/./a", "/a/b/../../../etc", "//../a", "/a//../b", "/.//a", "/...//../a", "/a/.?b", "/..?", "/a/;/../b",
	}},
	{"dot segments, escaped", always, "the same, after decoding", []string{
		"/%2e", "/%2e%2e/a", "/%2E%2E/a", "/.%2e/a", "/%2e./a", "/a/%2e%2e%2fb", "/a%2f..%2fb", "/a%2F%2E%2E%2Fb", "/..%2f", "/%2f..", "/a%2f%2e%2e/b", "/%2e%2e%2f%2e%2e%2fetc", "/a/%2e/%2e%2e/", "/a%2f.", "/public%2f%2e%2e%2fprivate",
	}},
	{"dot segments, escaped twice", always, "the same, in a chain that decodes twice", []string{
		"/%252e%252e/a", "/%252e", "/.%252e/a", "/%252E./a", "/a%252f..%252fb", "/a%252f%252e%252e%252fb", "/%25%32%65%25%32%65/", "/%252%65%252%65/", "/%25%32e/a", "/..%252f", "/..%25%32%66a", "/%252f..", "/a/..%253bx/b",
	}},
	{"dot segments with more behind them", always, "servlet containers cut path parameters first, others what looks like a query or a fragment, Windows spaces", []string{
		"/..;/a", "/..;x=1/a", "/.;/a", "/a/..;/..;/b", "/a/..;jsessionid=1/b", "/%2e%2e;/a", "/..%3B/a", "/..%3bx/", "/%2e%2e%3b/a", "/%252e%252e%253b/a", "/a/..;a=b;c/d", "/..%3f/a", "/a/..%3fx", "/a/..%23/b", "/.%3F/a", "/..%20/a", "/%20../a", "/a/.%20/b", "/..%20%20;/a", "/..%2520/a",
	}},
	{"backslashes", always, "a slash to some", []string{
		"/\\", "/a\\..\\b", "/a%5cb", "/a%5C..%5Cb", "/..\\a", "/..%5ca", "/%5c%5cevil.example/", "/\\evil.example", "/a%255cb", "/a%25%35%63b", "/%5c../a", "/a/..%5c..%5cb",
	}},
	{"NUL and other control characters", always, "they end a path, a line or a terminal's patience", []string{
		"/%00", "/a%00b", "/a%00.png", "/a/..%00/", "/a%0d%0aX:y", "/a%0a", "/a%0d", "/a%09b", "/a%1f", "/a%7f", "/a%2500", "/a%250d%250aX:y", "/a\x00b", "/a\r\nX: y", "/a\nb", "/a\x0bb", "/a\x7f", "/a\tb", "/%1b[31m", "/%1b", "/a%C2%9Bb", "/a%c2%85b",
		"/a%20HTTP/1.1%0d%0aHost:%20evil", "/a%25%30%30",
	}},
	{"invalid and overlong UTF-8", always, "lenient decoders make dots and slashes of it", []string{
		"/%ff", "/%fe%ff", "/%80", "/%c3", "/%c0%ae%c0%ae/a", "/%c0%2e", "/%c0%af", "/%c1%9c", "/%e0%80%af", "/%e0%80%ae", "/%f0%80%80%af", "/%f8%80%80%80%af", "/%ed%a0%80", "/%f4%90%80%80", "/%C0%80", "/%25c0%25ae", "/a%25ff", "/a%c0%afb/c", "/%e2%82", "/\xff", "/\xc0\xae/",
	}},
	{"bytes that no URL has", always, "RFC 3986, section 3.3; browsers escape them", []string{
		"/a b", "/a b HTTP/1.1", "/<script>", "/a\"b", "/{a}", "/a|b", "/a^b", "/`a`", "/[a]", "/\u00e9", "/\u2025/", "/\uff0e\uff0e/", "/a\u2028b", "/a\u3000b",
	}},
	{"escapes that are none", always, "RFC 3986, section 2.1; who is lenient decodes something", []string{
		"/%", "/%2", "/a%", "/%zz", "/a%g0", "/a%2g", "/%u002e", "/%u002e%u002e/", "/%u2215", "/%U002E", "/%-1", "/%+2", "/% 2e", "/%%32%65", "/%%2e", "/%2%65%2%65/", "/%x2e", "/%\uff12e",
	}},
	{"what breaks the request line, in the query", always, "nothing is decided by the query, but it stays on its line", []string{
		"/a?q=a b", "/a?q=\x00", "/a?q=\r\nX:y", "/a?\x7f", "/a?a\tb", "/a?\n", "/a? HTTP/1.1", "/a?b#", "/a?\x1b[2J",
	}},
	{"too long", always, "16 KiB in all", []string{
		"/" + strings.Repeat("a", 17<<10), "/a?" + strings.Repeat("q", 17<<10), "/" + strings.Repeat("%25", 6<<10), "https://b.x" + strings.Repeat("/", 17<<10),
	}},
	{"escaped separators", decides, "one segment to some, two to others", []string{
		"/a%2fb", "/a%2Fb", "/%2fa", "/a%2f", "/%2f", "/%2F%2Fevil.example/", "/a%2f%2fb", "/admin%2fpage", "/a/b%2f",
	}},
	{"empty segments", decides, "merged by some, and a host to some when first", []string{
		"//", "//a", "//evil.example/a", "/a//b", "/a//", "///a", "/a///b", "//b.x//a", "/http://evil.example/", "/%2f/a",
	}},
	{"path parameters", decides, "cut off by servlet containers, a part of the name elsewhere", []string{
		"/a;b", "/a;", "/;", "/;/a", "/;a/b", "/a;v=1/b", "/a;jsessionid=1", "/a;/b", "/a%3bb", "/a%3Bb", "/admin;.css", "/a;b=c,d", "/a;%2e%2e/b",
	}},
	{"escaped ? and #", decides, "a query or a fragment to who decodes and parses again", []string{
		"/a%3fb", "/a%3Fb=c", "/a%23b", "/a%3f", "/admin%3f.css", "/a%3f/b", "/a%23/b",
	}},
	{"escaped twice", decides, "another path in a chain that decodes twice", []string{
		"/a%252fb", "/a%252Fb", "/%2561dmin", "/a%253bb", "/a%253fb", "/a%2520b", "/a%25252fb", "/%25252e%25252e/a", "/a%25%32%66b", "/a%2541", "/a%25C3%25A9",
	}},
	{"characters that Unicode makes separators of", decides, "after NFKC, U+FF0F is a slash and U+2025 two dots", []string{
		"/a%EF%BC%8Fb", "/%EF%BC%8E%EF%BC%8E/a", "/%e2%80%a5/a", "/%E2%80%A4%E2%80%A4/a", "/a%EF%BC%9Bb", "/a%CD%BEb", "/%EF%BC%852e/a", "/a%EF%BC%BCb", "/a%EF%BC%9Fb", "/a%EF%BC%83b", "/%EF%B8%B0/a", "/a%E2%84%80b",
	}},
	{"case", never, "paths are compared as they are, and hosts in lower case: what some server takes for the same is not matched", []string{
		"/A", "/aDMIN", "https://B.X/a", "https://b.X:443/A",
	}},
	{"more escapes than needed", never, "decoded once, as the app does", []string{
		"/%61dmin", "/%41", "/a%2eb", "/%7Euser", "/a%2e", "/%2ehidden", "/%3aa", "/%40a", "/a%26b", "/%2e%2e%2e",
	}},
	{"what looks like another place", never, "a path is a path", []string{
		"/http:/evil.example/", "/@evil.example", "/:80", "/b.x:443", "/a:b@c", "/.../a", "/..a", "/a..", "/.a/", "/a/", "/*", "/-", "/~", "/100%25", "/a%20", "/a+b", "/%E2%80%A6", "/%E2%88%95", "/%e2%80%8b",
	}},
	{"anything in the query", never, "nothing is decided by it, and it arrives as it is", []string{
		"/?", "https://b.x?", "https://b.x?a", "/a?../../b", "/a?%2e%2e", "/a?%00", "/a?%", "/a?%zz", "/a?;/..;/", "/a?//evil.example", "/a?https://evil.example/", "/a?a?b", "/a?\\", "/a?q=\"<>{}|^`", "/a?\xff", "/a?\u00e9", "/a?a&a&&;",
	}},
}

// parse reads a string of the table.
func parse(s string) (target.Target, error) {
	if strings.HasPrefix(s, "/") && s != "//b.x/a" {
		s = "https://b.x" + s
	}
	return target.Parse(s)
}

func TestAttackStrings(t *testing.T) {
	seen := map[string]string{}
	for _, g := range attacks {
		t.Run(g.trick, func(t *testing.T) {
			for _, s := range g.strings {
				assert.Empty(t, seen[s], "%q stands twice", s)
				seen[s] = g.trick
				got, err := parse(s)
				if g.outcome == always {
					assert.ErrorIs(t, err, target.ErrMalformed, "%.100q", s)
					assert.Equal(t, target.Target{Host: got.Host}, got, "%.100q", s)
					continue
				}
				if !assert.NoError(t, err, "%q", s) {
					continue
				}
				if unclear := got.Unambiguous(); g.outcome == decides {
					assert.ErrorIs(t, unclear, target.ErrMalformed, "%q", s)
				} else {
					assert.NoError(t, unclear, "%q", s)
				}
				assert.Equal(t, targetOf(s), got.URL().RequestURI(), "byte for byte")
			}
		})
	}
	assert.GreaterOrEqual(t, len(seen), 300)
}

// targetOf is the part of a string of the table that reaches the app.
func targetOf(s string) string {
	s = strings.TrimPrefix(s, "https://")
	if i := strings.IndexAny(s, "/?"); i >= 0 && s[i] == '/' {
		return s[i:]
	} else if i >= 0 {
		return "/" + s[i:]
	}
	return "/"
}

var update = flag.Bool("update", false, "write the table of docs/requests.md anew")

// The documentation has the table that is tested.
func TestTheDocumentationListsWhatIsRefused(t *testing.T) {
	const path, begin, end = "../../docs/requests.md", "<!-- table: go test ./gateway/target -update -->\n", "<!-- end of the table -->\n"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, hasBegin := strings.Cut(string(text), begin)
	_, after, hasEnd := strings.Cut(rest, end)
	require.True(t, hasBegin && hasEnd, "the marks of the table are gone")
	want := before + begin + table() + end + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, want, string(text), "run: go test ./gateway/target -update")
}

func table() string {
	var out strings.Builder
	out.WriteString("| trick | outcome | why | strings that are tried |\n| --- | --- | --- | --- |\n")
	for _, g := range attacks {
		var quoted []string
		for _, s := range g.strings {
			quoted = append(quoted, code(s))
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", g.trick, g.outcome, g.why, strings.Join(quoted, " "))
	}
	return out.String()
}

// code spells a string so that it can stand in a table of Markdown.
func code(s string) string {
	const most = 60
	spelled := strings.Trim(fmt.Sprintf("%+q", s[:min(len(s), most)]), `"`)
	if len(s) > most {
		spelled += fmt.Sprintf("... (%d bytes)", len(s))
	}
	if spelled == "" {
		return "(empty)"
	}
	return "`" + strings.NewReplacer("|", `\|`, "`", `\x60`, `\\`, `\`, `\"`, `"`).Replace(spelled) + "`"
}
