package acceptance_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// journal is all that a gateway has written, and what it must never write.
type journal struct {
	// stderr is the file of standard error.
	stderr string

	mu        sync.Mutex
	lines     []string
	decisions map[string]string // lines by decision id
	changed   chan struct{}     // closed at the next line
	secrets   []string
	checked   int
	// passing: decision lines are looked through and not kept.
	passing bool
	leaked  error
}

func newJournal(stderr string) *journal {
	return &journal{stderr: stderr, decisions: map[string]string{}, changed: make(chan struct{})}
}

// add takes a line of the gateway's standard output.
func (j *journal) add(raw []byte) {
	line := string(raw)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.passing && strings.Contains(line, `"msg":"decision"`) && !strings.Contains(line, `"status":50`) {
		if found := leak(line, j.secrets); found != "" {
			j.leaked = fmt.Errorf("the secret %q was written in:\n%s", found, line)
		}
		return
	}
	j.lines = append(j.lines, line)
	if strings.Contains(line, `"msg":"decision"`) {
		_, rest, _ := strings.Cut(line, `"decision_id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		j.decisions[id] = line
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

// passOver keeps no decision lines from now on, since there are too many, but
// those of what failed.
func (j *journal) passOver() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.passing = true
}

// count is how many lines have this in them.
func (j *journal) count(text string) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// decision waits for the line of a decision.
func (j *journal) decision(t *testing.T, id string) map[string]any {
	t.Helper()
	return j.await(t, "the decision line of "+id, func() map[string]any {
		raw, found := j.decisions[id]
		if !found {
			return nil
		}
		line := map[string]any{}
		if err := json.Unmarshal([]byte(raw), &line); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
		line["raw"] = raw
		return line
	})
}

// await waits until find finds; it runs under the journal's lock.
func (j *journal) await(t *testing.T, what string, find func() map[string]any) map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for {
		j.mu.Lock()
		found, changed := find(), j.changed
		j.mu.Unlock()
		if found != nil {
			return found
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s did not come", what)
		}
	}
}

// addSecrets takes what must be in no line and in no answer.
func (j *journal) addSecrets(secrets ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, secret := range secrets {
		if secret != "" {
			j.secrets = append(j.secrets, secret)
		}
	}
}

// secretForms are secrets by their look: the tests do not know the signatures
// that a router makes on leg 1. In this order: a signature, its metadata, a
// certificate as DER and as PEM, a route service URL.
var secretForms = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z0-9_=-]{96,}`), regexp.MustCompile(`eyJub25jZSI6`),
	regexp.MustCompile(`MII[A-Za-z0-9+/]{40}`), regexp.MustCompile(`-----BEGIN`),
	regexp.MustCompile(`/r/[^/ "]+/[^/ "]`),
}

// leak names the secret in a text.
func leak(text string, secrets []string) string {
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	for _, form := range secretForms {
		if found := form.FindString(text); found != "" {
			return found
		}
	}
	return ""
}

// leaks looks through the lines from one on, and through standard error.
func (j *journal) leaks(from int) error {
	j.mu.Lock()
	lines, secrets, leaked := j.lines[from:], j.secrets, j.leaked
	j.checked = len(j.lines)
	j.mu.Unlock()
	if leaked != nil {
		return leaked
	}
	for _, line := range append([]string{j.said()}, lines...) {
		if found := leak(line, secrets); found != "" {
			return fmt.Errorf("the secret %q was written in:\n%s", found, line)
		}
	}
	return nil
}

// checkSecrets fails the test if the gateway has written a secret since the
// last test that looked.
func (j *journal) checkSecrets(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	from := j.checked
	j.mu.Unlock()
	if err := j.leaks(from); err != nil {
		t.Error(err)
	}
}

// checkAnswer fails the test if an answer holds a secret. What an app says in
// its body is its own business.
func (j *journal) checkAnswer(t *testing.T, r reply) {
	t.Helper()
	j.mu.Lock()
	secrets := j.secrets
	j.mu.Unlock()
	var text strings.Builder
	_ = r.header.Write(&text)
	if r.problem != nil {
		text.WriteString(r.body)
	}
	if found := leak(text.String(), secrets); found != "" {
		t.Errorf("the secret %q is in the answer:\n%s", found, text.String())
	}
}

// said is the gateway's standard error.
func (j *journal) said() string {
	said, err := os.ReadFile(j.stderr)
	if err != nil {
		return ""
	}
	return string(said)
}
