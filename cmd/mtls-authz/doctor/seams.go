package doctor

import (
	"context"
	"crypto/x509"

	"github.com/mtls-authz/mtls-authz/doctor/bound"
)

// siblings reads the caller CAs that other instances have found; nil: this release
// does not share them.
func (p *patient) siblings() func(context.Context) ([]*x509.Certificate, error) { return nil }

// seen counts requests with and without a client certificate; nil: this release
// does not record them.
func (p *patient) seen() func(context.Context, []string) (map[string]bound.Seen, error) { return nil }

// cloud is Cloud Controller; nil: this release has no client of its.
func (p *patient) cloud() bound.CloudController { return nil }
