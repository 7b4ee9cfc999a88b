package doctor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/doctor"
)

var update = flag.Bool("update", false, "write the golden files anew")

// says is a check with these findings.
func says(item string, found ...doctor.Finding) doctor.Check {
	return doctor.Check{Item: item, Look: func(context.Context) []doctor.Finding { return found }}
}

func run(t *testing.T, checks ...doctor.Check) []doctor.Finding {
	return doctor.Run(t.Context(), checks, nil, nil).Findings
}

func TestTheReportHasTheOrderOfTheChecksWhoeverIsFirst(t *testing.T) {
	last := make(chan struct{})
	found := run(t,
		doctor.Check{Item: "slow", Look: func(context.Context) []doctor.Finding { <-last; return []doctor.Finding{doctor.Good("", "a")} }},
		doctor.Check{Item: "quick", Look: func(context.Context) []doctor.Finding {
			defer close(last)
			return []doctor.Finding{doctor.Good("1", "b"), doctor.Good("2", "c")}
		}},
	)
	require.Len(t, found, 3)
	assert.Equal(t, []string{"slow", "quick 1", "quick 2"}, []string{found[0].Item, found[1].Item + " " + found[1].About, found[2].Item + " " + found[2].About})
}

func TestACheckThatHangsIsAFail(t *testing.T) {
	forever := make(chan struct{})
	defer close(forever)
	found := run(t, doctor.Check{Item: "hangs", Timeout: time.Millisecond, Look: func(context.Context) []doctor.Finding { <-forever; return nil }}, says("other", doctor.Good("", "well")))
	require.Len(t, found, 2)
	assert.Equal(t, "fail", found[0].Status.String())
	assert.Contains(t, found[0].Found, "no answer within 1ms")
	assert.Equal(t, "ok", found[1].Status.String())
}

func TestACheckSaysWhatItHasWaitedFor(t *testing.T) {
	found := run(t, doctor.Check{Item: "waits", Timeout: time.Millisecond, Look: func(ctx context.Context) []doctor.Finding {
		<-ctx.Done()
		return []doctor.Finding{doctor.Bad("", "the router did not answer", "x")}
	}})
	assert.Equal(t, "the router did not answer", found[0].Found)
}

func TestAPanicIsAFailAndItsTextIsNotShown(t *testing.T) {
	broken := func(context.Context) []doctor.Finding { panic("password s3cret") }
	each := func(ctx context.Context) []doctor.Finding {
		return doctor.Each(ctx, []int{1}, func(ctx context.Context, _ int) []doctor.Finding { return broken(ctx) })
	}
	for _, look := range []func(context.Context) []doctor.Finding{broken, each} {
		found := run(t, doctor.Check{Item: "breaks", Look: look}, says("other", doctor.Good("", "well")))
		assert.Equal(t, []string{"fail", "ok"}, []string{found[0].Status.String(), found[1].Status.String()})
		assert.NotContains(t, found[0].Found, "s3cret")
	}
}

func TestNoFindingAndNoStatusAreFails(t *testing.T) {
	found := run(t, says("nothing"), says("zero", doctor.Finding{}), says("strange", doctor.Finding{Status: 17}))
	require.Len(t, found, 3)
	for _, f := range found {
		assert.Equal(t, "fail", f.Status.String(), f.Item)
	}
	report := doctor.Run(t.Context(), []doctor.Check{says("strange", doctor.Finding{Status: 17})}, nil, nil)
	assert.ErrorIs(t, report.Err(false), doctor.ErrFail)
}

func TestSecretsAreTakenOutHoweverTheyAreWritten(t *testing.T) {
	const secret = "p@ss/w:rd s3cret"
	report := doctor.Run(t.Context(), []doctor.Check{says("leaks",
		doctor.Bad("at "+secret, "dial postgres://u:p%40ss%2Fw%3Ard%20s3cret@h failed, also p%40ss%2Fw%3Ard+s3cret", "use "+secret),
		doctor.Bad("", "part of another: "+secret+"-longer", "x"),
	)}, []string{secret, secret + "-longer", "", "short"}, nil)
	var text, raw bytes.Buffer
	require.NoError(t, report.WriteText(&text, doctor.Width))
	require.NoError(t, report.WriteJSON(&raw))
	for _, out := range []string{text.String(), raw.String()} {
		assert.NotContains(t, out, "s3cret")
		assert.NotContains(t, out, "-longer")
		assert.Contains(t, out, "(hidden)")
	}
}

// What a server answers goes to a terminal, and to a log line of Cloud Foundry.
func TestNothingThatATerminalActsOnIsWritten(t *testing.T) {
	found := run(t, says("hostile", doctor.Bad("a\r\nb", "\x1b[2Jred\x07"+strings.Repeat("x", 10_000), "c\td")))
	assert.Equal(t, []string{"a  b", "c d"}, []string{found[0].About, found[0].Fix})
	assert.NotContains(t, found[0].Found, "\x1b")
	assert.Less(t, len(found[0].Found), 3000)
}

