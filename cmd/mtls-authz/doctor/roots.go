package doctor

import (
	"crypto/x509"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/authorities"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
)

// roots are the authorities of servers, as serve believes them, or why they cannot
// be read.
type roots struct {
	read *authorities.Authorities
	err  error
}

func readRoots(s *settings.Settings) roots {
	read, err := authorities.New(authorities.Config{Settings: s, Log: quiet(), Metrics: prometheus.NewRegistry()})
	return roots{read, err}
}

func (r roots) router() (*x509.CertPool, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.read.RouterRoots()
}

func (r roots) extra() (*x509.CertPool, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.read.ExtraRoots()
}

func (r roots) store() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	return r.read.StoreCA()
}
