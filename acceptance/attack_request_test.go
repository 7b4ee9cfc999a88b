package acceptance_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

const malformed = "400 malformed_request"

func TestAttack03HeadersMissingRepeatedOrAliased(t *testing.T) {
	t.Parallel()
	p := attacked(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, name := range []string{forwardedURLHeader, signatureHeader, metadataHeader} {
		twin, good := strings.ReplaceAll(name, "-", "_"), "https://"+p.route+"/"
		for what, request := range map[string]leg2{
			"missing":          {without: []string{name}},
			"twice":            {headers: []string{name + ": " + good}},
			"empty":            {without: []string{name}, headers: []string{name + ":"}},
			"only its twin":    {without: []string{name}, headers: []string{twin + ": " + good}},
			"with dots":        {without: []string{name}, headers: []string{strings.ReplaceAll(name, "-", ".") + ": " + good}},
			"folded":           {without: []string{name}, headers: []string{name + ": " + good + "\r\n a"}},
			"a list":           {without: []string{name}, headers: []string{name + ": " + good + ", " + good}},
			"a tab in it":      {without: []string{name}, headers: []string{name + ": " + good + "\ta"}},
			"twice, one empty": {headers: []string{strings.ToUpper(name) + ":"}},
		} {
			request.caller = "frontend"
			r := p.direct(t, request)
			assert.Equal(t, malformed, r.outcome(), "%s %s", name, what)
		}
		// A twin beside the real one is deleted, and changes nothing.
		p.direct(t, leg2{caller: "frontend", headers: []string{twin + ": " + forgedValue}}).expect(t, "200 allowed")
		assertNoForgery(t, p.app.last(t).header)
		// Listed as hop-by-hop it does not arrive, however it is listed.
		for _, connection := range []string{name, strings.ToLower(name), strings.ToUpper(name), "keep-alive, " + name, "x ,," + name + " ,y"} {
			r := p.raw(t, "frontend", "GET /", "Connection: "+connection)
			assert.Equal(t, malformed, r.outcome(), connection)
		}
	}
	// The certificate's header listed so is no certificate, and no error.
	p.raw(t, "frontend", "GET /", "Connection: "+strings.ToLower(xfccHeader)).expect(t, "403 no_certificate")
}

// Forwarded URLs that no router should send. Every one is malformed for every
// caller, in report mode too.
func TestAttack06MalformedForwardedURL(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	enforced := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	reported := w.protect(t, protection{parameters: `{"mode":"report"}`})
	for _, test := range []string{
		"http://$route/", "HTTPS://$route/", "https:/$route/", "https:///", "$route/", "//$route/", "https://", "https://?", "ftp://$route/",
		"https://user@$route/", "https://user:password@$route/", "https://$route@evil.example.com/", "https://$route:8443/", "https://$route:/", "https://$route:0443/",
		"https://$route#/", "https://$route/#fragment", "https://$route/a?b#c", `https://$route\@evil.example.com/`, "https://$routehttp://$route/abs",
		"https://127.0.0.1/", "https://[::1]/", "https://2130706433/", "https://$route./", "https://.$route/", "https://-$route/", "https://%72oute.apps.identity/",
		"https://r\u00f6ute.apps.identity/", "https://bac\u212aend.apps.identity/", "https://apps.\u0130dentity/", "https://$route/" + strings.Repeat("a", 17<<10), "https://$route/a?b c",
	} {
		for _, p := range []*protected{enforced, reported} {
			r := p.direct(t, leg2{caller: "frontend", forwarded: strings.ReplaceAll(test, "$route", p.route), signed: "https://" + p.route + "/"})
			assert.Equal(t, malformed, r.outcome(), "%.100q", test)
		}
	}
	// As a client makes the router send one.
	enforced.raw(t, "frontend", "GET http://"+enforced.route+"/absolute").expect(t, malformed)
}

func TestAttack07PathConfusion(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	free := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	reported := w.protect(t, protection{parameters: `{"mode":"report"}`})
	decides := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:app:$monitoring","paths":["/api/**"]}]}`})

	t.Run("always", func(t *testing.T) {
		for _, path := range []string{
			"/..", "/.", "/a/../b", "/a/./b", "/%2e%2e/b", "/.%2E/b", "/%2e", "/a/..;/b", "/a/..;x=1/b", "/a/%2e%2e%2fb", "/a%2f..%2fb", "/%252e%252e/b",
			"/a/%252e%252e%252fb", "/..%3f/a", "/..%23/a", "/..%20/a", `/a\b`, "/a%5cb", "/a%5Cb", "/a%255cb", "/a%00", "/a%2500", "/a%0d%0aX-Evil:%201", "/a%7f", "/a%1f",
			"/a%c3", "/a%ff%fe", "/%c0%ae%c0%ae/", "/%", "/%4", "/%zz", "/%u002e", "/a|b", `/"`, "/<a>", "/[a]", "/{a}", "/^", "/a`b", "/caf\u00e9",
		} {
			for _, p := range []*protected{free, reported} {
				r := p.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.route + path, signed: "https://" + p.route + "/"})
				assert.Equal(t, malformed, r.outcome(), "%.100q", path)
			}
			// Behind the router, which refuses bad escapes itself.
			assert.Equal(t, 400, free.raw(t, "frontend", "GET "+path).status, "%.100q", path)
		}
	})

	t.Run("where the path decides", func(t *testing.T) {
		for _, path := range []string{"/api/a%2fb", "/api/a%2Fb", "/api/x;v=1", "/api//x", "/api/a%252fb", "/api/%2561", "/api/a%3fb", "/api/a%23b", "/api/%EF%BC%8E%EF%BC%8E/x"} {
			// Whoever calls: the ambiguity is the route's.
			decides.raw(t, "frontend", "GET "+path).expect(t, malformed)
			decides.raw(t, "monitoring", "GET "+path).expect(t, malformed)
			free.raw(t, "frontend", "GET "+path).expect(t, "200 allowed")
			assert.Equal(t, path, free.app.last(t).target, "byte for byte")
		}
	})
}

// smuggled is what an attacker wants to reach an app unseen.
func (p *protected) smuggled() string {
	return "GET /smuggled HTTP/1.1\r\nHost: " + p.host + "\r\n\r\n"
}

// pipeline sends a leg 2 as it stands over one connection, and behind its body a
// request for /healthz that ends the connection. It returns the status of each
// answer.
func (p *protected) pipeline(t *testing.T, version string, headers []string, body string) (statuses []int) {
	t.Helper()
	own, err := url.Parse(p.url)
	require.NoError(t, err)
	signed, err := sign("https://"+p.route+"/", time.Now())
	require.NoError(t, err)
	p.addSecrets(signed.Get(signatureHeader), signed.Get(metadataHeader))
	lines := []string{"Host: " + playground.GatewayHost, xfccHeader + ": " + p.credentials["frontend"].XFCC()}
	for name, values := range signed {
		lines = append(lines, name+": "+values[0])
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.Controller.URL, "http://"))
	require.NoError(t, err)
	prepared(t, conn)
	writeRequest(t, conn, "POST "+own.Path+" "+version, append(lines, headers...), body+"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
	reader := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			return statuses // a connection that was cut counts as its end
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		statuses = append(statuses, res.StatusCode)
	}
}

// net/http reads one framing and leg 3 is framed anew, so that a second request
// in the bytes of the first is the gateway's to answer, or is a body.
func TestAttack08SmugglingAndTunnels(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	smuggled := p.smuggled()
	both := fmt.Sprintf("Content-Length: %d", len("0\r\n\r\n"+smuggled))
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	for _, test := range []struct {
		name, version string
		headers       []string
		body          string
		want          []int
		// seen is the body of the one request that reaches the app; "-": none does.
		seen string
	}{
		{"Content-Length covers more than the chunks", "HTTP/1.1", []string{both, "Transfer-Encoding: chunked"}, "0\r\n\r\n" + smuggled, []int{200, 404, 200}, ""},
		{"the same in the other order", "HTTP/1.1", []string{"Transfer-Encoding: chunked", both}, "0\r\n\r\n" + smuggled, []int{200, 404, 200}, ""},
		{"Content-Length covers less than the chunks", "HTTP/1.1", []string{"Content-Length: 4", "Transfer-Encoding: chunked"}, chunk, []int{200, 200}, smuggled},
		{"Content-Length of 0 beside chunks", "HTTP/1.1", []string{"Content-Length: 0", "Transfer-Encoding: ChunKed"}, chunk, []int{200, 200}, smuggled},
		{"Transfer-Encoding folded", "HTTP/1.1", []string{"Content-Length: 4", "Transfer-Encoding:\r\n chunked"}, chunk, []int{200, 200}, smuggled},
		{"a body that is a request", "HTTP/1.1", []string{fmt.Sprintf("Content-Length: %d", len(smuggled))}, smuggled, []int{200, 200}, smuggled},
		{"two Content-Lengths", "HTTP/1.1", []string{"Content-Length: 0", both}, smuggled, []int{400}, "-"},
		{"a list of Content-Lengths", "HTTP/1.1", []string{"Content-Length: 0, 40"}, smuggled, []int{400}, "-"},
		{"Content-Length with a sign", "HTTP/1.1", []string{"Content-Length: +0"}, smuggled, []int{400}, "-"},
		{"Content-Length in hexadecimal", "HTTP/1.1", []string{"Content-Length: 0x0"}, smuggled, []int{400}, "-"},
		{"Content-Length empty beside chunks", "HTTP/1.1", []string{"Content-Length:", "Transfer-Encoding: chunked"}, chunk, []int{400}, "-"},
		{"Transfer-Encoding twice", "HTTP/1.1", []string{"Transfer-Encoding: chunked", "Transfer-Encoding: identity"}, chunk, []int{501}, "-"},
		{"Transfer-Encoding as a list", "HTTP/1.1", []string{"Transfer-Encoding: chunked, identity"}, chunk, []int{501}, "-"},
		{"another Transfer-Encoding", "HTTP/1.1", []string{"Content-Length: 0", "Transfer-Encoding: xchunked"}, smuggled, []int{501}, "-"},
		{"a vertical tab in Transfer-Encoding", "HTTP/1.1", []string{"Content-Length: 0", "Transfer-Encoding: \x0bchunked"}, smuggled, []int{400}, "-"},
		{"a space before the colon", "HTTP/1.1", []string{"Content-Length: 0", "Transfer-Encoding : chunked"}, chunk, []int{400}, "-"},
		{"a header line without a colon", "HTTP/1.1", []string{"Content-Length: 0", "Transfer-Encoding chunked"}, chunk, []int{400}, "-"},
		{"NUL in a header", "HTTP/1.1", []string{"Content-Length: 0", "X-Own: a\x00b"}, "", []int{400}, "-"},
		{"CR in a header", "HTTP/1.1", []string{"Content-Length: 0", "X-Own: a\rTransfer-Encoding: chunked"}, "", []int{400}, "-"},
		{"two Hosts", "HTTP/1.1", []string{"Content-Length: 0", "Host: " + p.host}, "", []int{400}, "-"},
		{"an expectation nobody knows", "HTTP/1.1", []string{"Content-Length: 0", "Expect: 200-ok"}, "", []int{417}, "-"},
		{"two expectations", "HTTP/1.1", []string{"Content-Length: 0", "Expect: 100-continue, 200-ok"}, "", []int{400, 200}, "-"},
		{"Transfer-Encoding in HTTP/1.0", "HTTP/1.0", []string{"Content-Length: 4", "Transfer-Encoding: chunked", "Connection: keep-alive"}, "abcd", []int{200, 200}, "abcd"},
	} {
		before := p.app.count()
		statuses := p.pipeline(t, test.version, test.headers, test.body)
		assert.Equal(t, test.want, statuses, test.name)
		reached := p.app.since(before)
		if test.seen == "-" {
			assert.Empty(t, reached, test.name)
		} else if assert.Len(t, reached, 1, "%s: as many requests as were sent", test.name) {
			assert.Equal(t, []string{"/", test.seen}, []string{reached[0].target, reached[0].body}, test.name)
		}
	}

	// Chunks that break off in the middle: the app may see the beginning.
	broken := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, body := range []string{"-1\r\n" + smuggled, "ffffffffffffffff1\r\n" + smuggled, "4\r\nabcdef\r\n0\r\n\r\n" + smuggled, "0x4\r\nabcd\r\n0\r\n\r\n" + smuggled, "4 4\r\nabcd\r\n0\r\n\r\n"} {
		for _, status := range broken.pipeline(t, "HTTP/1.1", []string{"Transfer-Encoding: chunked"}, body) {
			assert.GreaterOrEqual(t, status, 400, "%q", body)
		}
	}
	for _, request := range broken.app.since(0) {
		assert.Equal(t, "/", request.target)
	}

	for _, method := range []string{"TRACE", "CONNECT", "get", "Get", "gET", "p!st", "WAYTOOLONGFORAMETHODOFANYKINDATALL"} {
		p.direct(t, leg2{caller: "frontend", method: method}).expect(t, malformed)
	}

	// A tunnel's later requests would not be decided on.
	for _, parameters := range []string{`{"allow":["cf:any"]}`, `{"mode":"report"}`} {
		switching := w.protect(t, protection{parameters: parameters, handler: echo})
		for _, headers := range [][]string{
			{"Connection: Upgrade", "Upgrade: h2c"},
			{"Connection: Upgrade", "Upgrade: TLS/1.2"},
			{"Connection: Upgrade", "Upgrade: websocket, h2c"},
			{"Connection: Upgrade", "Upgrade: h2c, websocket"},
			{"Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"},
			{"Connection: Upgrade", "Upgrade: websocket/13"},
			{"Connection: Upgrade", "Upgrade: tcp"},
			{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
			{"HTTP2-Settings: AAMAAABkAAQAAP__"},
			{"Upgrade: h2c"},
		} {
			r := switching.direct(t, leg2{caller: "frontend", headers: headers})
			assert.Equal(t, malformed, r.outcome(), headers)
		}
		// An app that switches protocols unasked gets no tunnel.
		r := switching.direct(t, leg2{caller: "frontend"})
		assert.GreaterOrEqual(t, r.status, 400)
	}
}

// since are the requests that reached the app after the first n.
func (a *app) since(n int) []seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]seen{}, a.seen[n:]...)
}

func TestAttack09IdentityHeadersFromTheClient(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	forged := append([]string{"X.Mtls.Authz.Caller", "x~mtls-authz_caller", "X.Forwarded.Client.Cert"}, gatewayNames...)
	for _, parameters := range []string{`{"allow":["cf:any"]}`, `{"mode":"report"}`} {
		p := w.protect(t, protection{plan: "any", parameters: parameters})
		for _, name := range forged {
			r := p.direct(t, leg2{caller: "frontend", headers: []string{name + ": " + forgedValue, "X-Own: kept"}})
			require.Equal(t, 200, r.status, name)
			assertNoForgery(t, p.app.last(t).header)
			assert.Equal(t, "kept", p.app.last(t).header.Get("X-Own"))
		}
		// Through the router, as clients come.
		var lines []string
		for _, name := range forged {
			lines = append(lines, name+": "+forgedValue)
		}
		p.call(t, "frontend", "GET", "/", lines...)
		assertNoForgery(t, p.app.last(t).header)
		// As trailers.
		for _, name := range forged {
			r := p.direct(t, leg2{
				caller: "frontend", method: "POST", headers: []string{"Transfer-Encoding: chunked", "Trailer: " + name},
				body: "0\r\n" + name + ": " + forgedValue + "\r\n\r\n",
			})
			require.Equal(t, 200, r.status, name)
			assertNoForgery(t, p.app.last(t).header)
			assertNoForgery(t, p.app.last(t).trailer)
			assert.NotContains(t, p.app.last(t).trailer, http.CanonicalHeaderKey(name), "not even announced")
		}
	}
}

// Apps that listen to these take another method or path than was decided on.
func TestAttack10OverrideHeaders(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	decides := map[string]*protected{
		"methods": w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:app:$backend","methods":["GET"]}]}`}),
		"paths":   w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend",{"source":"cf:app:$backend","paths":["/a"]}]}`}),
		"a check": policed(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`}),
	}
	free := w.protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	for _, name := range []string{
		"X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X_HTTP_Method_Override", "x-rewrite_url", "X.HTTP.Method",
	} {
		for what, p := range decides {
			r := p.call(t, "frontend", "GET", "/", name+": DELETE")
			assert.Equal(t, malformed, r.outcome(), "%s where %s decides", name, what)
		}
		free.call(t, "frontend", "GET", "/", name+": DELETE").expect(t, "200 allowed")
	}
}
