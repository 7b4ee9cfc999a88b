package doctor

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/identity"
)

// roots are the authorities of servers, as serve believes them.
type roots struct{ *settings.Settings }

// router: ROUTER_CA_FILES, else the system's and the platform's, less those that
// issue instance certificates.
func (r roots) router() (*x509.CertPool, error) {
	if len(r.RouterCAs) > 0 {
		return pool(x509.NewCertPool(), "ROUTER_CA_FILES", nil, r.RouterCAs...)
	}
	system, err := x509.SystemCertPool()
	if err != nil || r.SystemCertPath == "" {
		return system, err
	}
	issuers := r.CallerCAs
	if len(issuers) == 0 {
		issuers = []identity.File{r.InstanceCert}
	}
	instances, err := identity.ReadCAs(issuers...)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(r.SystemCertPath, "*"))
	if err != nil {
		return nil, fmt.Errorf("CF_SYSTEM_CERT_PATH: %w", err)
	}
	var files []identity.File
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			files = append(files, identity.File(path))
		}
	}
	return pool(system, "CF_SYSTEM_CERT_PATH", instances, files...)
}

// extra: the system's and CA_FILES.
func (r roots) extra() (*x509.CertPool, error) {
	system, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	return pool(system, "CA_FILES", nil, r.ExtraCAs...)
}

// store: PostgreSQL's, in PEM; none: the URL's own rules.
func (r roots) store() (pem []byte, err error) {
	u, err := url.Parse(r.StoreURL)
	switch {
	case r.StoreCA != "":
		return []byte(r.StoreCA), nil
	case err != nil || u.Scheme == "sqlite" || u.Query().Get("sslmode") == "disable":
		return nil, nil // nobody to verify
	}
	for _, file := range r.ExtraCAs {
		text, err := file.Read()
		if err != nil {
			return nil, fmt.Errorf("CA_FILES: %w", err)
		}
		pem = append(append(pem, text...), '\n')
	}
	return pem, nil
}

// pool adds the files' CAs to a pool, but for those that are, or have signed, one
// of the instances'.
func pool(into *x509.CertPool, setting string, instances []*x509.Certificate, files ...identity.File) (*x509.CertPool, error) {
	cas, err := identity.ReadCAs(files...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	for _, ca := range cas {
		if !slices.ContainsFunc(instances, func(one *x509.Certificate) bool {
			return bytes.Equal(ca.Raw, one.Raw) || one.CheckSignatureFrom(ca) == nil
		}) {
			into.AddCert(ca)
		}
	}
	return into, nil
}
