package gateway

import (
	"errors"

	"github.com/mtls-authz/mtls-authz/gateway/request"
	"github.com/mtls-authz/mtls-authz/gateway/target"
)

func (x *exchange) parseTarget() error {
	forwarded, err := request.ForwardedURL(x.r.Header)
	if err != nil {
		return err
	}
	x.target, err = target.ParseWithin(x.g.MaxURIBytes, forwarded)
	x.line.Host, x.line.Path = x.target.Host, x.target.RawPath
	if err != nil && x.target.Host != "" { // else the URL is none, and could hold a password
		x.line.Path = target.RefusedPath(forwarded)
	}
	return err
}

// checkRequest refuses what could reach the app as something else than what is
// decided on. It stands in report mode too.
func (x *exchange) checkRequest() error {
	reads := x.policy.Reads()
	if err := errors.Join(request.CheckMethod(x.r.Method), request.CheckUpgrade(x.r.Header), request.CheckExpect(x.r.Header)); err != nil {
		return err
	}
	if pathDecides := x.live.HasPaths || x.access.Route.Path != "" || reads.Path; pathDecides {
		if err := x.target.Unambiguous(); err != nil {
			return err
		}
	}
	if x.live.HasPaths || x.live.HasMethods || reads.Path || reads.Method {
		return request.CheckOverrides(x.r.Header)
	}
	return nil
}
