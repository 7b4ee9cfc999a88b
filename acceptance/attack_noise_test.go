package acceptance_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// A policy that could hang, leak or fail open is not activated, and a gateway
// without its policy does not start; one that fails denies.
func TestAttack15PoliciesThatHangLeakOrFailOpen(t *testing.T) {
	t.Parallel()
	t.Run("refused at activation", func(t *testing.T) {
		const head = "package site.check.a\nimport rego.v1\n"
		for name, text := range map[string]string{
			"asks the network":          `allow if http.send({"method": "GET", "url": "https://x/"}).status_code == 200`,
			"asks the resolver":         `allow if net.lookup_ip_addr("evil.example")`,
			"reads the environment":     `allow if opa.runtime().env.X`,
			"throws dice":               `allow if rand.intn("x", 2) == 1`,
			"fills memory by a shift":   `allow if bits.lsh(1, 1000000000000) > 0`,
			"fills memory by a range":   `allow if count(numbers.range(1, 1000000000)) > 0`,
			"backtracks on the path":    `allow if regex.match(input.request.path, "x")`,
			"reads what is not there":   `allow if not data.site.blocked[input.caller.app]`,
			"misspells what it forbids": `allow if not input.caller.ap == "x"`,
			"is not a boolean":          `allow := "true"`,
			"is tested and fails":       "allow if 1 == 2\n",
		} {
			files := map[string]string{"a.rego": head + text + "\n"}
			if name == "is tested and fails" {
				files["a_test.rego"] = "package site.check.a_test\nimport rego.v1\nimport data.site.check.a\ntest_allows if a.allow\n"
			}
			unready(t, files)
		}
	})

	// Two checks that contradict each other are an error.
	t.Run("denied at run time", func(t *testing.T) {
		p := policed(t).protect(t, protection{parameters: `{"allow":["cf:any"],"labels":{"tier":"silver"}}`})
		for range 2 {
			r := p.call(t, "frontend", "GET", "/").expect(t, "403 policy_error")
			assert.NotEqual(t, "local", r.line["cache"], "errors are not remembered")
		}
	})
}

// Idle connections, heads that never end, heads that are too long, bodies that
// trickle: the others do not notice.
func TestAttack18SlowAndLargeClients(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	address := strings.TrimPrefix(w.Controller.URL, "http://")
	open := func(say string) net.Conn {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		prepared(t, conn)
		_, err = io.WriteString(conn, say)
		require.NoError(t, err)
		return conn
	}
	slowHead := open("GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: ")
	slowBody, line := p.sendDirect(t, leg2{caller: "frontend", method: "PUT", headers: []string{"Content-Length: 100000"}, body: "x"})
	trickle(t, slowBody)
	trickle(t, slowHead)
	idle := 1_000
	if heavy {
		idle = 10_000
	}
	for range idle {
		open("")
	}
	for range 200 {
		open("GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow: ")
		open("POST /r/x/y HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000000\r\n\r\n")
	}
	for range 20 {
		p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	}

	t.Run("endless headers", func(t *testing.T) {
		for _, line := range []string{"X-Many: " + strings.Repeat("a", 1000), "X-Long: " + strings.Repeat("a", 100_000)} {
			conn := open("GET / HTTP/1.1\r\nHost: gateway\r\n")
			sent, err := 0, error(nil)
			for ; err == nil && sent < 8<<20; sent += len(line) {
				_, err = io.WriteString(conn, line+"\r\n")
			}
			assert.Less(t, sent, 8<<20, "somebody listens to all of it")
		}
	})

	t.Run("a head and a target that are too long", func(t *testing.T) {
		conn := open("GET / HTTP/1.1\r\nHost: gateway\r\nX-Long: " + strings.Repeat("a", 140<<10) + "\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		assert.Equal(t, http.StatusRequestHeaderFieldsTooLarge, res.StatusCode)
		p.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.route + "/" + strings.Repeat("a", 17<<10)}).expect(t, malformed)
		for _, path := range []string{"/healthz?", "/r/", "/v1/", p.url[len("https://"+playground.GatewayHost):] + "?"} {
			res, err := http.Get(w.Controller.URL + path + strings.Repeat("a", 17<<10))
			require.NoError(t, err)
			res.Body.Close()
			assert.Equal(t, http.StatusRequestURITooLong, res.StatusCode, path)
		}
	})

	// By now their time is over.
	_, err := io.Copy(io.Discard, slowHead)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "a head that does not end is cut")
	p.read(t, readResponse(t, slowBody, line)).expect(t, "408 request_timeout")
}

