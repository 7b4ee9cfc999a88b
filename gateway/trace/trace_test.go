package trace_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/mtls-authz/mtls-authz/gateway/trace"
)

// sink is a collector that keeps what it gets.
type sink struct {
	*httptest.Server
	mu    sync.Mutex
	raw   []byte
	spans []*spans.Span
	auth  string
}

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if !assert.NoError(t, err) {
				return
			}
			body = unzipped
		}
		raw, err := io.ReadAll(body)
		assert.NoError(t, err)
		var request collector.ExportTraceServiceRequest
		assert.NoError(t, proto.Unmarshal(raw, &request))
		s.mu.Lock()
		defer s.mu.Unlock()
		s.auth = r.Header.Get("Authorization")
		s.raw = append(s.raw, raw...)
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				s.spans = append(s.spans, scope.GetSpans()...)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *sink) named(name string) []*spans.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*spans.Span
	for _, span := range s.spans {
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	return found
}

func (s *sink) open(t *testing.T, share float64) *trace.Tracer {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	tracer, err := trace.Open(t.Context(), trace.Config{
		Endpoint: s.URL + "/v1/traces", Headers: map[string]string{"Authorization": "Bearer SECRET"}, Share: share, Key: []byte("key"), Roots: roots,
		Ignore:  func(r *http.Request) bool { return r.Header.Get("X-Ignored") != "" },
		Version: "1", Instance: "0", Log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return tracer
}

// passing sends a request with these headers through a handler that takes one
// step and leg 3, and returns the headers of leg 3.
func passing(t *testing.T, tracer *trace.Tracer, sent http.Header) (leg3 http.Header) {
	t.Helper()
	router := tracer.Transport(roundTrip(func(r *http.Request) (*http.Response, error) {
		leg3 = r.Header
		return &http.Response{StatusCode: http.StatusTeapot, Body: http.NoBody}, nil
	}))
	handler := tracer.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		trace.Step(r.Context(), "decide")(nil)
		_, err := router.RoundTrip(r)
		assert.NoError(t, err)
		trace.Outcome(r.Context(), http.StatusTeapot, "decision_id", "d-1", "mtls_denied_reason", "")
	}))
	request := httptest.NewRequest(http.MethodGet, "/r/b-1/TOKEN?query=SECRET", nil)
	request.Header = sent
	before := sent.Clone()
	handler.ServeHTTP(httptest.NewRecorder(), request)
	assert.Equal(t, before, request.Header, "what came in is not changed")
	return leg3
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

const (
	id     = "0af7651916cd43dd8448eb211c80319c"
	parent = "b7ad6b7169203331"
)

// passedOn demands a context of the trace whose parent is now the span of leg 3.
func passedOn(t *testing.T, context, decision string) {
	t.Helper()
	assert.Contains(t, context, id)
	assert.NotContains(t, context, parent)
	assert.Regexp(t, "-"+decision+"$", context)
}