func TestTheEndForPrograms(t *testing.T) {
	ok, warn, fail, skip := doctor.Good("", ""), doctor.Doubtful("", "", ""), doctor.Bad("", "", ""), doctor.Unknown("", "", "")
	for _, c := range []struct {
		found         []doctor.Finding
		plain, strict error
	}{
		{[]doctor.Finding{ok, skip}, nil, nil},
		{[]doctor.Finding{ok, warn}, nil, doctor.ErrWarn},
		{[]doctor.Finding{ok, warn, fail}, doctor.ErrFail, doctor.ErrFail},
	} {
		report := doctor.Run(t.Context(), []doctor.Check{says("x", c.found...)}, nil, nil)
		assert.ErrorIs(t, report.Err(false), c.plain)
		assert.ErrorIs(t, report.Err(true), c.strict)
	}
}

func TestWhatPeopleAndProgramsRead(t *testing.T) {
	report := doctor.Run(t.Context(), []doctor.Check{
		says("caller CAs", doctor.Good("CALLER_CA_FILES", `"CN=instanceIdentityCA" until 2036-05-04T10:15:42Z`)),
		says("security group", doctor.Bad("router 10.0.0.5:443", "no answer in time", "let the gateway's space reach it")),
		says("credentials", doctor.Good("BROKER_PASSWORD", "not easily guessed"), doctor.Doubtful("BROKER_PASSWORD_PREVIOUS", "it is set", "unset it")),
		says("internal lookup", doctor.Unknown("", "cannot be seen from outside", "look at the router's job")),
	}, nil, nil)
	var text, raw bytes.Buffer
	require.NoError(t, report.WriteText(&text, doctor.Width))
	require.NoError(t, report.WriteJSON(&raw))
	golden(t, "report.txt", text.Bytes())
	golden(t, "report.json", raw.Bytes())
	assert.True(t, json.Valid(raw.Bytes()))
}

// A table is read on a terminal: no line is longer than it, but for a word that
// somebody copies.
func TestTheTableIsNoWiderThanTheTerminal(t *testing.T) {
	const rule = `[{"protocol":"tcp","destination":"10.0.0.5","ports":"443"},{"protocol":"tcp","destination":"10.0.0.6","ports":"443"}]`
	report := doctor.Run(t.Context(), []doctor.Check{
		says("absolute-form requests", doctor.Bad("apps.example.com through 10.0.0.5:443", strings.Repeat("what is the case ", 20), "do this with "+rule+" "+strings.Repeat("and then that ", 20))),
		says("x", doctor.Good("", "")),
	}, nil, nil)
	for _, width := range []int{0, 60, 80, 100, 219} {
		var out bytes.Buffer
		require.NoError(t, report.WriteText(&out, width))
		longest := 0
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if !strings.Contains(line, rule) {
				longest = max(longest, len(line))
			}
			assert.Equal(t, strings.TrimRight(line, " "), line)
		}
		assert.LessOrEqual(t, longest, max(width, 73))
		assert.Greater(t, longest, max(width, 73)-18, "what there is, is used")
		assert.Contains(t, out.String(), rule, "a rule is not broken")
	}
}

// Whoever watches hears of each item, one at a time.
func TestLookedIsToldOfEachItem(t *testing.T) {
	var items []string
	doctor.Run(t.Context(), []doctor.Check{says("a", doctor.Good("", "")), says("b"), says("c", doctor.Bad("", "", ""))}, nil, func(item string) { items = append(items, item) })
	assert.ElementsMatch(t, []string{"a", "b", "c"}, items)
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		require.NoError(t, os.WriteFile(name, got, 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got))
}

func TestClocks(t *testing.T) {
	begun := time.Date(2026, 5, 4, 10, 15, 42, 0, time.UTC)
	ended := begun.Add(300 * time.Millisecond)
	for _, c := range []struct {
		read   time.Duration
		ahead  time.Duration
		status string
	}{
		{100 * time.Millisecond, 0, "ok"},
		{-900 * time.Millisecond, 0, "ok"}, // rounded down
		{2300 * time.Millisecond, 2 * time.Second, "ok"},
		{10*time.Second + 300*time.Millisecond, 10 * time.Second, "warn"},
		{-11 * time.Second, -10 * time.Second, "warn"},
		{time.Minute + 300*time.Millisecond, time.Minute, "fail"},
		{-time.Hour - time.Second, -time.Hour, "fail"},
	} {
		ahead := doctor.Ahead(begun.Add(c.read), begun, ended, time.Second)
		assert.Equal(t, c.ahead, ahead)
		assert.Equal(t, c.status, doctor.Skew("", ahead).Status.String(), c.read)
	}
}
