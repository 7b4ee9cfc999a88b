package edge

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// mapping is one of CF_INSTANCE_PORTS: which port of the cell leads to one of the
// container.
type mapping struct {
	Internal         int  `json:"internal"`
	External         *int `json:"external"`
	ExternalTLSProxy *int `json:"external_tls_proxy"`
}

// integrity looks whether anybody but gorouter can reach the gateway's port.
func (cfg Config) integrity(context.Context) []doctor.Finding {
	const look = `look at it with: cf ssh mtls-authz -c 'echo $CF_INSTANCE_PORTS'`
	const fix = "in Diego's rep: containers.proxy.enabled: true, containers.proxy.require_and_verify_client_certificates: true and containers.proxy.enable_unproxied_port_mappings: false"
	if cfg.Ports == "" {
		return []doctor.Finding{doctor.Unknown("", "CF_INSTANCE_PORTS is not set: this is no app instance", look)}
	}
	var all []mapping
	if err := json.Unmarshal([]byte(cfg.Ports), &all); err != nil {
		return []doctor.Finding{doctor.Unknown("", "CF_INSTANCE_PORTS is not the JSON that Diego writes", fix)}
	}
	about, mapped := fmt.Sprintf("port %d", cfg.Port), false
	for _, m := range all {
		switch {
		case m.Internal != cfg.Port:
			continue
		case m.External != nil && *m.External != 0:
			return []doctor.Finding{doctor.Bad(about, fmt.Sprintf("port %d of the cell leads to it past the proxy: whoever reaches the cell can claim to be the router", *m.External), fix)}
		case m.ExternalTLSProxy == nil || *m.ExternalTLSProxy == 0:
			return []doctor.Finding{doctor.Bad(about, "no proxy with TLS stands before it", fix)}
		}
		mapped = true
	}
	if !mapped {
		return []doctor.Finding{doctor.Unknown(about, "CF_INSTANCE_PORTS does not have it: a task has no ports", look)}
	}
	return []doctor.Finding{doctor.Good(about, "reached through the proxy with TLS alone; no network policy may lead to the app, and nobody may cf ssh into it")}
}