// A request is followed through its steps, in the trace that it came with, and
// goes on in the form in which it came.
func TestARequestIsFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		sent http.Header
		want func(*testing.T, http.Header)
	}{
		"W3C": {http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "Tracestate": {"gorouter=x"}}, func(t *testing.T, h http.Header) {
			assert.Equal(t, "gorouter=x", h.Get("Tracestate"))
			assert.Empty(t, h.Get("X-B3-Traceid"))
			passedOn(t, h.Get("Traceparent"), "01")
		}},
		"B3, several headers": {http.Header{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}, "X-B3-Parentspanid": {"0000000000000001"}, "X-B3-Sampled": {"1"}}, func(t *testing.T, h http.Header) {
			assert.Equal(t, id, h.Get("X-B3-Traceid"))
			assert.NotEqual(t, parent, h.Get("X-B3-Spanid"))
			assert.Equal(t, "1", h.Get("X-B3-Sampled"))
			assert.Empty(t, h.Get("X-B3-Parentspanid"))
			assert.Empty(t, h.Get("B3"))
			assert.Empty(t, h.Get("Traceparent"))
		}},
		"B3 of gorouter, which decides nothing": {http.Header{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}, "B3": {id + "-" + parent}}, func(t *testing.T, h http.Header) {
			assert.Equal(t, []string{id, "1"}, []string{h.Get("X-B3-Traceid"), h.Get("X-B3-Sampled")})
			passedOn(t, h.Get("B3"), "1")
			assert.Empty(t, h.Get("Traceparent"))
		}},
		"B3, several headers, no decision": {http.Header{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}}, func(t *testing.T, h http.Header) {
			assert.Equal(t, []string{id, "1"}, []string{h.Get("X-B3-Traceid"), h.Get("X-B3-Sampled")})
			assert.Empty(t, h.Get("Traceparent"))
		}},
		"B3, one header, no decision": {http.Header{"B3": {id + "-" + parent}}, func(t *testing.T, h http.Header) {
			passedOn(t, h.Get("B3"), "1")
			assert.Empty(t, h.Get("Traceparent"))
		}},
		"both": {http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "B3": {id + "-" + parent}}, func(t *testing.T, h http.Header) {
			passedOn(t, h.Get("B3"), "1")
			passedOn(t, h.Get("Traceparent"), "01")
		}},
		"B3, one header": {http.Header{"B3": {id + "-" + parent + "-1"}}, func(t *testing.T, h http.Header) {
			passedOn(t, h.Get("B3"), "1")
			assert.Empty(t, h.Get("X-B3-Traceid"))
			assert.Empty(t, h.Get("Traceparent"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			tracer := s.open(t, 1)
			leg3 := passing(t, tracer, test.sent)
			require.NoError(t, tracer.Close(t.Context()))
			test.want(t, leg3)
			server, step, client := s.named("authorize"), s.named("decide"), s.named("leg 3")
			require.Len(t, server, 1)
			require.Len(t, step, 1)
			require.Len(t, client, 1)
			assert.Equal(t, server[0].GetSpanId(), step[0].GetParentSpanId())
			assert.Equal(t, server[0].GetSpanId(), client[0].GetParentSpanId())
			assert.Equal(t, "Bearer SECRET", s.auth)
		})
	}
}

// Nothing of a request's headers, path or query is in a span.
func TestSpansHoldNoSecret(t *testing.T) {
	s := newSink(t)
	tracer := s.open(t, 1)
	passing(t, tracer, http.Header{
		"X-Cf-Proxy-Signature": {"SECRET"}, "X-Cf-Proxy-Metadata": {"SECRET"}, "X-Cf-Forwarded-Url": {"https://SECRET/"}, "Authorization": {"SECRET"},
		"X-Forwarded-Client-Cert": {"SECRET"},
	})
	require.NoError(t, tracer.Close(t.Context()))
	require.NotEmpty(t, s.named("authorize"))
	assert.Contains(t, string(s.raw), "d-1")
	assert.NotContains(t, string(s.raw), "SECRET")
	assert.NotContains(t, string(s.raw), "TOKEN")
}

// A context that is no context is followed or not as the share says; the caller's
// own word "not sampled" is taken.
func TestWhatIsNotFollowed(t *testing.T) {
	for name, test := range map[string]struct {
		sent  http.Header
		share float64
		want  int
	}{
		"no share":                {http.Header{}, 0, 0},
		"all":                     {http.Header{}, 1, 1},
		"not sampled":             {http.Header{"Traceparent": {"00-" + id + "-" + parent + "-00"}}, 1, 0},
		"B3, not sampled":         {http.Header{"B3": {id + "-" + parent + "-0"}}, 1, 0},
		"B3s, not sampled":        {http.Header{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}, "X-B3-Sampled": {"0"}}, 1, 0},
		"B3, open":                {http.Header{"B3": {id + "-" + parent}}, 0, 0},
		"W3C, no share":           {http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}}, 0, 0},
		"a probe":                 {http.Header{"X-Ignored": {"1"}}, 1, 0},
		"forged nonsense":         {http.Header{"Traceparent": {"00-" + id + "\x00-01"}, "B3": {"\"><script>"}}, 0, 0},
		"forged nonsense, traced": {http.Header{"Traceparent": {"ff-zz"}, "X-B3-Traceid": {"zz"}}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSink(t)
			tracer := s.open(t, test.share)
			leg3 := passing(t, tracer, test.sent.Clone())
			require.NoError(t, tracer.Close(t.Context()))
			assert.Len(t, s.named("authorize"), test.want)
			assert.Len(t, s.named("leg 3"), test.want)
			if test.want == 0 {
				assert.Equal(t, test.sent, leg3, "whether the app follows it is not ours to say")
			}
		})
	}
}