// trickle goes on with a head or a body, a byte at a time, until nobody listens.
func trickle(t *testing.T, conn net.Conn) {
	t.Helper()
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			if _, err := io.WriteString(conn, "x"); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
}

// Refusals look the same whatever is behind them, and what a client says is data
// in the log and in the answer.
func TestAttack19DenyOraclesAndLogInjection(t *testing.T) {
	t.Parallel()
	w := attacked(t)
	p := w.protect(t, protection{parameters: `{"allow":["cf:app:$backend"]}`})

	t.Run("a binding that exists and one that does not", func(t *testing.T) {
		title := p.direct(t, leg2{caller: "frontend", path: "/r/" + p.bound.GUID + "/AAAAAAAAAAAAAAAAAAAAAA"}).expect(t, "403 unknown_binding").problem["title"]
		for _, path := range []string{"/r/" + playground.GUID("nobody") + "/AAAAAAAAAAAAAAAAAAAAAA", "/r/x/y", "/r//", "/r/" + p.bound.GUID + "/", "/r/" + p.bound.GUID + "%2fx"} {
			r := p.direct(t, leg2{caller: "frontend", path: path}).expect(t, "403 unknown_binding")
			assert.Equal(t, title, r.problem["title"], path)
		}
	})

	t.Run("a refusal names no grant and nobody else", func(t *testing.T) {
		for _, r := range []reply{p.call(t, "frontend", "GET", "/"), p.call(t, "intruder", "GET", "/"), p.call(t, "", "GET", "/")} {
			require.NotNil(t, r.problem)
			for _, secret := range []string{"$backend", "$shop", "$acme", "$frontend", "$intruder"} {
				assert.NotContains(t, r.body, names.Replace(secret))
			}
			assert.NotContains(t, r.body, p.host)
		}
	})

	t.Run("one line of printable text a request", func(t *testing.T) {
		const evil = "\x1b[2J\u2028{\"msg\":\"decision\"}"
		for _, l := range []leg2{
			{headers: []string{"X-Vcap-Request-Id: " + "a\x1b[31m"}},
			{headers: []string{"X-Vcap-Request-Id: " + strings.Repeat("a.", 5_000)}},
			{headers: []string{"User-Agent: " + "\u2028" + strings.Repeat("{", 100)}},
			{forwarded: "https://" + p.route + "/?" + "\u2028{}"},
			{forwarded: "https://" + p.route + "/%1b%5b31m"},
			{forwarded: "https://" + strings.Repeat("a.", 3000) + "/"},
			{headers: []string{xfccHeader + ": " + "\u2028" + strings.Repeat("<", 10_000)}},
			{method: "G\"{T"},
			{method: strings.Repeat("G.", 2500)},
			{path: "/r/" + "%1b%0a" + evil[4:5] + "/x"},
		} {
			r := p.direct(t, l)
			if r.line == nil {
				assert.Equal(t, 400, r.status) // net/http refuses what is no HTTP
				continue
			}
			raw := r.line["raw"].(string)
			assert.Less(t, len(raw), 8<<10, "%.100q", raw)
			assert.False(t, strings.ContainsFunc(raw, func(c rune) bool { return !unicode.IsPrint(c) }), "%.200q", raw)
			assert.False(t, strings.ContainsFunc(r.body, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }), "%q", r.body)
		}
	})
}
