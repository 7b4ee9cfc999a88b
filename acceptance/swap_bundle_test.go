package acceptance_test

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// liveBundle is a bundle in a directory, which changes while gateways watch it.
type liveBundle struct{ dir string }

func newLiveBundle(t *testing.T, check, data string) *liveBundle {
	t.Helper()
	b := &liveBundle{dir: filepath.Join(t.TempDir(), "bundle")}
	require.NoError(t, writeFiles(b.dir, map[string]string{"check.rego": check, "data.json": data}))
	return b
}

// put replaces a file at once, and returns when that was.
func (b *liveBundle) put(t *testing.T, name, content string) time.Time {
	t.Helper()
	made := filepath.Join(filepath.Dir(b.dir), "new")
	require.NoError(t, os.WriteFile(made, []byte(content), 0o600))
	require.NoError(t, os.Rename(made, filepath.Join(b.dir, name)))
	return time.Now()
}

// policyStatus is what /v1/policy says.
type policyStatus struct {
	Revision  string
	Error     string
	Source    string
	Reachable bool
	Checks    []string
}

func (s *server) policy() (status policyStatus, err error) {
	request, err := http.NewRequest(http.MethodGet, s.url+"/v1/policy", nil)
	if err != nil {
		return status, err
	}
	request.SetBasicAuth("broker", password)
	res, err := (&http.Client{Transport: s.transport, Timeout: patience}).Do(request)
	if err != nil {
		return status, err
	}
	defer res.Body.Close()
	return status, json.NewDecoder(res.Body).Decode(&status)
}

// revision is that of the policy in force.
func (s *server) revision() (string, error) {
	status, err := s.policy()
	return status.Revision, err
}

// awaitRevision waits for another revision than before, and returns when the
// gateway had said so.
func (s *server) awaitRevision(before string) (at time.Time, err error) {
	err = until("another revision", func() error {
		now, err := s.revision()
		at = time.Now()
		if err == nil && now == before {
			err = errors.New("still " + now)
		}
		return err
	})
	return at, err
}

// metric reads one metric; labels are part of its name.
func (s *server) metric(t *testing.T, name string) float64 {
	t.Helper()
	value := s.metricOr(t, name, math.NaN())
	require.False(t, math.IsNaN(value), "no metric %s", name)
	return value
}

// metricOr is for metrics that are not there before they are first counted.
func (s *server) metricOr(t *testing.T, name string, otherwise float64) float64 {
	t.Helper()
	_, body := s.ask(t, "/metrics")
	_, value, found := strings.Cut(body, "\n"+name+" ")
	if !found {
		return otherwise
	}
	value, _, _ = strings.Cut(value, "\n")
	number, err := strconv.ParseFloat(value, 64)
	require.NoError(t, err)
	return number
}
