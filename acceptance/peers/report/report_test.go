package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mtls-authz/mtls-authz/acceptance/peers/report"
)

func sample() report.Report {
	spread := func(v float64) report.Spread { return report.Spread{Median: v, Low: v - 1, High: v + 1} }
	return report.Report{
		Date: "2026-05-04", Machine: "a machine", Versions: "go and others", Load: "0.10", Rounds: 3, Callers: 16, Rate: 300,
		Rows: []report.Row{
			{Name: "none & <nothing>", Throughput: spread(5000)},
			{Name: "gateway", Throughput: spread(2000), CPU: spread(150), P50: spread(1.5), Bare: spread(0.95)},
		},
	}
}

func TestSpread(t *testing.T) {
	rows := []struct {
		values []float64
		want   report.Spread
	}{
		{nil, report.Spread{}},
		{[]float64{7}, report.Spread{Median: 7, Low: 7, High: 7}},
		{[]float64{3, 1}, report.Spread{Median: 2, Low: 1.5, High: 2.5}},
		{[]float64{5, 1, 4, 2, 3}, report.Spread{Median: 3, Low: 2, High: 4}},
	}
	for _, row := range rows {
		given := append([]float64(nil), row.values...)
		assert.Equal(t, row.want, report.SpreadOf(given))
		assert.Equal(t, row.values, given, "the values stay as they are")
	}
}

func TestTheTableReplacesTheFormerOne(t *testing.T) {
	document := "before\n<!-- figures: written by make bench-peers -->\nold\n<!-- end of the figures -->\nafter\n"
	text, err := sample().Replace(document)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(text, "before\n<!--") && strings.HasSuffix(text, "-->\nafter\n"), text)
	assert.NotContains(t, text, "old")
	assert.Contains(t, text, "| gateway | 2000 (1999 to 2001) | 1.50 (0.50 to 2.50) | - | 150 (149 to 151) | - | 0.95 (-0.05 to 1.95) | - |\n")
	again, err := sample().Replace(text)
	require.NoError(t, err)
	assert.Equal(t, text, again)
	_, err = sample().Replace("no place")
	assert.ErrorContains(t, err, "no place for figures")
}

func TestTheTableForPeople(t *testing.T) {
	var text strings.Builder
	require.NoError(t, sample().Text(&text))
	assert.Contains(t, text.String(), "2026-05-04, a machine, load average 0.10 before the run.")
	assert.Regexp(t, `gateway +2000 +1.50 +- +150 +- +0.95 +-`, text.String())
}

func TestJSON(t *testing.T) {
	var text strings.Builder
	require.NoError(t, sample().JSON(&text))
	var back report.Report
	require.NoError(t, json.Unmarshal([]byte(text.String()), &back))
	assert.Equal(t, sample(), back)
}

func TestThePlotIsXMLWithABarForEachRow(t *testing.T) {
	decoder := xml.NewDecoder(strings.NewReader(string(sample().SVG())))
	elements := map[string]int{}
	var texts strings.Builder
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch part := token.(type) {
		case xml.StartElement:
			elements[part.Name.Local]++
		case xml.CharData:
			texts.Write(part)
		}
	}
	assert.Equal(t, 1+2*2, elements["rect"], "the ground, and two panels of two bars")
	assert.Contains(t, texts.String(), "none & <nothing>")
	assert.NotContains(t, string(report.Report{}.SVG()), "NaN")
}
