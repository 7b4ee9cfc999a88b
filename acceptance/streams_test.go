package acceptance_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// peak is the most memory the gateway has had, in bytes.
func (w *world) peak(t *testing.T) int64 {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(w.Dir, "pid"))
	require.NoError(t, err)
	status, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/status")
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

// Bodies of any size pass in the memory of a few buffers.
func TestHugeBodiesPassInFlatMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("needs /proc to see the gateway's memory")
	}
	size := int64(256 << 20)
	if heavy {
		size = 1 << 30
	}
	w := start(t, setup{})
	p := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Received", strconv.FormatInt(n, 10))
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			_, _ = io.CopyN(w, zeros{}, size)
		}
	}})
	p.call(t, "frontend", "HEAD", "/").expect(t, "200 allowed") // what one request costs
	before := w.peak(t)
	for name, body := range map[string]struct{ chunked bool }{"with its length": {false}, "chunked": {true}} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+p.host+"/", io.LimitReader(zeros{}, size))
		require.NoError(t, err)
		if !body.chunked {
			request.ContentLength = size
		}
		r := p.do(t, "frontend", request).expect(t, "200 allowed")
		assert.Equal(t, strconv.FormatInt(size, 10), r.header.Get("X-Received"), name)
	}
	res, err := p.client("frontend").Get("https://" + p.host + "/")
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, size, n)
	const buffers = 64 << 20 // a garbage collector's idea of flat
	assert.Less(t, w.peak(t)-before, int64(buffers), "growth of the gateway's memory in bytes")
}

// Each event arrives before the next is sent: with a buffer anywhere on the way
// the test would never end. A known length makes stock proxies buffer.
func TestAnswersPassUnbuffered(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]http.Header{
		"server-sent events": {"Content-Type": {"text/event-stream"}},
		"chunks":             {"Content-Type": {"application/octet-stream"}},
		"a known length":     {"Content-Type": {"application/octet-stream"}, "Content-Length": {"24"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := make(chan struct{})
			p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: events(header, next)})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.host+"/", nil)
			require.NoError(t, err)
			res, err := p.client("frontend").Do(request)
			require.NoError(t, err)
			defer res.Body.Close()
			lines := bufio.NewReader(res.Body)
			for i := range 3 {
				event, err := lines.ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, fmt.Sprintf("data: %d\n", i), event)
				if i == 2 {
					break // the body is whole: nobody waits for anybody
				}
				select {
				case next <- struct{}{}:
				case <-ctx.Done():
					t.Fatal("the app is gone")
				}
			}
		})
	}
}

// events is an app that sends three events, each when it is told to go on.
func events(header http.Header, next <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		maps.Copy(w.Header(), header)
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n", i)
			_ = http.NewResponseController(w).Flush()
			if i == 2 {
				return
			}
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}
}

func TestRequestBodiesPassUnbuffered(t *testing.T) {
	t.Parallel()
	got := make(chan string)
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(_ http.ResponseWriter, r *http.Request) {
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			select {
			case got <- lines.Text():
			case <-r.Context().Done():
			}
		}
	}})
	conn := p.dial(t, "frontend")
	writeRequest(t, conn, "POST / HTTP/1.1", []string{"Host: " + p.host, "Connection: close", "Transfer-Encoding: chunked"}, "")
	for _, line := range []string{"one", "two", "three"} {
		_, err := fmt.Fprintf(conn, "%x\r\n%s\n\r\n", len(line)+1, line)
		require.NoError(t, err)
		select {
		case arrived := <-got:
			assert.Equal(t, line, arrived)
		case <-time.After(patience):
			t.Fatal("a line of the body was held back")
		}
	}
	_, err := io.WriteString(conn, "0\r\n\r\n")
	require.NoError(t, err)
	p.read(t, readResponse(t, conn, "POST")).expect(t, "200 allowed")
}

func TestTrailersOfTheAnswerPass(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Checksum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Checksum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "43")
	}})
	r := p.call(t, "frontend", "GET", "/").expect(t, "200 allowed")
	assert.Equal(t, "42", r.trailer.Get("X-Checksum"))
	assert.Equal(t, "43", r.trailer.Get("X-Unannounced"))
}

// Straight to the gateway: gorouter itself asks the client for the body before
// it has asked anybody else.
func TestARefusedRequestIsNeverAskedForItsBody(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:app:$frontend"]}`})
	request := leg2{caller: "monitoring", method: "PUT", headers: []string{"Content-Length: 4", "Expect: 100-continue"}}
	// The first answer is the last: no 100 before it, and no body was sent.
	p.direct(t, request).expect(t, noMatch)
	assert.Zero(t, p.app.count())
}

func TestAnAllowedRequestIsAskedForItsBody(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write(body)
	}})
	conn := p.dial(t, "frontend")
	writeRequest(t, conn, "PUT / HTTP/1.1", []string{"Host: " + p.host, "Connection: close", "Content-Length: 4", "Expect: 100-continue"}, "")
	answers := bufio.NewReader(conn)
	answer, err := http.ReadResponse(answers, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusContinue, answer.StatusCode)
	_, err = io.WriteString(conn, "body")
	require.NoError(t, err)
	for answer.StatusCode == http.StatusContinue { // one of each leg may come
		answer, err = http.ReadResponse(answers, nil)
		require.NoError(t, err)
	}
	r := p.read(t, answer).expect(t, "418 allowed")
	assert.Equal(t, "body", r.body)
}

func TestInterimAnswersPass(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`, handler: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.Header().Set("X-Mtls-Authz-Caller", forgedValue)
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	}})
	var interim []int
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		interim = append(interim, code)
		assert.Equal(t, "</style.css>; rel=preload", header.Get("Link"))
		assertNoForgery(t, http.Header(header))
		return nil
	}})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+p.host+"/", nil)
	require.NoError(t, err)
	p.do(t, "frontend", request).expect(t, "418 allowed")
	assert.Equal(t, []int{103}, interim)
}
