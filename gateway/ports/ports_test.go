package ports_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mtls-authz/mtls-authz/gateway/ports"
)

func TestWhoElseReachesThePort(t *testing.T) {
	for told, want := range map[string]error{
		"":                                     ports.ErrUntold,
		"[]":                                   ports.ErrUntold,
		"{":                                    ports.ErrUntold,
		`[{"internal":2222,"external":61002}]`: ports.ErrUntold,
		`[{"internal":8080,"external_tls_proxy":61001,"internal_tls_proxy":61443},{"internal":2222,"external":61002}]`: nil,
		`[{"internal":8080,"external":0,"external_tls_proxy":61001}]`:                                                  nil,
		`[{"internal":8080,"external":61003,"external_tls_proxy":61001,"internal_tls_proxy":61443}]`:                   ports.ErrOpen,
		`[{"internal":8080,"external":61003}]`:                                                                         ports.ErrOpen,
		`[{"internal":8080}]`:                                                                                          ports.ErrOpen,
		`[{"internal":8080,"external_tls_proxy":61001},{"internal":8080,"external":61003,"external_tls_proxy":61004}]`: ports.ErrOpen,
	} {
		assert.ErrorIs(t, ports.Check(told, 8080), want, told)
	}
}
