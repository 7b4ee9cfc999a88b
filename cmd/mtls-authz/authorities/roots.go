package authorities

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/mtls-authz/mtls-authz/identity"
)

// RouterRoots are the CAs that may have issued the router's certificate:
// ROUTER_CA_FILES, else the system's and the platform's. CAs that issue
// instance certificates are left out of the latter: every app has a server
// certificate of theirs.
func (a *Authorities) RouterRoots() (*x509.CertPool, error) {
	if files := a.cfg.Settings.RouterCAs; len(files) > 0 {
		cas, err := identity.ReadCAs(files...)
		if err != nil {
			return nil, fmt.Errorf("ROUTER_CA_FILES: %w", err)
		}
		pool := x509.NewCertPool()
		for _, ca := range cas {
			pool.AddCert(ca)
		}
		return pool, nil
	}
	pool, err := systemRoots()
	if err != nil || a.cfg.Settings.SystemCertPath == "" {
		return pool, err
	}
	a.mu.Lock()
	issuers := certificates(a.trusted)
	a.mu.Unlock()
	paths, err := filepath.Glob(filepath.Join(a.cfg.Settings.SystemCertPath, "*"))
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

// ExtraRoots are the system's roots and CA_FILES, for servers that are not
// routers.
func (a *Authorities) ExtraRoots() (*x509.CertPool, error) {
	pool, err := systemRoots()
	if err != nil {
		return nil, err
	}
	cas, err := identity.ReadCAs(a.cfg.Settings.ExtraCAs...)
	if err != nil {
		return nil, fmt.Errorf("CA_FILES: %w", err)
	}
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, nil
}

func systemRoots() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system roots: %w", err)
	}
	return pool, nil
}

// StoreCA are the authorities of PostgreSQL's certificate, in PEM: those that
// came with the credentials, else CA_FILES, else none, which means the URL's own
// rules.
func (a *Authorities) StoreCA() ([]byte, error) {
	s := a.cfg.Settings
	if s.StoreCA != "" {
		return []byte(s.StoreCA), nil
	}
	if u, err := url.Parse(s.StoreURL); err != nil || u.Scheme == "sqlite" || u.Query().Get("sslmode") == "disable" {
		return nil, nil // nobody to verify
	}
	var all []byte
	for _, file := range s.ExtraCAs {
		text, err := file.Read()
		if err != nil {
			return nil, fmt.Errorf("CA_FILES: %w", err)
		}
		all = append(append(all, text...), '\n')
	}
	return all, nil
}
