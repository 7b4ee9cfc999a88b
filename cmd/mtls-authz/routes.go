package main

import (
	"net"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mtls-authz/mtls-authz/broker"
	"github.com/mtls-authz/mtls-authz/callerassertion"
	"github.com/mtls-authz/mtls-authz/cmd/mtls-authz/readiness"
	"github.com/mtls-authz/mtls-authz/gateway/selftest"
)

// dataPlane is where the protected routes' requests arrive.
const dataPlane = "/r/"

// routes is the one table of what answers where.
func (g *server) routes() http.Handler {
	e := echo.New()
	// Not echo.WrapHandler: echo's response takes an interim answer (100, 103) for
	// the final one.
	plane := g.followed()
	walk := func(c echo.Context) error {
		plane.ServeHTTP(c.Response().Writer, c.Request())
		return nil
	}
	e.Any(dataPlane+"*", walk)
	e.RouteNotFound(dataPlane+"*", walk) // methods that echo does not know

	e.Any("/v2/*", echo.WrapHandler(g.broker), g.onBrokerHost)
	e.RouteNotFound("/v2/*", echo.WrapHandler(g.broker), g.onBrokerHost)
	for _, path := range []string{"/v1", "/v1/*"} {
		e.Any(path, echo.WrapHandler(g.api), g.onBrokerHost)
		e.RouteNotFound(path, echo.WrapHandler(g.api), g.onBrokerHost)
	}
	ready := g.readiness()
	e.Match([]string{http.MethodGet, http.MethodHead}, "/healthz", echo.WrapHandler(http.HandlerFunc(ready.Health)))
	e.Any(callerassertion.KeysPath, echo.WrapHandler(g.signer))
	e.GET("/readyz", echo.WrapHandler(http.HandlerFunc(ready.Report)))
	g.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(g.registry, promhttp.HandlerOpts{})), g.onBrokerHost, g.readersOnly)
	if g.selftest != nil {
		e.GET(selftest.Path, echo.WrapHandler(g.selftest))
	}
	return e
}

// onBrokerHost hides the broker's side from other hosts if BROKER_HOST is set.
func (g *server) onBrokerHost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		host := c.Request().Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if g.BrokerHost != "" && !strings.EqualFold(host, g.BrokerHost) {
			return echo.ErrNotFound
		}
		return next(c)
	}
}

// mayRead reports whether a request has the reader's or the broker's
// credentials.
func (g *server) mayRead(r *http.Request) bool {
	readers := broker.Credentials{Username: g.ReadUsername, Password: g.ReadPassword}
	asReader, asBroker := readers.Accept(r), g.mayChange(r)
	return asReader || asBroker
}

// mayChange reports whether a request has the broker's credentials.
func (g *server) mayChange(r *http.Request) bool { return g.brokerCredentials().Accept(r) }

func (g *server) brokerCredentials() broker.Credentials {
	return broker.Credentials{Username: g.BrokerUsername, Password: g.BrokerPassword, Previous: g.BrokerPrevious}
}

func (g *server) readersOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !g.mayRead(c.Request()) {
			c.Response().Header().Set("WWW-Authenticate", `Basic realm="mtls-authz"`)
			return c.JSON(http.StatusUnauthorized, map[string]string{"description": "wrong or missing credentials"})
		}
		return next(c)
	}
}

func (g *server) readiness() *readiness.Readiness {
	cfg := readiness.Config{LastContact: g.store.View().LastContact, Policy: g.policy, InstancePorts: g.InstancePorts, Port: g.Port, MayRead: g.mayRead}
	if g.selftest != nil {
		cfg.Routers = g.selftest.Findings
	}
	if g.shared != nil {
		cfg.Redis = g.shared.Reason
	}
	return readiness.New(cfg)
}
