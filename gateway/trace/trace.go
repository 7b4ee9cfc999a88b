// Package trace follows requests through the gateway with OpenTelemetry: a span
// for the request, one for each step of its walk, one for leg 3. The context
// comes in and goes out as W3C or B3 headers, whichever the router speaks.
//
// It trusts nobody's context: whoever sends one decides at most which trace his
// own request belongs to, and that it is not followed. No header, no query, no path and no url is in a span:
// they hold secrets. What cannot be exported is dropped, and no request waits
// for it.
package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	oteltrace "go.opentelemetry.io/otel/trace"
)

const scope = "github.com/mtls-authz/mtls-authz/gateway"

// complainEvery is how often a line says that spans cannot be exported.
const complainEvery = time.Minute

// Config configures [Open].
type Config struct {
	// Endpoint takes spans by OTLP over HTTP, such as
	// https://collector.example.com/v1/traces. Required.
	Endpoint string
	// Headers go with each export; they may be secrets.
	Headers map[string]string
	// Share of the traces is followed, 0 to 1, whoever began them; none whose
	// context says no.
	Share float64
	// Key decides which; gateways with the same follow the same. Required.
	Key []byte
	// Ignore tells requests that are not followed at all; nil: none.
	Ignore func(*http.Request) bool
	// Roots verify the endpoint; nil: the system's.
	Roots *x509.CertPool
	// Version and Instance name this process.
	Version, Instance string
	// Log is told when spans cannot be exported. Required.
	Log *slog.Logger
}

// A Tracer follows requests. A nil Tracer follows none.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   oteltrace.Tracer
	ignore   func(*http.Request) bool
}

// Open returns a Tracer that exports in the background until Close. Its error is
// about the configuration: that nothing answers at the endpoint is none.
func Open(ctx context.Context, cfg Config) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(cfg.Endpoint), otlptracehttp.WithHeaders(cfg.Headers), otlptracehttp.WithHTTPClient(cfg.client()))
	if err != nil {
		return nil, fmt.Errorf("the exporter of spans: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sampler(cfg.Key, cfg.Share)),
		sdktrace.WithResource(resource.NewSchemaless(
			semconv.ServiceName("mtls-authz"), semconv.ServiceVersion(cfg.Version), semconv.ServiceInstanceID(cfg.Instance))),
	)
	otel.SetErrorHandler(complaints(cfg.Log))
	return &Tracer{provider, provider.Tracer(scope), cfg.Ignore}, nil
}

// client goes through no proxy of the environment and follows no redirect: spans
// tell who calls whom, and the headers may be secrets.
func (cfg Config) client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}},
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Ask exports no span, as spans are exported, and returns the status of the answer.
// Its error does not show the endpoint.
func Ask(ctx context.Context, cfg Config) (status int, err error) {
	// The empty text is a message without spans.
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, cfg.Endpoint, http.NoBody)
	if err != nil {
		return 0, errors.New("the endpoint is no URL")
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	for name, value := range cfg.Headers {
		r.Header.Set(name, value)
	}
	client := cfg.client()
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	var named *url.Error
	switch {
	case errors.As(err, &named):
		return 0, named.Err
	case err != nil:
		return 0, err
	}
	return res.StatusCode, res.Body.Close()
}

// complaints logs at most one line a minute. The text of an export's error names
// the endpoint, which may hold a password: it is not logged.
func complaints(log *slog.Logger) otel.ErrorHandlerFunc {
	var last atomic.Int64
	return func(error) {
		now := time.Now().Unix()
		if then := last.Load(); now-then >= int64(complainEvery.Seconds()) && last.CompareAndSwap(then, now) {
			log.Warn("traces: spans could not be exported, and are dropped; see OTEL_EXPORTER_OTLP_ENDPOINT")
		}
	}
}

// Close exports what is left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Handler follows the requests that next serves.
func (t *Tracer) Handler(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.ignore != nil && t.ignore(r) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, span := t.tracer.Start(extract(r.Context(), r.Header), "authorize", oteltrace.WithSpanKind(oteltrace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Transport follows leg 3. A request that is followed goes on with the context of
// its span, any other as it came: it is not for the gateway to say that the app must
// not follow it.
func (t *Tracer) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if !oteltrace.SpanFromContext(r.Context()).IsRecording() {
			return next.RoundTrip(r)
		}
		ctx, span := t.tracer.Start(r.Context(), "leg 3", oteltrace.WithSpanKind(oteltrace.SpanKindClient))
		defer span.End()
		r = r.Clone(ctx)
		inject(ctx, r.Header)
		res, err := next.RoundTrip(r)
		if err != nil {
			span.SetStatus(codes.Error, "no answer")
			return nil, err
		}
		span.SetAttributes(semconv.HTTPResponseStatusCode(res.StatusCode))
		return res, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Step begins a step of the walk of the request that ctx belongs to; end tells
// how it ended. Without a Tracer it does nothing.
func Step(ctx context.Context, name string) (end func(error)) {
	parent := oteltrace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return nothing
	}
	_, span := parent.TracerProvider().Tracer(scope).Start(ctx, name)
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "refused")
		}
		span.End()
	}
}

func nothing(error) {}

// Outcome tells what became of the request that ctx belongs to: pairs of a name
// and a value of the decision line.
func Outcome(ctx context.Context, status int, pairs ...string) {
	span := oteltrace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			span.SetAttributes(attribute.String("mtls_authz."+pairs[i], pairs[i+1]))
		}
	}
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
}
