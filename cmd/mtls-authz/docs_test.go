package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/refusal"
)

// Whoever reads a reason in an answer or a log finds it in the guide.
func TestEveryReasonIsInTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/requests.md")
	require.NoError(t, err)
	for _, reason := range append(refusal.Reasons(), "internal_error", "no_matching_grant", "policy_denied") {
		assert.Regexp(t, "(?m)(^\\| [0-9, ]+ \\|.*| 499 )`"+reason+"`", string(guide))
	}
}
