package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/mtls-authz/mtls-authz/identity"
)

func (g *server) buildIdentity() (err error) {
	if g.InstanceCert != "" {
		if g.own, err = identity.NewKeyPair(g.InstanceCert, g.InstanceKey); err != nil {
			return fmt.Errorf("CF_INSTANCE_CERT and CF_INSTANCE_KEY: %w", err)
		}
		g.watch("the gateway's own certificate", g.own.Files(), g.own.Reload)
	}
	cas, err := g.readCallerCAs()
	if err != nil {
		return err
	}
	if g.verifier, err = identity.NewVerifier(identity.Config{Foundation: g.FoundationName, CAs: cas}); err != nil {
		return fmt.Errorf("CALLER_CA_FILES: %w", err)
	}
	watched := g.CallerCAs
	if len(watched) == 0 {
		watched = []identity.File{g.InstanceCert}
	}
	g.watch("the caller CAs", watched, func() error {
		cas, err := g.readCallerCAs()
		if err != nil {
			return err
		}
		return g.verifier.SetCAs(cas)
	})
	return nil
}

// watch re-reads files in the background and says so. The first look, right at
// the start, catches what changed since the files were read; it is not news.
func (g *server) watch(what string, files []identity.File, reload func() error) {
	looked := false
	changed := func() error {
		err := reload()
		if err == nil && looked {
			g.log.Info("read again: " + what)
		}
		looked = true
		return err
	}
	failed := func(err error) {
		g.log.Warn("could not read "+what+" again; the former stays", slog.String("error", err.Error()))
	}
	g.background = append(g.background, func(ctx context.Context) { identity.Watch(ctx, files, changed, failed) })
}

func (g *server) readCallerCAs() ([]*x509.Certificate, error) {
	if len(g.CallerCAs) > 0 {
		cas, err := identity.ReadCAs(g.CallerCAs...)
		return cas, prefixed("CALLER_CA_FILES", err)
	}
	cas, err := identity.ReadIssuer(g.InstanceCert)
	return cas, prefixed("CF_INSTANCE_CERT", err)
}

func prefixed(setting string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", setting, err)
}

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

// extraRoots are the system's roots and CA_FILES, for servers that are not
// routers.
func (g *server) extraRoots() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system roots: %w", err)
	}
	cas, err := identity.ReadCAs(g.ExtraCAs...)
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, prefixed("CA_FILES", err)
}

// storeCA are the authorities of PostgreSQL's certificate, in PEM: those that
// came with the credentials, else CA_FILES, else none, which means the URL's own
// rules.
func (g *server) storeCA() ([]byte, error) {
	if g.StoreCA != "" {
		return []byte(g.StoreCA), nil
	}
	if u, err := url.Parse(g.StoreURL); err != nil || u.Scheme == "sqlite" || u.Query().Get("sslmode") == "disable" {
		return nil, nil // nobody to verify
	}
	var all []byte
	for _, file := range g.ExtraCAs {
		text, err := file.Read()
		if err != nil {
			return nil, prefixed("CA_FILES", err)
		}
		all = append(append(all, text...), '\n')
	}
	return all, nil
}
