package guard_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/rego/bundle"
	"github.com/mtls-authz/mtls-authz/rego/gate/guard"
)

// engine is a stand-in for a policy that can be broken: the parts of a decision,
// as the real one has them.
type engine struct {
	granted, known, checks, shape bool
}

var sound = engine{granted: true, known: true, checks: true, shape: true}

func (e engine) ask(_ context.Context, query string, input *ast.Term) (bool, error) {
	get := func(path ...string) *ast.Term {
		found := input
		for _, name := range path {
			object, ok := found.Value.(ast.Object)
			if !ok || object.Get(ast.StringTerm(name)) == nil {
				return ast.NullTerm()
			}
			found = object.Get(ast.StringTerm(name))
		}
		return found
	}
	text := func(term *ast.Term) string { s, _ := term.Value.(ast.String); return string(s) }
	if e.shape && strings.Contains(query, "data.mtls.authz.decision as") {
		return false, errors.New("another shape")
	}
	if grants := get("grants"); e.granted && !strings.Contains(grants.String(), "{}]") && !strings.Contains(grants.String(), "methods") {
		return false, nil
	}
	if e.known {
		for _, member := range []string{"app", "space", "org"} {
			if text(get("caller", member)) == "" {
				return false, nil
			}
		}
		if text(get("caller", "kind")) != "cf" {
			return false, nil
		}
	}
	if _, forced, ok := strings.Cut(query, "data.site.check as "); e.checks && ok {
		checks := ast.MustParseTerm(forced).Value.(ast.Object)
		for _, name := range checks.Keys() {
			if checks.Get(name).Value.Compare(ast.MustParseTerm(`{"allow": true}`).Value) != 0 {
				return false, nil
			}
		}
	}
	return true, nil
}

func try(t *testing.T, e engine) error {
	t.Helper()
	return guard.Check(t.Context(), guard.Config{Ask: e.ask, Checks: []string{"one", "two"}})
}

// Each guard sees the fault that it is there for.
func TestGuardsSeeWhatIsBroken(t *testing.T) {
	require.NoError(t, try(t, sound))
	for says, broken := range map[string]engine{
		"without any grant": {known: true, checks: true, shape: true},
		"unknown caller":    {granted: true, checks: true, shape: true},
		"although check":    {granted: true, known: true, shape: true},
		"taken for":         {granted: true, known: true, checks: true},
	} {
		err := try(t, broken)
		assert.ErrorIs(t, err, bundle.ErrRefused)
		assert.ErrorContains(t, err, says)
	}
	err := guard.Check(t.Context(), guard.Config{Ask: func(context.Context, string, *ast.Term) (bool, error) { return false, nil }})
	assert.ErrorContains(t, err, "nothing is allowed", "guards that see nothing prove nothing")
}

func TestAPolicyThatIsOnceSlowIsNotSlow(t *testing.T) {
	asked := map[string]int{}
	slow := func(times int) error {
		clear(asked)
		return guard.Check(t.Context(), guard.Config{Ask: func(ctx context.Context, query string, input *ast.Term) (bool, error) {
			if text := input.String(); strings.Contains(text, "/segment") {
				if asked[text]++; asked[text] <= times {
					return false, guard.ErrSlow
				}
			}
			return sound.ask(ctx, query, input)
		}})
	}
	assert.NoError(t, slow(2))
	err := slow(100)
	refusal, ok := errors.AsType[*bundle.Refusal](err)
	require.True(t, ok)
	assert.True(t, refusal.Temporary(), "a busy machine must not refuse for ever")
	assert.Equal(t, bundle.StepTime, refusal.Findings[0].Step)
	assert.Less(t, len(err.Error()), 2000)
}

func TestGuardsThatAreStoppedRefuse(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, guard.Check(ctx, guard.Config{Ask: sound.ask}), bundle.ErrRefused)
}
