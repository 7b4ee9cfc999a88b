package router

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/mtls-authz/mtls-authz/playground/router/relay"
	"github.com/mtls-authz/mtls-authz/playground/router/routes"
	"github.com/mtls-authz/mtls-authz/playground/router/signature"
)

// visit is what the router has found out about one request.
type visit struct {
	route    *routes.Route // where Host and path lead
	signed   bool          // carries a valid signature: leg 2 or 3, or a forgery with one
	returned bool          // is leg 3
	service  *url.URL      // is leg 1, and goes there; nil: goes to the backends
}

// walk takes one request through the router. Which leg it is follows from the
// route's binding and from the signature.
func (r *Router) walk(w http.ResponseWriter, req *http.Request) {
	host := hostname(req.Host)
	if r.config.Firewall != nil && r.config.Firewall(req) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if r.misdirected(host, req.TLS.ServerName) {
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	var v visit
	var refused *refusal
	if v.route, refused = r.find(req, host); refused == nil {
		refused = r.judge(req, &v)
	}
	if refused != nil {
		refused.write(w)
		return
	}
	r.setClientCert(req, host, v)
	r.setProto(req, v)
	r.prepareLeg(req, host, v)
	(&relay.Relay{
		Destinations: r.destinations(v),
		Fail:         failed,
		FullDuplex:   r.config.FullDuplex,
		ErrorLog:     r.config.ErrorLog,
	}).ServeHTTP(w, req)
}

// misdirected tells whether a domain that requires certificates is addressed
// by a connection that was opened for another domain, or the reverse.
func (r *Router) misdirected(host, serverName string) bool {
	asked, opened := r.config.domain(host), r.config.domain(serverName)
	return asked != opened && (asked.RequireCertificate || opened.RequireCertificate)
}

// find looks the route up, or the one app instance that the request names.
func (r *Router) find(req *http.Request, host string) (*routes.Route, *refusal) {
	if remote, _, _ := net.SplitHostPort(req.RemoteAddr); host == "" || host == remote {
		return nil, emptyHost
	}
	found := r.routes.Lookup(host + req.URL.EscapedPath())
	wanted := req.Header.Get("X-Cf-App-Instance")
	if wanted == "" {
		if found == nil {
			return nil, unknownRoute(req.Host)
		}
		return found, nil
	}
	app, index, ok := routes.ParseInstance(wanted)
	if !ok {
		return nil, invalidAppInstance
	}
	if found != nil {
		found = found.Only(app, index)
	}
	if found == nil {
		return nil, unknownInstance(req.Host, app, index)
	}
	return found, nil
}

// judge reads the signature, if there is one. On a bound route it must be
// valid for that route; on others nobody looks, unless strict.
func (r *Router) judge(req *http.Request, v *visit) *refusal {
	present := len(req.Header.Values(signature.Header)) > 0
	signed, err := "", errors.New("no signature")
	if present {
		signed, err = r.sealer.Open(req.Header)
	}
	v.signed = err == nil && req.Header.Get(signature.ForwardedURLHeader) != ""
	switch {
	case v.route.Service == nil:
		if present && err != nil && r.config.StrictSignatureValidation {
			return strictRefusal(err)
		}
		return nil
	case req.Header.Get(signature.Header) == "":
		v.service = v.route.Service
		return nil
	}
	if err == nil {
		err = r.samePool(signed, v.route)
	}
	if err != nil {
		return badSignature(err)
	}
	v.returned = true
	return nil
}

// samePool compares where the signed URL leads now with where the request
// leads now: not paths, and not what led there at the time of signing.
func (r *Router) samePool(signed string, requested *routes.Route) error {
	target, err := url.ParseRequestURI(signed)
	if err != nil {
		return errors.New("the signed URL cannot be parsed")
	}
	pool := r.routes.Lookup(hostname(target.Host) + target.EscapedPath())
	if pool == nil {
		return errors.New("the signed URL leads to no route")
	}
	if !pool.Same(requested) {
		return fmt.Errorf("signed for route %s%s, sent to %s%s", pool.Host, pool.Path, requested.Host, requested.Path)
	}
	return nil
}

// setProto sanitizes X-Forwarded-Proto, but trusts whoever has a signature.
func (r *Router) setProto(req *http.Request, v visit) {
	if v.signed {
		return
	}
	if r.config.SanitizeForwardedProto || req.Header.Get("X-Forwarded-Proto") == "" {
		req.Header.Set("X-Forwarded-Proto", "https")
	}
}

// prepareLeg adds the protocol's headers for leg 2 and takes them off leg 3.
// Requests to unbound routes keep whatever the client sent.
func (r *Router) prepareLeg(req *http.Request, host string, v visit) {
	switch {
	case v.service != nil:
		// RequestURI is raw: an absolute-form request line gives the doubled
		// https://hosthttp://host/path that gorouter sends, too.
		for name, values := range r.sealer.Seal("https://" + host + req.RequestURI) {
			req.Header[name] = values
		}
	case v.returned:
		req.Header.Del(signature.Header)
		req.Header.Del(signature.MetadataHeader)
		req.Header.Del(signature.ForwardedURLHeader)
	}
}

// hostname is a Host header without its port.
func hostname(host string) string {
	host, _, _ = strings.Cut(host, ":")
	return host
}
