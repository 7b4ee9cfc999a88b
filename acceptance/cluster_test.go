package acceptance_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/playground"
)

// cluster is one or more gateways on one database.
type cluster struct {
	*site
	host    string // of GATEWAY_URL
	dir     string
	env     []string
	secrets []string
	hosts   atomic.Int64

	mu      sync.Mutex
	servers []*server
}

var clusters atomic.Int64

// newCluster starts so many gateways on a database, with settings of its own.
func newCluster(dir, storeURL string, gateways int, env ...string) (*cluster, error) {
	site, err := theSite()
	if err != nil {
		return nil, err
	}
	c := &cluster{site: site, dir: dir, host: fmt.Sprintf("gateway%d.%s", clusters.Add(1), playground.Domain)}
	c.secrets = []string{password, databasePassword}
	for _, xfcc := range site.xfcc {
		c.secrets = append(c.secrets, xfcc)
	}
	c.env = append([]string{
		"GATEWAY_URL=https://" + c.host, "BROKER_USERNAME=broker", "BROKER_PASSWORD=" + password, "STORE_URL=" + storeURL, "POLICY_TIMEOUT=10s",
		"CALLER_CA_FILES=" + site.file("callers.pem"), "ROUTER_CA_FILES=" + site.file("routers.pem"), "ROUTER_TRUST=assume", "ROUTER_ADDRESS=" + site.router.Addr(),
	}, env...)
	c.servers = make([]*server, gateways)
	// All at once, as the platform starts them.
	problems := make([]error, gateways)
	var starting sync.WaitGroup
	for i := range gateways {
		starting.Go(func() { problems[i] = c.start(i) })
	}
	starting.Wait()
	return c, errors.Join(problems...)
}

// start starts the gateway i.
func (c *cluster) start(i int) error {
	started, err := launch(c.dir, c.env)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[i] = started
	started.addSecrets(c.secrets...)
	return c.router.Register(c.host, started.url)
}

// kill ends the gateway i by SIGKILL.
func (c *cluster) kill(i int) error {
	s := c.server(i)
	s.kill()
	return errors.Join(s.faults(), c.router.Deregister(c.host, s.url))
}

// stop ends the gateway i by SIGTERM.
func (c *cluster) stop(i int) error {
	s := c.server(i)
	return errors.Join(c.router.Deregister(c.host, s.url), s.stop())
}

func (c *cluster) server(i int) *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[i]
}

func (c *cluster) close() error {
	var problems []error
	for i := range c.servers {
		if s := c.server(i); s != nil && !s.killed {
			problems = append(problems, c.stop(i))
		}
	}
	return errors.Join(problems...)
}

// complaints are the errors that the gateways have logged, the last ones.
func (c *cluster) complaints() string {
	var found []string
	for i := range c.servers {
		s := c.server(i)
		s.mu.Lock()
		for _, line := range s.lines {
			if strings.Contains(line, `"level":"ERROR"`) {
				found = append(found, line)
			}
		}
		s.mu.Unlock()
	}
	return strings.Join(found[max(0, len(found)-5):], "\n")
}

// addSecret is a token, which no gateway may write.
func (c *cluster) addSecret(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, token)
	for _, s := range c.servers {
		s.addSecrets(token)
	}
}

// reach is what becomes of an app's request to a route, sent to the gateway i as
// the router sends it: "200 allowed", or the status and the reason.
func (c *cluster) reach(ctx context.Context, i int, caller, route, routeServiceURL string) (string, error) {
	return outcomeOf(c.send(ctx, i, caller, route+"/", routeServiceURL))
}

// send is a GET of host and path, sent to the gateway i as the router sends it.
func (c *cluster) send(ctx context.Context, i int, caller, target, routeServiceURL string) (playground.Reply, error) {
	return c.sendAs(ctx, i, c.xfcc[caller], target, routeServiceURL)
}

// sendAs is send with another certificate.
func (c *cluster) sendAs(ctx context.Context, i int, xfcc, target, routeServiceURL string) (playground.Reply, error) {
	own, err := url.Parse(routeServiceURL)
	if err != nil {
		return playground.Reply{}, err
	}
	header, err := sign("https://"+target, time.Now())
	if err != nil {
		return playground.Reply{}, err
	}
	header.Set(xfccHeader, xfcc)
	s := c.server(i)
	client := &http.Client{Transport: s.transport, Timeout: patience}
	return playground.Call(ctx, client, http.MethodGet, s.url+own.EscapedPath(), header)
}

// outcomeOf is an answer in a few words.
func outcomeOf(r playground.Reply, err error) (string, error) {
	if err == nil && r.Status == http.StatusOK && r.Body == "from the app" && r.Header.Get(decisionHeader) != "" {
		return "200 allowed", nil
	}
	return strings.TrimSpace(fmt.Sprint(r.Status, " ", r.Reason)), err
}

// databases are where the state may be.
var databases = map[string]*lazyCluster{
	"SQLite": {gateways: 1, storeURL: newSQLite}, "PostgreSQL": {gateways: 2, storeURL: newDatabase},
}

// newSQLite returns the URL of a new file.
func newSQLite(dir string) (string, error) { return "sqlite://" + filepath.Join(dir, "state.db"), nil }

// newDatabase returns the URL of an empty database of the shared server.
func newDatabase(string) (string, error) {
	p, err := sharedPostgres()
	if err != nil {
		return "", err
	}
	name, err := p.newDatabase()
	return p.url(name), err
}

// lazyCluster is shared by all tests that do not harm it.
type lazyCluster struct {
	gateways int
	storeURL func(dir string) (string, error)

	once    sync.Once
	cluster *cluster
	err     error
}

func (l *lazyCluster) get(t *testing.T) *cluster {
	t.Helper()
	l.once.Do(func() { l.cluster, l.err = l.share() })
	require.NoError(t, l.err)
	return l.cluster
}

// share makes a directory that outlives the test that asked first.
func (l *lazyCluster) share() (*cluster, error) {
	dir, err := os.MkdirTemp("", "mtls-authz-acceptance-")
	if err != nil {
		return nil, err
	}
	c, err := l.start(dir)
	if c != nil {
		atEnd.add(func() error { return errors.Join(c.close(), os.RemoveAll(dir)) })
	}
	return c, err
}

func (l *lazyCluster) start(dir string) (*cluster, error) {
	storeURL, err := l.storeURL(dir)
	if err != nil {
		return nil, err
	}
	return newCluster(dir, storeURL, l.gateways)
}

// own is a cluster that a test may harm.
func (l *lazyCluster) own(t *testing.T) *cluster {
	t.Helper()
	c, err := l.start(t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.close()) })
	return c
}
