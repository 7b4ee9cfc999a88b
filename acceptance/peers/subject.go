package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/load"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/process"
	"github.com/mtls-authz/mtls-authz/acceptance/peers/rival"
	"github.com/mtls-authz/mtls-authz/playground"
)

// subject is one way of getting requests to the app.
type subject struct {
	name string
	// url of the route.
	url string
	// pids are the processes under test; none: the router goes to the app at once.
	pids       []int
	foundation *playground.Foundation
	clients    []*http.Client
	callers    []load.Caller
}

// The subjects that others are compared with.
const (
	directName      = "no route service"
	bareName        = "a route service that does nothing"
	verifyingName   = "nginx + OPA"
	rememberingName = "nginx + OPA, answers remembered"
	believingName   = "nginx + OPA, certificate not verified"
)

// toldHeader names the caller to the OPA that does not look at the certificate.
const toldHeader = "X-Told-Caller"

// addPeers starts what is no gateway.
func (w *world) addPeers(ctx context.Context) error {
	f := w.foundations[0]
	if err := w.add(subject{name: directName, url: "direct." + playground.Domain, foundation: f}, ""); err != nil {
		return err
	}
	address, err := process.FreeAddress()
	if err != nil {
		return err
	}
	binary := filepath.Join(w.dir, "bare")
	if err := process.Build(ctx, binary, "github.com/mtls-authz/mtls-authz/acceptance/peers/bare"); err != nil {
		return fmt.Errorf("build the bare proxy: %w", err)
	}
	if w.bare, err = process.Start(binary, "-listen", address, "-router", f.Router.Addr(), "-roots", f.RouterCAFile()); err != nil {
		return err
	}
	if err := w.bare.Listens(ctx, address); err != nil {
		return err
	}
	if err := w.add(subject{name: bareName, url: "bare." + playground.Domain, foundation: f, pids: []int{w.bare.PID()}}, address); err != nil {
		return err
	}
	return w.addRival(ctx, f)
}

func (w *world) addRival(ctx context.Context, f *playground.Foundation) (err error) {
	dir := filepath.Join(w.dir, "rival")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	owner := playground.Backend.Identity()
	w.rival, err = rival.Start(ctx, rival.Config{
		Nginx: w.nginx, OPA: w.opa, Dir: dir, Router: f.Router.Addr(), RouterCAFile: f.RouterCAFile(), CA: f.IdentityCA.PEM(),
		Route:  map[string]any{"host": "backend." + playground.Domain, "path": "", "binding": "", "labels": map[string]string{}},
		Owner:  map[string]string{"service_instance": "", "space": owner.Space, "org": owner.Org, "scope": "org"},
		Grants: map[string]any{"any": []any{}, "spaces": map[string]any{}, "orgs": map[string]any{}, "apps": appGrants()},
	})
	if err != nil {
		return err
	}
	for _, server := range []struct{ name, host, address string }{
		{verifyingName, "verifying", w.rival.Verifying}, {rememberingName, "remembering", w.rival.Remembering}, {believingName, "believing", w.rival.Believing},
	} {
		one := subject{name: server.name, url: server.host + "." + playground.Domain, foundation: f, pids: w.rival.PIDs()}
		if err := w.add(one, server.address); err != nil {
			return err
		}
	}
	return nil
}

// addGateway protects a route by a gateway, as a developer does.
func (w *world) addGateway(ctx context.Context, i int) error {
	f := w.foundations[i]
	text, err := os.ReadFile(pidFile(f.Dir))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("process id of the gateway: %w", err)
	}
	service, err := f.CreateService(ctx, "my-authz", "org", playground.Backend, allowList())
	if err != nil {
		return err
	}
	s := subject{name: gateways[i].name, url: "protected." + playground.Domain, foundation: f, pids: []int{pid}}
	if err := w.add(s, ""); err != nil {
		return err
	}
	_, _, err = f.BindRoute(ctx, service, s.url, "")
	return err
}

// add maps the subject's route to the app and, if it has a route service at an
// address, that to a route of its own and to the route.
func (w *world) add(s subject, service string) error {
	if err := s.foundation.Router.Register(s.url, w.appURL); err != nil {
		return err
	}
	if service != "" {
		host := "service-of-" + s.url
		if err := s.foundation.Router.Register(host, "http://"+service); err != nil {
			return err
		}
		if err := s.foundation.Router.Bind(s.url, "https://"+host); err != nil {
			return err
		}
	}
	s.url = "https://" + s.url
	frontend, err := s.foundation.Credential(playground.Frontend)
	if err != nil {
		return err
	}
	told := told(playground.Frontend)
	for i := range w.callers { // a connection each
		client := s.foundation.Client(frontend)
		s.clients = append(s.clients, client)
		s.callers = append(s.callers, caller(client, s.url, told, i))
	}
	w.subjects = append(w.subjects, s)
	return nil
}

func (s subject) close() {
	for _, client := range s.clients {
		client.CloseIdleConnections()
	}
}

// paths is how many different ones are asked for.
const paths = 100

// caller asks for one path after the other. The same requests go to all subjects.
func caller(client *http.Client, url, told string, first int) load.Caller {
	next := first
	return func(ctx context.Context) error {
		next++
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/orders/%d?expand=items", url, next%paths), nil)
		if err != nil {
			return err
		}
		request.Header.Set(toldHeader, told)
		res, err := client.Do(request)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return err
		}
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: status %d, expected 200", request.URL, res.StatusCode)
		}
		return nil
	}
}

// told is what a component that had verified the caller would say of it.
func told(app playground.App) string {
	id := app.Identity()
	return id.App + "/" + id.Space + "/" + id.Org
}

// grant is a grant's conditions, as in the policy's input and in parameters.
type grant struct {
	Source  string   `json:"source,omitempty"`
	Methods []string `json:"methods,omitempty"`
	Paths   []string `json:"paths,omitempty"`
}

// appGrants are ten grants by app: the caller's has conditions.
func appGrants() map[string][]grant {
	all := map[string][]grant{playground.Frontend.Identity().App: {{Methods: []string{"GET", "HEAD"}, Paths: []string{"/api/**"}}}}
	for i := range 9 {
		all[playground.GUID("app "+strconv.Itoa(i))] = []grant{{}}
	}
	return all
}

// allowList is the same as parameters of a service instance.
func allowList() string {
	var list []grant
	for app, grants := range appGrants() {
		for _, g := range grants {
			g.Source = "cf:app:" + app
			list = append(list, g)
		}
	}
	text, _ := json.Marshal(map[string]any{"allow": list}) // texts only
	return string(text)
}
