package edge

import (
	"context"
	"errors"
	"fmt"

	"github.com/mtls-authz/mtls-authz/doctor"
	"github.com/mtls-authz/mtls-authz/gateway/ports"
)

// integrity looks whether anybody but gorouter can reach the gateway's port. A task
// has no ports: there each instance's own word is at /readyz.
func (cfg Config) integrity(context.Context) []doctor.Finding {
	about := fmt.Sprintf("port %d", cfg.Port)
	err := ports.Check(cfg.Ports, cfg.Port)
	switch {
	case err == nil:
		return []doctor.Finding{doctor.Good(about, "reached through the proxy with TLS alone; no network policy may lead to the app, and nobody may cf ssh into it")}
	case errors.Is(err, ports.ErrOpen):
		return []doctor.Finding{doctor.Bad(about, err.Error(), ports.Fix)}
	}
	return []doctor.Finding{doctor.Unknown("", err.Error(), "each instance says it of itself: route_integrity of GET /readyz with credentials, curl -u NAME https://"+cfg.GatewayHost+"/readyz")}
}
