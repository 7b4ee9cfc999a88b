package acceptance_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// gorouter is a real router as a [playground.Router], with a NATS server of its
// own, both on loopback.
type gorouter struct {
	ports     gorouterPorts
	nats      *nats
	processes []*exec.Cmd // gorouter last

	mu       sync.Mutex
	backends map[string]string // route -> host:port
	services map[string]string // route -> route service URL
}

// startGorouter tries again if somebody took a port that was free a moment ago.
func startGorouter(dir string, cfg gorouterConfig) (g *gorouter, err error) {
	for range 3 {
		if g, err = tryGorouter(dir, cfg); err == nil {
			return g, nil
		}
	}
	return nil, err
}

// tryGorouter starts NATS first: gorouter gives up quickly without it.
func tryGorouter(dir string, cfg gorouterConfig) (_ *gorouter, err error) {
	g := &gorouter{backends: map[string]string{}, services: map[string]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if err := g.choosePorts(cfg.port); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "gorouter.yml")
	if err := g.writeConfig(config, dir, cfg); err != nil {
		return nil, err
	}
	if err := g.run(dir, "nats-server", "-a", "127.0.0.1", "-p", strconv.Itoa(g.ports.NATS)); err != nil {
		return nil, err
	}
	if err := until("nats-server", func() (err error) { g.nats, err = dialNATS(g.ports.NATS); return err }); err != nil {
		return nil, err
	}
	if err := g.run(dir, gorouterBin, "-c", config); err != nil {
		return nil, err
	}
	return g, until("gorouter", func() error {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", g.ports.Status))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("health: status %d; see %s", res.StatusCode, dir)
		}
		return nil
	})
}

// run starts a process whose output goes to a file beside the configuration.
func (g *gorouter) run(dir, name string, args ...string) error {
	out, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the child has its own
	command := exec.Command(name, args...)
	command.Stdout, command.Stderr, command.SysProcAttr = out, out, endWithParent()
	if err := command.Start(); err != nil {
		return err
	}
	g.processes = append(g.processes, command)
	return nil
}

// Addr implements playground.Router.
func (g *gorouter) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(g.ports.TLS)) }

// Register implements playground.Router.
func (g *gorouter) Register(route, backend string) error {
	target, err := url.Parse(backend)
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.backends[route] = target.Host
	g.mu.Unlock()
	return g.publish("router.register", route)
}

// Bind implements playground.Router: registering again with another route
// service URL binds.
func (g *gorouter) Bind(route, routeServiceURL string) error {
	g.mu.Lock()
	g.services[route] = routeServiceURL
	g.mu.Unlock()
	return g.publish("router.register", route)
}

// Unbind implements playground.Router.
func (g *gorouter) Unbind(route string) error { return g.Bind(route, "") }

// Deregister takes the backend off, as Diego does when an instance stops.
func (g *gorouter) Deregister(route, _ string) error { return g.publish("router.unregister", route) }

// Sign implements playground.Router.
func (g *gorouter) Sign(forwardedURL string) http.Header {
	header, err := sign(forwardedURL, time.Now())
	if err != nil {
		panic(err) // a fixed key and strings: it cannot fail
	}
	return header
}

// publish sends a registration and waits until gorouter shows it.
func (g *gorouter) publish(subject, route string) error {
	g.mu.Lock()
	backend, service := g.backends[route], g.services[route]
	g.mu.Unlock()
	host, port, err := net.SplitHostPort(backend)
	if err != nil {
		return fmt.Errorf("route %q has no backend: %w", route, err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	message, err := json.Marshal(map[string]any{"uris": []string{route}, "host": host, "port": number, "route_service_url": service})
	if err != nil {
		return err
	}
	if err := g.nats.publish(subject, message); err != nil {
		return err
	}
	registered := subject == "router.register"
	return until(subject+" "+route, func() error { return g.shows(route, backend, service, registered) })
}

func (g *gorouter) shows(route, backend, service string, registered bool) error {
	res, err := http.Get(fmt.Sprintf("http://status:status@127.0.0.1:%d/routes", g.ports.Routes))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var table map[string][]struct {
		Address string `json:"address"`
		Service string `json:"route_service_url"`
	}
	if err := json.NewDecoder(res.Body).Decode(&table); err != nil {
		return err
	}
	for _, entry := range table[strings.ToLower(route)] {
		if entry.Address == backend {
			if registered && entry.Service == service {
				return nil
			}
			return errors.New("the route is there as it was")
		}
	}
	if registered {
		return errors.New("the route is not there")
	}
	return nil
}

// Close implements playground.Router.
func (g *gorouter) Close() error {
	if g.nats != nil {
		g.nats.Close()
	}
	for i := len(g.processes) - 1; i >= 0; i-- {
		_ = g.processes[i].Process.Signal(syscall.SIGTERM)
		_ = g.processes[i].Wait() // exit codes of other people's programs
	}
	return nil
}
