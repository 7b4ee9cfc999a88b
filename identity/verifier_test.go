package identity_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/identity"
	"github.com/mtls-authz/mtls-authz/playground/ca"
)

func TestOnlyCallerCAsVouch(t *testing.T) {
	f, foreign := newFoundation(t), newFoundation(t)
	sibling, err := f.root.Intermediate("otherCA")
	require.NoError(t, err)
	sameName, err := foreign.root.Intermediate("instanceIdentityCA")
	require.NoError(t, err)
	byRoot, bySibling := mint(t, f.root).XFCC(), mint(t, sibling).XFCC()

	t.Run("the intermediate is an anchor", func(t *testing.T) {
		allow(t, f.verifier(t), f.leaf(t))
	})
	attacks := map[string]string{
		"leaf of another foundation":                 foreign.leaf(t),
		"leaf of the root above the intermediate":    byRoot,
		"leaf of another CA below the same root":     bySibling,
		"leaf of a CA with the caller CA's own name": mint(t, sameName).XFCC(),
	}
	for name, header := range attacks {
		t.Run(name, func(t *testing.T) {
			deny(t, f.verifier(t), header, identity.ErrUntrustedCertificate)
		})
	}
	t.Run("the root alone does not vouch for leaves of its intermediates", func(t *testing.T) {
		v := trusting(t, f.root.Certificate())
		deny(t, v, f.leaf(t), identity.ErrUntrustedCertificate)
		allow(t, v, byRoot)
	})
	t.Run("several CAs at once, as during a rotation", func(t *testing.T) {
		v := trusting(t, f.intermediate.Certificate(), sibling.Certificate())
		allow(t, v, f.leaf(t))
		allow(t, v, bySibling)
		deny(t, v, byRoot, identity.ErrUntrustedCertificate)
	})
}

func TestSystemPoolDoesNotVouch(t *testing.T) {
	f, public := newFoundation(t), newFoundation(t)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, public.intermediate.PEM(), 0o600))
	t.Setenv("SSL_CERT_FILE", roots)
	deny(t, f.verifier(t), public.leaf(t), identity.ErrUntrustedCertificate)
}

func TestRefusalNamesTheMissingCA(t *testing.T) {
	f, foreign := newFoundation(t), newFoundation(t)
	refusal := deny(t, f.verifier(t), foreign.leaf(t), identity.ErrUntrustedCertificate)
	assert.Equal(t, hex.EncodeToString(foreign.intermediate.Certificate().SubjectKeyId), refusal.IssuerKeyID)
	assert.Equal(t, "untrusted client certificate: "+refusal.Detail, refusal.Error())
}

func TestSelfSignedLeafIsUntrusted(t *testing.T) {
	f, signer := newFoundation(t), newHandSigner(t)
	der := signer.leaf(func(c *x509.Certificate) { c.Subject.CommonName = "instanceIdentityCA" })
	deny(t, f.verifier(t), xfcc(der), identity.ErrUntrustedCertificate)
}

func TestSignatureOfTheLeafIsChecked(t *testing.T) {
	signer := newHandSigner(t)
	v, der := trusting(t, signer.ca), signer.leaf(nil)
	allow(t, v, xfcc(der))
	stolen := strings.Replace(string(der), "app:"+frontend, "app:"+other, 1)
	deny(t, v, xfcc([]byte(stolen)), identity.ErrUntrustedCertificate)
}

