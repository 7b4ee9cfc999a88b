// Package trace follows requests through the gateway with OpenTelemetry: a span
// for the request, one for each step of its walk, one for leg 3. The context
// comes in and goes out as W3C or B3 headers, whichever the router speaks.
//
// It trusts nobody's context: whoever sends one decides at most which trace his
// own request belongs to. No header, no query, no path and no url is in a span:
// they hold secrets. What cannot be exported is dropped, and no request waits
// for it.
package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
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
	// Share of the requests that begin a trace here is followed, 0 to 1. A
	// request that comes with a context is followed if the context says so.
	Share float64
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
}

// contexts reads what a router or a caller may have sent; of two forms, W3C's
// counts.
var contexts = propagation.NewCompositeTextMapPropagator(b3.New(), propagation.TraceContext{})

// Open returns a Tracer that exports in the background until Close. Its error is
// about the configuration: that nothing answers at the endpoint is none.
func Open(ctx context.Context, cfg Config) (*Tracer, error) {
	exporter, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(cfg.Endpoint), otlptracehttp.WithHeaders(cfg.Headers),
		// No proxy of the environment, no redirect: spans tell who calls whom, and
		// the headers may be secrets.
		otlptracehttp.WithHTTPClient(&http.Client{
			Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12}},
			Timeout:       10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}))
	if err != nil {
		return nil, fmt.Errorf("the exporter of spans: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(cfg.Share))),
		sdktrace.WithResource(resource.NewSchemaless(
			semconv.ServiceName("mtls-authz"), semconv.ServiceVersion(cfg.Version), semconv.ServiceInstanceID(cfg.Instance))),
	)
	otel.SetErrorHandler(complaints(cfg.Log))
	return &Tracer{provider, provider.Tracer(scope)}, nil
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
		ctx := contexts.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, "authorize", oteltrace.WithSpanKind(oteltrace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Transport follows leg 3. The request goes on with the context of its span, in
// the forms that it came with.
func (t *Tracer) Transport(next http.RoundTripper) http.RoundTripper {
	if t == nil {
		return next
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
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

func inject(ctx context.Context, h http.Header) {
	carrier := propagation.HeaderCarrier(h)
	propagation.TraceContext{}.Inject(ctx, carrier)
	if h.Get("X-B3-Traceid") != "" {
		b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)).Inject(ctx, carrier)
		// The parent that it names is not ours.
		h.Del("X-B3-Parentspanid")
	}
	if h.Get("B3") != "" {
		b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)).Inject(ctx, carrier)
	}
}

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
