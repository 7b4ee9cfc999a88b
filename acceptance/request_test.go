package acceptance_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// reply is what a caller heard, with the decision line of it.
type reply struct {
	status          int
	header, trailer http.Header
	body            string
	// problem is the body of the gateway's refusal; nil if the answer is not
	// one.
	problem map[string]any
	// line is the decision line; nil if the gateway had no part in it.
	line map[string]any
}

const decisionHeader = "X-Mtls-Authz-Decision"

var uuidGrammar = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// read reads an answer and checks what must be true of every one.
func (w *world) read(t *testing.T, res *http.Response) reply {
	t.Helper()
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	r := reply{status: res.StatusCode, header: res.Header, trailer: res.Trailer, body: string(body)}
	if id := res.Header.Get(decisionHeader); id != "" {
		assert.Len(t, res.Header.Values(decisionHeader), 1)
		assert.Regexp(t, uuidGrammar, id)
		r.line = w.decision(t, id)
		assert.EqualValues(t, r.status, r.line["status"], "status of the decision line")
	}
	if res.Header.Get("Content-Type") == "application/problem+json" {
		r.checkProblem(t, res.Request)
	}
	w.checkAnswer(t, r)
	return r
}

// checkProblem: one shape for all refusals.
func (r *reply) checkProblem(t *testing.T, request *http.Request) {
	t.Helper()
	require.NotNil(t, r.line, "a refusal has a decision id")
	assert.Equal(t, "no-store", r.header.Get("Cache-Control"))
	assert.Equal(t, r.status == http.StatusServiceUnavailable, r.header.Get("Retry-After") != "", "Retry-After with 503 only")
	if request != nil && request.Method == http.MethodHead {
		r.problem = map[string]any{"reason": r.line["mtls_denied_reason"]}
		return
	}
	require.NoError(t, json.Unmarshal([]byte(r.body), &r.problem))
	assert.Equal(t, []string{"decision_id", "reason", "status", "title"}, slices.Sorted(maps.Keys(r.problem)))
	assert.EqualValues(t, r.status, r.problem["status"])
	assert.NotEmpty(t, r.problem["title"])
	assert.Equal(t, r.header.Get(decisionHeader), r.problem["decision_id"])
	if reason, _ := r.problem["reason"].(string); strings.HasPrefix(reason, "upstream_") || reason == "request_timeout" {
		assert.NotEqual(t, "denied", r.line["mtls_auth"], "the decision stands")
		return
	}
	assert.Equal(t, "denied", r.line["mtls_auth"])
	assert.Equal(t, r.line["mtls_denied_reason"], r.problem["reason"])
}

// outcome is what became of a request in a few words: "200 allowed", "403
// scope", "200 not_enforced scope".
func (r reply) outcome() string {
	switch {
	case r.problem != nil:
		return fmt.Sprint(r.status, " ", r.problem["reason"])
	case r.line == nil:
		return fmt.Sprint(r.status, " without the gateway")
	}
	return strings.TrimSpace(fmt.Sprint(r.status, " ", r.line["mtls_auth"], " ", r.line["mtls_denied_reason"]))
}

// expect compares the outcome.
func (r reply) expect(t *testing.T, outcome string) reply {
	t.Helper()
	if !assert.Equal(t, outcome, r.outcome()) {
		t.Logf("header: %v\nbody: %.500s\nline: %v", r.header, r.body, r.line["raw"])
	}
	return r
}

// call sends a request as an app does; headers are "Name: value".
func (p *protected) call(t *testing.T, caller, method, path string, headers ...string) reply {
	t.Helper()
	return p.callHost(t, p.host, caller, method, path, headers...)
}

func (p *protected) callHost(t *testing.T, host, caller, method, path string, headers ...string) reply {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, nil)
	require.NoError(t, err)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		request.Header[name] = append(request.Header[name], value)
	}
	return p.do(t, caller, request)
}

// do sends a request; what is refused must not have reached the app.
func (p *protected) do(t *testing.T, caller string, request *http.Request) reply {
	t.Helper()
	before := p.app.count()
	res, err := p.client(caller).Do(request)
	require.NoError(t, err)
	return p.finish(t, before, p.read(t, res))
}

