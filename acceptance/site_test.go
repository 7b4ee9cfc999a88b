package acceptance_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"

	"github.com/mtls-authz/mtls-authz/playground"
	"github.com/mtls-authz/mtls-authz/playground/ca"
	"github.com/mtls-authz/mtls-authz/playground/router"
)

// site is what all clusters have in common: a router, callers, and an app that
// answers at every host of the domain.
type site struct {
	router  *router.Router
	app     *httptest.Server
	root    *ca.Authority // of the callers
	routers *ca.Authority // of the router
	xfcc    map[string]string
	clients map[string]*http.Client
	dir     string
}

var theSite = sync.OnceValues(newSite)

func newSite() (s *site, err error) {
	s = &site{xfcc: map[string]string{}, clients: map[string]*http.Client{}}
	s.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("from the app")) }))
	if s.dir, err = os.MkdirTemp("", "mtls-authz-acceptance-"); err != nil {
		return s, err
	}
	atEnd.add(s.close)
	if s.root, err = ca.NewRoot("instanceIdentityCA"); err != nil {
		return s, err
	}
	if s.routers, err = ca.NewRoot("routerCA"); err != nil {
		return s, err
	}
	certificate, err := s.routers.Server(playground.Domain, "*."+playground.Domain)
	if err != nil {
		return s, err
	}
	made, err := playground.NewRouter(playground.Trust{Certificate: certificate, ClientCAs: s.root}, router.Config{Secret: secret})
	if err != nil {
		return s, err
	}
	s.router = made.(*router.Router)
	return s, errors.Join(s.router.Register("*."+playground.Domain, s.app.URL), s.router.Register(playground.Domain, s.app.URL), s.mint(),
		os.WriteFile(s.file("callers.pem"), s.root.PEM(), 0o600), os.WriteFile(s.file("routers.pem"), s.routers.PEM(), 0o600))
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func (s *site) mint() error {
	foundation := playground.Foundation{RouterCA: s.routers, Router: s.router}
	for _, app := range []playground.App{playground.Frontend, playground.Monitoring} {
		credential, err := s.root.Instance(app.Identity())
		if err != nil {
			return err
		}
		s.xfcc[app.Name], s.clients[app.Name] = credential.XFCC(), foundation.Client(credential)
	}
	return nil
}

func (s *site) close() error {
	for _, client := range s.clients {
		client.CloseIdleConnections()
	}
	var err error
	if s.router != nil {
		err = s.router.Close()
	}
	s.app.Close()
	return errors.Join(err, os.RemoveAll(s.dir))
}
