package line_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/gateway/line"
)

// Of two decision ids, the first is among a thousandth, the second is not.
const chosen, other = "00000000-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "ffffffff-aaaa-4aaa-8aaa-aaaaaaaaaaaa"

// written is what a line is in the log, nil if it is not there, and the label
// "reason" that it is counted under.
func written(t *testing.T, sample float64, l line.Line, status int) (fields map[string]any, reason string) {
	t.Helper()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	w := line.NewWriter(line.Config{Log: slog.New(slog.NewJSONHandler(&log, nil)), Metrics: registry, InFlight: func() int64 { return 0 }, AllowedSample: sample})
	w.Write(t.Context(), &l, status, time.Millisecond)
	if log.Len() > 0 {
		require.NoError(t, json.Unmarshal(log.Bytes(), &fields))
	}
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "mtls_authz_decisions_total" {
			continue
		}
		require.Len(t, family.GetMetric(), 1, "counted once, written or not")
		for _, label := range family.GetMetric()[0].GetLabel() {
			if label.GetName() == "reason" {
				reason = label.GetValue()
			}
		}
	}
	return fields, reason
}

// A line that somebody may miss is always written, whatever the sample.
func TestOnlyWhatWentWellIsSampled(t *testing.T) {
	for name, c := range map[string]struct {
		line    line.Line
		status  int
		sampled bool
	}{
		"allowed":                         {line.Line{Auth: "allowed"}, 200, true},
		"allowed, refused by the app":     {line.Line{Auth: "allowed"}, 404, true},
		"allowed, an error of the app":    {line.Line{Auth: "allowed"}, 500, false},
		"allowed, app too busy":           {line.Line{Auth: "allowed"}, 503, false},
		"allowed, app unreachable":        {line.Line{Auth: "allowed", Failure: "upstream_unreachable"}, 502, false},
		"allowed, app late":               {line.Line{Auth: "allowed", Failure: "upstream_timeout"}, 504, false},
		"allowed, client gone":            {line.Line{Auth: "allowed", Failure: "client_gone"}, 499, false},
		"report mode":                     {line.Line{Auth: "not_enforced", Reason: "no_matching_grant"}, 200, false},
		"denied":                          {line.Line{Auth: "denied", Reason: "no_grants"}, 403, false},
		"refused by the router":           {line.Line{Auth: "denied", Reason: "router_rejected", RouterRejected: true}, 502, false},
		"nothing is known of the outcome": {line.Line{}, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.line.DecisionID = other
			fields, _ := written(t, 0.001, c.line, c.status)
			assert.Equal(t, c.sampled, fields == nil)
			assert.NotContains(t, fields, "sample")
			c.line.DecisionID = chosen
			fields, _ = written(t, 0.001, c.line, c.status)
			require.NotNil(t, fields)
			assert.Equal(t, c.sampled, fields["sample"] == 0.001, "counts can be scaled")
			for _, all := range []float64{0, 1} {
				c.line.DecisionID = other
				fields, _ = written(t, all, c.line, c.status)
				assert.NotNil(t, fields)
			}
		})
	}
}

// What failed after the decision has an id in the line and in the metric; the
// decision stands beside it.
func TestWhatFailedIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		line   line.Line
		reason string
	}{
		"well":                                {line.Line{Auth: "allowed"}, ""},
		"unreachable":                         {line.Line{Auth: "allowed", Failure: "upstream_unreachable"}, "upstream_unreachable"},
		"denied":                              {line.Line{Auth: "denied", Reason: "scope"}, "scope"},
		"a check's own reason is not counted": {line.Line{Auth: "denied", Policy: "policy:freeze", Reason: "frozen"}, "policy_denied"},
		"report mode, unreachable":            {line.Line{Auth: "not_enforced", Policy: "policy:freeze", Reason: "frozen", Failure: "upstream_unreachable"}, "upstream_unreachable"},
	} {
		t.Run(name, func(t *testing.T) {
			fields, reason := written(t, 1, c.line, 502)
			assert.Equal(t, c.reason, reason)
			assert.Equal(t, c.line.Reason, fields["mtls_denied_reason"])
			if c.line.Failure == "" {
				assert.NotContains(t, fields, "failure")
			} else {
				assert.Equal(t, c.line.Failure, fields["failure"])
			}
		})
	}
}