func TestLeafMustBeForClientAuthentication(t *testing.T) {
	f := newFoundation(t)
	v := f.verifier(t)
	usages := func(u ...x509.ExtKeyUsage) ca.Option {
		return ca.With(func(c *x509.Certificate) { c.ExtKeyUsage = u })
	}
	allow(t, v, f.leaf(t, usages(x509.ExtKeyUsageClientAuth)))
	for name, usage := range map[string]ca.Option{
		"no extended key usage":      usages(),
		"server authentication only": usages(x509.ExtKeyUsageServerAuth),
		"any usage":                  usages(x509.ExtKeyUsageAny),
		"code signing":               usages(x509.ExtKeyUsageCodeSigning),
	} {
		t.Run(name, func(t *testing.T) {
			deny(t, v, f.leaf(t, usage), identity.ErrUntrustedCertificate)
		})
	}
	t.Run("a CA that may not issue client certificates", func(t *testing.T) {
		signer := newHandSigner(t)
		serverOnly := signer.authority(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
		deny(t, trusting(t, serverOnly), xfcc(signer.leaf(nil)), identity.ErrUntrustedCertificate)
	})
}

func TestCAIsNotACaller(t *testing.T) {
	f := newFoundation(t)
	v := f.verifier(t)
	asCA := ca.With(func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = true, true })
	deny(t, v, f.leaf(t, asCA), identity.ErrUntrustedCertificate)
	deny(t, v, xfcc(f.intermediate.Certificate().Raw), identity.ErrUntrustedCertificate)
}

func TestUnknownCriticalExtensionIsUntrusted(t *testing.T) {
	signer := newHandSigner(t)
	der := signer.leaf(func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
	})
	deny(t, trusting(t, signer.ca), xfcc(der), identity.ErrUntrustedCertificate)
}

func TestDatesWithSkew(t *testing.T) {
	signer := newHandSigner(t)
	start := time.Now().Truncate(time.Second).UTC()
	end := start.Add(10 * time.Hour)
	leaf := xfcc(signer.leaf(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = start, end }))
	cases := []struct {
		name string
		now  time.Time
		ok   bool
	}{
		{"long before", start.Add(-time.Hour), false},
		{"a second too early for the skew", start.Add(-61 * time.Second), false},
		{"a minute before, as with a slow clock", start.Add(-60 * time.Second), true},
		{"in the middle", start.Add(time.Hour), true},
		{"at its end", end, true},
		{"a minute after", end.Add(60 * time.Second), true},
		{"a second too late for the skew", end.Add(61 * time.Second), false},
		{"long after", end.Add(240 * time.Hour), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			v := trustingAt(t, func() time.Time { return c.now }, signer.ca)
			if c.ok {
				allow(t, v, leaf)
				return
			}
			assert.NotEmpty(t, deny(t, v, leaf, identity.ErrUntrustedCertificate).IssuerKeyID)
		})
	}
	t.Run("of a remembered certificate are checked again", func(t *testing.T) {
		var now time.Time
		v := trustingAt(t, func() time.Time { return now }, signer.ca)
		for _, c := range cases {
			now = start.Add(time.Minute)
			allow(t, v, leaf)
			if now = c.now; c.ok {
				allow(t, v, leaf)
			} else {
				assert.NotEmpty(t, deny(t, v, leaf, identity.ErrUntrustedCertificate).IssuerKeyID, c.name)
			}
		}
	})
}

func TestEndOfTheCAEndsItsCallers(t *testing.T) {
	signer := newHandSigner(t)
	start := time.Now().Truncate(time.Second)
	end := start.Add(time.Hour)
	short := signer.authority(func(c *x509.Certificate) { c.NotAfter = end })
	leaf := xfcc(signer.leaf(nil)) // valid for a day
	now := start
	clock := func() time.Time { return now }

	remembering := trustingAt(t, clock, short)
	allow(t, remembering, leaf)
	now = end.Add(time.Second)
	deny(t, remembering, leaf, identity.ErrUntrustedCertificate)
	deny(t, trustingAt(t, clock, short), leaf, identity.ErrUntrustedCertificate)

	t.Run("but not if a renewed certificate of the same CA is trusted too", func(t *testing.T) {
		now = start
		v := trustingAt(t, clock, short, signer.ca)
		allow(t, v, leaf)
		now = end.Add(time.Hour)
		allow(t, v, leaf)
	})
}

