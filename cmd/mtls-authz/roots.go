package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/mtls-authz/mtls-authz/identity"
)

// routerRoots are the CAs that may have issued the router's certificate:
// ROUTER_CA_FILES, else the system's and the platform's. CAs that issue
// instance certificates are left out of the latter: every app has a server
// certificate of theirs.
func (g *server) routerRoots() (*x509.CertPool, error) {
	if len(g.RouterCAs) > 0 {
		cas, err := identity.ReadCAs(g.RouterCAs...)
		if err != nil {
			return nil, fmt.Errorf("ROUTER_CA_FILES: %w", err)
		}
		pool := x509.NewCertPool()
		for _, ca := range cas {
			pool.AddCert(ca)
		}
		return pool, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system roots: %w", err)
	}
	if g.SystemCertPath == "" {
		return pool, nil
	}
	issuers, err := g.readCallerCAs()
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(g.SystemCertPath, "*"))
	if err != nil {
		return nil, fmt.Errorf("CF_SYSTEM_CERT_PATH: %w", err)
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		cas, err := identity.ReadCAs(identity.File(path))
		if err != nil {
			return nil, fmt.Errorf("CF_SYSTEM_CERT_PATH: %w", err)
		}
		for _, ca := range cas {
			if !issuesInstances(ca, issuers) {
				pool.AddCert(ca)
			}
		}
	}
	return pool, nil
}

// issuesInstances reports whether a CA is an issuer of instance certificates or
// has signed one.
func issuesInstances(ca *x509.Certificate, issuers []*x509.Certificate) bool {
	return slices.ContainsFunc(issuers, func(issuer *x509.Certificate) bool {
		return bytes.Equal(ca.Raw, issuer.Raw) || issuer.CheckSignatureFrom(ca) == nil
	})
}
