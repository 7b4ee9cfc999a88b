package database

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// openPostgres returns errors of its own only: the driver's repeat the URL, and
// with it the password.
func openPostgres(cfg Config) (*Database, error) {
	refused := errors.New(`store URL "postgres://...": expected postgres://user:password@host:port/name, with at most the parameters that PostgreSQL's libpq knows`)
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Path == "" || u.Path == "/" {
		return nil, refused
	}
	var roots *x509.CertPool
	if len(cfg.CA) > 0 {
		if roots, err = verified(u, cfg.CA); err != nil {
			return nil, err
		}
	}
	parsed, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, refused
	}
	if !u.Query().Has("connect_timeout") {
		parsed.ConnectTimeout = cfg.Timeout
	}
	configs := []*tls.Config{parsed.TLSConfig}
	for _, fallback := range parsed.Fallbacks {
		configs = append(configs, fallback.TLSConfig)
	}
	for _, config := range configs {
		if roots != nil && config != nil {
			config.RootCAs = roots
		}
	}
	name := fmt.Sprintf("postgres://%s/%s", net.JoinHostPort(parsed.Host, strconv.Itoa(int(parsed.Port))), parsed.Database)
	return &Database{DB: stdlib.OpenDB(*parsed), name: name, postgres: parsed}, nil
}

// verified makes u's sslmode one that verifies the certificate, and returns the
// authorities.
func verified(u *url.URL, ca []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("ca of the store: expected certificates in PEM")
	}
	query := u.Query()
	switch query.Get("sslmode") {
	case "disable":
		return nil, errors.New(`store URL "postgres://...": sslmode=disable contradicts the ca that came with it; leave one of them out`)
	case "verify-ca", "require": // as libpq takes the latter when it has a ca
		query.Set("sslmode", "verify-ca")
	default:
		query.Set("sslmode", "verify-full")
	}
	u.RawQuery = query.Encode()
	return roots, nil
}
