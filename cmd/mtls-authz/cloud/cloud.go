// Package cloud is what the gateway asks Cloud Controller, built from its
// settings: what names stand for, with its own client of UAA, and what users may
// do, with their tokens. Without CF_API_URL it asks nothing; no part of the
// gateway waits for it to start.
package cloud

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/api/viewer"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/settings"
	"github.com/mtls-authz/mtls-authz/directory"
	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/grants/display"
	"github.com/mtls-authz/mtls-authz/store"
)

// Cloud is what is asked.
type Cloud struct {
	// Directory is nil without CF_CLIENT_ID, Viewers without CF_API_URL.
	Directory *directory.Directory
	Viewers   *viewer.Viewers
}

// Telling is whom it tells how it goes.
type Telling struct {
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// New builds what the settings ask for; roots verify Cloud Controller and UAA.
func New(s *settings.Settings, state *store.Store, roots func() (*x509.CertPool, error), to Telling) (*Cloud, error) {
	c := &Cloud{}
	if s.CFAPIURL == "" {
		return c, nil
	}
	pool, err := roots()
	if err != nil {
		return nil, err
	}
	client := controller.New(controller.Config{URL: s.CFAPIURL, Roots: pool})
	c.Viewers = viewer.New(viewer.Config{Asker: client})
	if s.CFClientID != "" {
		c.Directory = directory.New(directory.Config{
			Lister: client.Session(s.CFClientID, s.CFClientSecret), Resolutions: state.Names(), References: state.View().References,
			Grace: s.NameGrace, Interval: s.NameInterval, Log: to.Log, Metrics: to.Metrics,
		})
	}
	return c, nil
}

// Names reports whether names are looked up.
func (c *Cloud) Names() bool { return c.Directory != nil }

// Labels finds what people call apps, spaces and orgs; nil without CF_CLIENT_ID.
func (c *Cloud) Labels() display.Labels {
	if c.Directory == nil {
		return nil
	}
	return c.Directory.Label
}

// Permits tells what users may do, by their tokens; nil without CF_API_URL.
func (c *Cloud) Permits() func(context.Context, *http.Request, string) (viewer.May, error) {
	if c.Viewers == nil {
		return nil
	}
	return c.Viewers.Permits
}

// Run looks names up until its context ends.
func (c *Cloud) Run(ctx context.Context) {
	if c.Directory != nil {
		c.Directory.Run(ctx)
	}
}
