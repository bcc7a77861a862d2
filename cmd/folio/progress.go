package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A progress is a bar on standard error, or nothing where that is not a terminal.
type progress struct{ bar *progressbar.ProgressBar }

// onTerminal reports whether standard error is a terminal.
func (a *app) onTerminal() bool {
	f, ok := a.err.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (l *load) progress(src source) *progress {
	if l.quiet || !l.onTerminal() {
		return &progress{}
	}
	return &progress{progressbar.NewOptions64(src.size(),
		progressbar.OptionSetWriter(l.err),
		progressbar.OptionSetDescription("loading"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(),
		progressbar.OptionClearOnFinish())}
}

// add says that n more bytes were read. A bar that cannot be drawn is no reason to
// stop.
func (p *progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n)
	}
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