func TestWithdrawnCAIsForgotten(t *testing.T) {
	f, next := newFoundation(t), newFoundation(t)
	v := f.verifier(t)
	old, fresh := f.leaf(t), next.leaf(t)
	allow(t, v, old)
	deny(t, v, fresh, identity.ErrUntrustedCertificate)

	require.NoError(t, v.SetCAs([]*x509.Certificate{next.intermediate.Certificate()}))
	deny(t, v, old, identity.ErrUntrustedCertificate)
	allow(t, v, fresh)

	t.Run("a bad set changes nothing", func(t *testing.T) {
		leaf := mint(t, f.intermediate).Leaf()
		require.Error(t, v.SetCAs(nil))
		require.ErrorContains(t, v.SetCAs([]*x509.Certificate{f.intermediate.Certificate(), leaf}), "is not a CA")
		deny(t, v, old, identity.ErrUntrustedCertificate)
		allow(t, v, fresh)
	})
}

func TestNewVerifierRefusesWhatCouldVerifyNobody(t *testing.T) {
	f := newFoundation(t)
	cas := []*x509.Certificate{f.intermediate.Certificate()}
	for name, cfg := range map[string]identity.Config{
		"no CA":                 {Foundation: "local"},
		"no foundation":         {CAs: cas},
		"a leaf as CA":          {Foundation: "local", CAs: []*x509.Certificate{mint(t, f.intermediate).Leaf()}},
		"a negative memory":     {Foundation: "local", CAs: cas, Remember: -1},
		"one bad CA among good": {Foundation: "local", CAs: append(cas, mint(t, f.intermediate).Leaf())},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := identity.NewVerifier(cfg)
			assert.Error(t, err)
			assert.Nil(t, v)
		})
	}
}

// A small memory forgets and verifies again; it never mixes callers up.
func TestMemoryIsBoundedAndExact(t *testing.T) {
	f := newFoundation(t)
	v, err := identity.NewVerifier(identity.Config{Foundation: "local", CAs: []*x509.Certificate{f.intermediate.Certificate()}, Remember: 2})
	require.NoError(t, err)
	headers := map[string]string{}
	for _, app := range []string{frontend, shop, acme, other} {
		id := frontendIdentity
		id.App = app
		credential, err := f.intermediate.Instance(id)
		require.NoError(t, err)
		headers[app] = credential.XFCC()
	}
	for range 3 {
		for app, header := range headers {
			caller, err := v.Verify([]string{header}, identity.Raw)
			require.NoError(t, err)
			assert.Equal(t, app, caller.App.String())
		}
	}
}

// The holder of an untrusted certificate chooses its names: they reach the log
// bounded and printable (checkRefusal).
func TestRefusalDetailIsBounded(t *testing.T) {
	long := strings.Repeat("x", 4000)
	names, keyID := newHandSigner(t), newHandSigner(t)
	keyID.ca.SubjectKeyId = []byte(long) // leaves copy it
	for name, der := range map[string][]byte{
		"a long authority key id": keyID.leaf(nil),
		"a long OU":               names.leaf(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{long} }),
		"a URI of terminal codes": names.leaf(func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "https", Opaque: "//[\x1b[31m" + long}}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			deny(t, trusting(t, newHandSigner(t).ca), xfcc(der), identity.ErrUntrustedCertificate)
		})
	}
}

// For the race detector: callers are verified while the CAs rotate, and every
// answer is one of the two that are right.
func TestVerifierIsSafeForConcurrentUse(t *testing.T) {
	f, next := newFoundation(t), newFoundation(t)
	v, header := f.verifier(t), []string{f.leaf(t)}
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for range 50 {
				if caller, err := v.Verify(header, identity.Raw); err != nil {
					checkRefusal(t, caller, err, identity.ErrUntrustedCertificate)
				} else {
					assert.Equal(t, frontendCaller, caller)
				}
			}
		})
	}
	for range 20 {
		assert.NoError(t, v.SetCAs([]*x509.Certificate{next.intermediate.Certificate()}))
		assert.NoError(t, v.SetCAs([]*x509.Certificate{f.intermediate.Certificate()}))
	}
	workers.Wait()
}
