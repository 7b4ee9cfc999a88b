package report

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of the plot, in pixels.
const (
	nameWidth, barWidth, figureWidth = 330, 360, 90
	barHeight, gap, titleHeight      = 18, 8, 34
)

// panel is one set of bars.
type panel struct {
	title string
	color string
	value func(Row) Spread
}

// SVG draws throughput and processor time as bars, with a line from quartile to
// quartile on each.
func (r Report) SVG() []byte {
	panels := []panel{
		{"Requests a second (more is better)", "#4878a8", func(row Row) Spread { return row.Throughput }},
		{"Processor time of the proxy for a request, in us (less is better)", "#a86048", func(row Row) Spread { return row.CPU }},
	}
	height := titleHeight + len(r.Rows)*(barHeight+gap) + gap
	width := nameWidth + barWidth + figureWidth
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", width, len(panels)*height)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, len(panels)*height)
	for i, p := range panels {
		p.draw(&svg, r.Rows, i*height)
	}
	svg.WriteString("</svg>\n")
	return []byte(svg.String())
}

func (p panel) draw(svg *strings.Builder, rows []Row, top int) {
	most := 0.0
	for _, row := range rows {
		most = max(most, p.value(row).High)
	}
	if most == 0 {
		most = 1 // nothing was measured
	}
	x := func(v float64) float64 { return nameWidth + v/most*barWidth }
	fmt.Fprintf(svg, `<text x="10" y="%d" font-weight="bold">%s</text>`+"\n", top+22, html.EscapeString(p.title))
	for i, row := range rows {
		value := p.value(row)
		y := top + titleHeight + i*(barHeight+gap)
		middle := float64(y) + barHeight/2
		fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", nameWidth-8, y+14, html.EscapeString(row.Name))
		fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n", nameWidth, y, x(value.Median)-nameWidth, barHeight, p.color)
		fmt.Fprintf(svg, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="black"/>`+"\n", x(value.Low), x(value.High), middle, middle)
		fmt.Fprintf(svg, `<text x="%.1f" y="%d">%.0f</text>`+"\n", x(value.High)+6, y+14, value.Median)
	}
}