// gorouter's trace ids are UUIDs, its W3C contexts always say yes, and anybody can
// send what he likes: of all of them the share is followed, of each trace by every
// gateway with the key or by none.
func TestTheShareBoundsWhatOthersWant(t *testing.T) {
	const requests = 2000
	for name, context := range map[string]func(id string) http.Header{
		"W3C that says yes":      func(id string) http.Header { return http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}} },
		"B3 that says yes":       func(id string) http.Header { return http.Header{"B3": {id + "-" + parent + "-1"}} },
		"B3 that says debug":     func(id string) http.Header { return http.Header{"B3": {id + "-" + parent + "-d"}} },
		"B3 that leaves it open": func(id string) http.Header { return http.Header{"B3": {id + "-" + parent}} },
		"ids that want to be seen": func(id string) http.Header {
			return http.Header{"Traceparent": {"00-" + id[:4] + "0000000000000000000000000000-" + parent + "-01"}}
		},
		"nothing": func(string) http.Header { return http.Header{} },
	} {
		t.Run(name, func(t *testing.T) {
			one, sibling := newSink(t), newSink(t)
			tracers := []*trace.Tracer{one.open(t, 0.1), sibling.open(t, 0.1)}
			for i := range requests {
				sent := context(strings.ReplaceAll(uuid.NewSHA1(uuid.Nil, []byte{byte(i), byte(i >> 8)}).String(), "-", ""))
				for _, tracer := range tracers {
					passing(t, tracer, sent)
				}
			}
			for _, tracer := range tracers {
				require.NoError(t, tracer.Close(t.Context()))
			}
			followed := len(one.named("authorize"))
			assert.InDelta(t, requests/10, followed, 80)
			if name != "nothing" {
				assert.Len(t, sibling.named("authorize"), followed)
			}
		})
	}
}

// Off, it is not there at all.
func TestNoTracer(t *testing.T) {
	var none *trace.Tracer
	sent := http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}}
	assert.Equal(t, sent, passing(t, none, sent))
	assert.NoError(t, none.Close(t.Context()))
	ctx := context.Background()
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		trace.Step(ctx, "decide")(nil)
		trace.Outcome(ctx, http.StatusOK, "decision_id", "d-1")
	}))
}

// Without its collector nothing waits, and one line a minute says so, without
// the endpoint's password.
func TestTheCollectorIsAway(t *testing.T) {
	s := newSink(t)
	s.Close()
	var log lockedBuffer
	tracer, err := trace.Open(t.Context(), trace.Config{
		Endpoint: "https://user:SECRET@" + s.Listener.Addr().String() + "/v1/traces", Share: 1, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	require.NoError(t, err)
	for range 3000 { // more than it keeps
		passing(t, tracer, http.Header{})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = tracer.Close(ctx) // it may say that it could not
	assert.NotContains(t, log.String(), "SECRET")
}

// The collector is asked as it is told: with the headers, and without following it
// elsewhere.
func TestAskingTheCollector(t *testing.T) {
	s := newSink(t)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	cfg := trace.Config{Endpoint: s.URL + "/v1/traces", Headers: map[string]string{"Authorization": "Bearer SECRET"}, Roots: roots}
	status, err := trace.Ask(t.Context(), cfg)
	require.NoError(t, err)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, "Bearer SECRET", s.auth)
	assert.Empty(t, s.spans)
	_, err = trace.Ask(t.Context(), trace.Config{Endpoint: cfg.Endpoint})
	require.Error(t, err, "its certificate is not trusted")
	elsewhere := httptest.NewServer(http.RedirectHandler(s.URL, http.StatusTemporaryRedirect))
	t.Cleanup(elsewhere.Close)
	status, err = trace.Ask(t.Context(), trace.Config{Endpoint: elsewhere.URL, Roots: roots})
	require.NoError(t, err)
	assert.Equal(t, http.StatusTemporaryRedirect, status)
	s.Close()
	_, err = trace.Ask(t.Context(), trace.Config{Endpoint: "https://user:SECRET@" + s.Listener.Addr().String()})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "SECRET")
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// What the headers of an export hold is for the collector alone.
func TestRedirectsAreNotFollowed(t *testing.T) {
	thief := newSink(t)
	asked := make(chan struct{}, 10)
	s := &sink{Server: httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.Redirect(w, r, thief.URL+"/v1/traces", http.StatusTemporaryRedirect)
	}))}
	t.Cleanup(s.Close)
	tracer := s.open(t, 1)
	passing(t, tracer, http.Header{})
	_ = tracer.Close(t.Context()) // what the collector did not take is no error of ours
	<-asked
	thief.mu.Lock()
	defer thief.mu.Unlock()
	assert.Empty(t, thief.raw)
}
