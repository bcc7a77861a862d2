package main

import (
	"fmt"
	"html"
	"io"
)

// charted are the workloads of the chart: one of each kind, for a chart is looked at and not read.
var charted = []string{
	"load", "load-ascending", "get", "get-tx", "seek", "scan", "put-durable-1", "put-durable-128", "batch", "remove",
}

var colours = map[string]string{
	"folio": "#d9480f", "bbolt": "#4c6ef5", "lmdb": "#12b886", "mdbx": "#40c057", "pebble": "#7950f2",
	"badger": "#be4bdb", "sqlite": "#868e96", "static": "#ced4da", "raw": "#ced4da", "static+raw": "#ced4da",
}

// Sizes in the chart, in pixels.
const (
	barHeight  = 12
	barSpace   = 15 // from one bar to the next
	groupTitle = 20
	groupSpace = 14
	labelWidth = 56
	barWidth   = 250 // of the longest bar of a group
	column     = labelWidth + barWidth + 100
)

// writeChart draws a group of bars for each workload. Bars compare within their group only: the longest is the best.
func (s *series) writeChart(name string) error {
	var groups []row
	for _, workload := range charted {
		for _, r := range s.rows() {
			if r.workload == workload && r.unit == unitRate {
				groups = append(groups, r)
				break
			}
		}
	}
	half := (len(groups) + 1) / 2 // in two columns
	height := groupSpace
	for _, part := range [][]row{groups[:half], groups[half:]} {
		y := groupSpace
		for _, g := range part {
			y += groupTitle + len(g.values)*barSpace + groupSpace
		}
		height = max(height, y)
	}
	return writeFile(name, func(w io.Writer) {
		fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d">`+"\n", 2*column, height)
		// Grey text can be read on a light page and on a dark one.
		fmt.Fprintln(w, `<style>text { font: 12px sans-serif; fill: #808890 } .title { font-weight: bold }</style>`)
		x, y := 0, groupSpace
		for i, g := range groups {
			if i == half {
				x, y = column, groupSpace
			}
			y = s.drawGroup(w, g, x, y)
		}
		fmt.Fprintln(w, `</svg>`)
	})
}

// drawGroup draws the bars of one workload at the right of x and below y, and returns where the next one begins.
func (s *series) drawGroup(w io.Writer, g row, x, y int) int {
	fmt.Fprintf(w, `<text class="title" x="%d" y="%d">%s, k/s</text>`+"\n", x, y+12, html.EscapeString(g.title))
	y += groupTitle
	longest := 0.0
	for _, value := range g.values {
		longest = max(longest, value)
	}
	for _, e := range s.engines {
		value, ok := g.values[e.name]
		if !ok {
			continue
		}
		length := 1 + value/longest*barWidth
		fmt.Fprintf(w, `<text x="%d" y="%d">%s</text>`, x, y+10, e.name)
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, x+labelWidth, y, length, barHeight, colours[e.name])
		fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(x+labelWidth)+length+6, y+10, number(value))
		y += barSpace
	}
	return y + groupSpace
}
