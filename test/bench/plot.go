//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// panel is one of several plots with the same logarithmic x axis.
type panel struct {
	title  string
	series []series
}

// series is a line with points.
type series struct {
	name string
	x, y []float64
}

// Sizes in the SVG.
const (
	panelWidth, panelHeight = 400, 260
	left, right             = 56, 28 // of the axes within a panel
	top, bottom             = 34, 40
	legendHeight            = 30
	columns                 = 2
)

// style has colors that are legible on white and on black. Texts and lines are brighter if
// the viewer prefers dark pages.
const style = `
text { font: 12px sans-serif; fill: #808080 }
.title { font-weight: bold }
.grid { stroke: #888; stroke-opacity: .3 }
polyline { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #aaa } }
`

var colors = map[string]string{directTarget: "#8a8a8a", pgbouncerTarget: "#d97706", iamproxyTarget: "#2f81f7", baselineTarget: "#2da44e"}

// plot draws panels as an SVG.
func plot(panels []panel) string {
	rows := (len(panels) + columns - 1) / columns
	width, height := columns*panelWidth, legendHeight+rows*panelHeight
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n<style>%s</style>\n",
		width, height, width, height, style)
	legend(&out, panels)
	for i, p := range panels {
		fmt.Fprintf(&out, `<g transform="translate(%d %d)">`+"\n", i%columns*panelWidth, legendHeight+i/columns*panelHeight)
		p.draw(&out)
		out.WriteString("</g>\n")
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// legend names the lines of all panels, once.
func legend(out *strings.Builder, panels []panel) {
	known := make(map[string]bool)
	for _, p := range panels {
		for _, s := range p.series {
			if known[s.name] {
				continue
			}
			x := left + 110*len(known)
			known[s.name] = true
			fmt.Fprintf(out, `<polyline points="%d,15 %d,15" stroke="%s"/><text x="%d" y="19">%s</text>`+"\n",
				x, x+20, colors[s.name], x+26, html.EscapeString(s.name))
		}
	}
}

func (p panel) draw(out *strings.Builder) {
	var xs, ys []float64
	for _, s := range p.series {
		xs, ys = append(xs, s.x...), append(ys, s.y...)
	}
	x := newAxis(xs, left, panelWidth-right)
	y := newAxis(ys, panelHeight-bottom, top)
	fmt.Fprintf(out, `<text class="title" x="%d" y="20">%s</text>`+"\n", left, html.EscapeString(p.title))
	for _, tick := range x.ticks() {
		at := x.place(tick)
		fmt.Fprintf(out, `<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			at, at, top, panelHeight-bottom, at, panelHeight-bottom+16, tickLabel(tick))
	}
	for _, tick := range y.ticks() {
		at := y.place(tick)
		fmt.Fprintf(out, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, panelWidth-right, at, at, left-6, at+4, tickLabel(tick))
	}
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="middle">sessions</text>`+"\n", (left+panelWidth-right)/2, panelHeight-bottom+32)
	for _, s := range p.series {
		var points strings.Builder
		for i := range s.x {
			fmt.Fprintf(&points, "%.1f,%.1f ", x.place(s.x[i]), y.place(s.y[i]))
			fmt.Fprintf(out, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x.place(s.x[i]), y.place(s.y[i]), colors[s.name])
		}
		fmt.Fprintf(out, `<polyline points="%s" stroke="%s"/>`+"\n", strings.TrimSpace(points.String()), colors[s.name])
	}
}

// axis is logarithmic, over whole decades.
type axis struct{ low, high, from, to float64 }

// least is drawn for all smaller values: 0 has no logarithm.
const least = 0.001

func newAxis(values []float64, from, to float64) axis {
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, max(v, least)), max(high, max(v, least))
	}
	if len(values) == 0 {
		low, high = 1, 10
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	return axis{low, max(high, low+1), from, to}
}

func (a axis) place(value float64) float64 {
	return a.from + (a.to-a.from)*(math.Log10(max(value, least))-a.low)/(a.high-a.low)
}

func (a axis) ticks() []float64 {
	var ticks []float64
	for decade := a.low; decade <= a.high; decade++ {
		ticks = append(ticks, math.Pow(10, decade))
	}
	return ticks
}

func tickLabel(value float64) string {
	if value >= 1 {
		return thousands(value, 0)
	}
	return strconv.FormatFloat(value, 'g', -1, 64)
}
