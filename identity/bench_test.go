package identity_test

import (
	"crypto/x509"
	"testing"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

// BenchmarkRememberedCaller is the cost of identity on the hot path: every
// request of a caller but its first. Target: 2 µs.
func BenchmarkRememberedCaller(b *testing.B) {
	f := newFoundation(b)
	for name, option := range map[string]ca.Option{"ecdsa": ca.With(func(*x509.Certificate) {}), "rsa3072": ca.RSA(3072)} {
		b.Run(name, func(b *testing.B) {
			v, values := f.verifier(b), []string{f.leaf(b, option)}
			b.SetBytes(int64(len(values[0])))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(values, identity.Raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify is the cost of a caller's first request: of two callers, one
// is always forgotten.
func BenchmarkVerify(b *testing.B) {
	f := newFoundation(b)
	v, err := identity.NewVerifier(identity.Config{Foundation: "local", CAs: []*x509.Certificate{f.intermediate.Certificate()}, Remember: 1})
	if err != nil {
		b.Fatal(err)
	}
	callers := [2][]string{{f.leaf(b)}, {f.leaf(b)}}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := v.Verify(callers[i%2], identity.Raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvoy(b *testing.B) {
	v, values := newFoundation(b).verifier(b), []string{envoyElement}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(values, identity.Envoy); err != nil {
			b.Fatal(err)
		}
	}
}
