package trace

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// lot follows a share of the traces: all gateways with the key the same ones, and
// nobody without it can make up an id that is among them. The ids alone would not
// do: gorouter's are UUIDs, whose fixed bits are those that
// [sdktrace.TraceIDRatioBased] looks at.
type lot struct {
	key   []byte
	share float64
}

func (l lot) draws(id oteltrace.TraceID) bool {
	mac := hmac.New(sha256.New, l.key)
	_, _ = mac.Write(id[:]) // never fails
	return l.share >= 1 || float64(binary.BigEndian.Uint64(mac.Sum(nil))) < l.share*math.MaxUint64
}

// ShouldSample decides on spans that begin a trace here, or whose parent leaves it
// to us or says yes: nobody's yes makes it more than the share.
func (l lot) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: oteltrace.SpanContextFromContext(p.ParentContext).TraceState()}
	if l.draws(p.TraceID) {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// Description names the sampler.
func (l lot) Description() string { return "lot" }

// undecided has the lot decide where a B3 context leaves that open; else it is a no.
type undecided struct{ lot }

func (u undecided) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.ParentContext.Value(openKey{}) != nil {
		return u.lot.ShouldSample(p)
	}
	return sdktrace.NeverSample().ShouldSample(p)
}

func sampler(key []byte, share float64) sdktrace.Sampler {
	l := lot{key, share}
	return sdktrace.ParentBased(l, sdktrace.WithRemoteParentSampled(l), sdktrace.WithRemoteParentNotSampled(undecided{l}))
}

// openKey marks a context whose sender has not decided whether it is followed.
type openKey struct{}

// extract reads what a router or a caller may have sent; of two forms, W3C's
// counts. What gorouter makes with router.tracing.enable_zipkin is B3 without a
// decision, which OpenTelemetry would read as a no.
func extract(ctx context.Context, h http.Header) context.Context {
	carrier := propagation.HeaderCarrier(h)
	if w3c := (propagation.TraceContext{}).Extract(ctx, carrier); oteltrace.SpanContextFromContext(w3c).IsValid() {
		return w3c
	}
	ctx = b3.New().Extract(ctx, carrier)
	if h.Get("X-B3-Sampled") == "" && h.Get("X-B3-Flags") == "" && strings.Count(h.Get("B3"), "-") <= 1 {
		ctx = context.WithValue(ctx, openKey{}, true)
	}
	return ctx
}

// inject writes the context of a span that is followed, in the forms in which one
// came; W3C's if none did.
func inject(ctx context.Context, h http.Header) {
	// Not ctx itself: what it leaves open is decided.
	ctx = oteltrace.ContextWithSpanContext(context.Background(), oteltrace.SpanContextFromContext(ctx))
	carrier := propagation.HeaderCarrier(h)
	several, single := h.Get("X-B3-Traceid") != "", h.Get("B3") != ""
	if several {
		b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader)).Inject(ctx, carrier)
		// The parent that it names is not ours.
		h.Del("X-B3-Parentspanid")
	}
	if single {
		b3.New(b3.WithInjectEncoding(b3.B3SingleHeader)).Inject(ctx, carrier)
	}
	if h.Get("Traceparent") != "" || !several && !single {
		propagation.TraceContext{}.Inject(ctx, carrier)
	}
}