func (p *protected) finish(t *testing.T, before int, r reply) reply {
	t.Helper()
	if reason, _ := r.problem["reason"].(string); reason != "" && !strings.HasPrefix(reason, "upstream_") && r.line["upstream_request_id"] == "" {
		assert.Equal(t, before, p.app.count(), "a refused request reached the app")
	}
	return r
}

// raw sends a request byte for byte through the router: method and target,
// then headers.
func (p *protected) raw(t *testing.T, caller, line string, headers ...string) reply {
	t.Helper()
	before := p.app.count()
	conn := p.dial(t, caller)
	writeRequest(t, conn, line+" HTTP/1.1", append([]string{"Host: " + p.host, "Connection: close"}, headers...), "")
	return p.finish(t, before, p.read(t, readResponse(t, conn, line)))
}

// dial opens a connection to the router as a caller.
func (p *protected) dial(t *testing.T, caller string) net.Conn {
	t.Helper()
	config := p.client(caller).Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = p.host
	conn, err := tls.Dial("tcp", p.Router.Addr(), config)
	require.NoError(t, err)
	return prepared(t, conn)
}

func prepared(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func writeRequest(t *testing.T, conn net.Conn, line string, headers []string, body string) {
	t.Helper()
	_, err := io.WriteString(conn, line+"\r\n"+strings.Join(headers, "\r\n")+"\r\n\r\n"+body)
	require.NoError(t, err)
}

// readResponse reads the answer to a request that began with line.
func readResponse(t *testing.T, conn io.Reader, line string) *http.Response {
	t.Helper()
	method, _, _ := strings.Cut(line, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	require.NoError(t, err)
	return res
}

// leg2 is a request as a router sends it to the gateway, or as somebody does
// who knows the URL and holds a signature.
type leg2 struct {
	// caller whose certificate is in X-Forwarded-Client-Cert; "": no header.
	caller string
	// method; "": GET. path of the gateway; "": the route service URL's.
	method, path string
	// forwarded is X-CF-Forwarded-Url; "": the route's "/".
	forwarded string
	// signed is the URL that the signature is for; "": the forwarded.
	signed string
	// age of the signature.
	age time.Duration
	// without are the names of headers to leave out.
	without []string
	// headers to add, "Name: value".
	headers []string
	body    string
}

// direct sends a leg 2 to the gateway's own port.
func (p *protected) direct(t *testing.T, l leg2) reply {
	t.Helper()
	before := p.app.count()
	conn, line := p.sendDirect(t, l)
	return p.finish(t, before, p.read(t, readResponse(t, conn, line)))
}

func (p *protected) sendDirect(t *testing.T, l leg2) (conn net.Conn, line string) {
	t.Helper()
	own, err := url.Parse(p.url)
	require.NoError(t, err)
	if l.method == "" {
		l.method = http.MethodGet
	}
	if l.path == "" {
		l.path = own.Path
	}
	if l.forwarded == "" {
		l.forwarded = "https://" + p.route + "/"
	}
	if l.signed == "" {
		l.signed = l.forwarded
	}
	signed, err := sign(l.signed, time.Now().Add(-l.age))
	require.NoError(t, err)
	p.addSecrets(signed.Get(signatureHeader), signed.Get(metadataHeader))
	lines := []string{"Host: " + playground.GatewayHost, "Connection: close"}
	add := func(name, value string) {
		if !slices.Contains(l.without, name) {
			lines = append(lines, name+": "+value)
		}
	}
	add(forwardedURLHeader, l.forwarded)
	add(signatureHeader, signed.Get(signatureHeader))
	add(metadataHeader, signed.Get(metadataHeader))
	if l.caller != "" {
		add(xfccHeader, p.credentials[l.caller].XFCC())
	}
	raw, err := net.Dial("tcp", strings.TrimPrefix(p.Controller.URL, "http://"))
	require.NoError(t, err)
	line = l.method + " " + l.path
	writeRequest(t, prepared(t, raw), line+" HTTP/1.1", append(lines, l.headers...), l.body)
	return raw, line
}
