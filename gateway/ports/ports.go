// Package ports tells whether anybody but gorouter can reach the gateway's port:
// who reaches it past the router can claim to be the router.
//
// It trusts CF_INSTANCE_PORTS, which Diego writes for each instance. What that does
// not tell is not known, and never fine.
package ports

import (
	"encoding/json"
	"errors"
	"fmt"
)

var (
	// ErrUntold: there is no CF_INSTANCE_PORTS, as outside Cloud Foundry, or it does
	// not name the port, as in a task.
	ErrUntold = errors.New("CF_INSTANCE_PORTS does not tell")
	// ErrOpen: the port can be reached past the proxy that admits gorouter alone, or
	// there is no such proxy.
	ErrOpen = errors.New("whoever reaches the cell can claim to be the router")
)

// Fix is what closes an open port.
const Fix = "in Diego's rep: containers.proxy.enabled: true, containers.proxy.require_and_verify_client_certificates: true and containers.proxy.enable_unproxied_port_mappings: false"

// mapping is one of CF_INSTANCE_PORTS: which port of the cell leads to one of the
// container.
type mapping struct {
	Internal         int  `json:"internal"`
	External         *int `json:"external"`
	ExternalTLSProxy *int `json:"external_tls_proxy"`
}

// Check is nil if the port is reached through the proxy with TLS alone, as far as
// Diego tells.
func Check(instancePorts string, port int) error {
	if instancePorts == "" {
		return fmt.Errorf("%w: it is not set: this is no app instance", ErrUntold)
	}
	var all []mapping
	if err := json.Unmarshal([]byte(instancePorts), &all); err != nil {
		return fmt.Errorf("%w: it is not the JSON that Diego writes", ErrUntold)
	}
	mapped := false
	for _, m := range all {
		switch {
		case m.Internal != port:
			continue
		case m.External != nil && *m.External != 0:
			return fmt.Errorf("%w: port %d of the cell leads to it past the proxy", ErrOpen, *m.External)
		case m.ExternalTLSProxy == nil || *m.ExternalTLSProxy == 0:
			return fmt.Errorf("%w: no proxy with TLS stands before it", ErrOpen)
		}
		mapped = true
	}
	if !mapped {
		return fmt.Errorf("%w: it does not name port %d: a task has no ports", ErrUntold, port)
	}
	return nil
}
