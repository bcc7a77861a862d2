package fuzz

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/foliodb/folio"
)

// A config is what a script says in its first line about the store.
type config struct {
	pageSize    int
	logLimit    int64
	memoryLimit int64
	relaxed     bool
	memory      bool // OpenMemory
}

// drawConfig draws options from s. Small limits make checkpoints, commits without
// the log and spilling happen within a short script.
func drawConfig(s source) config {
	cfg := config{
		pageSize: []int{4096, 4096, 8192, 65536}[s.intn(4)],
		memory:   s.intn(8) == 0,
	}
	return cfg.redraw(s.intn(256))
}

// redraw changes what an existing store can be opened with.
func (c config) redraw(n int) config {
	c.logLimit = []int64{0, 256 << 10, 256 << 10, 1 << 20}[n&3]
	c.memoryLimit = []int64{0, 256 << 10, 256 << 10, 1 << 20}[n>>2&3]
	c.relaxed = n>>4&3 == 0
	return c
}

func (c config) options() *folio.Options {
	o := &folio.Options{PageSize: c.pageSize, LogLimit: c.logLimit, MemoryLimit: c.memoryLimit}
	if c.relaxed {
		o.Durability, o.SyncInterval = folio.Relaxed, 5*time.Millisecond
	}
	return o
}

// String gives the config as the first line of a script.
func (c config) String() string {
	s := fmt.Sprintf("options page=%d log=%d memory=%d", c.pageSize, c.logLimit, c.memoryLimit)
	if c.relaxed {
		s += " relaxed"
	}
	if c.memory {
		s += " no-file"
	}
	return s
}

func parseConfig(line string) (c config, err error) {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "options" {
		return c, errors.New("a script begins with its options")
	}
	for _, word := range words[1:] {
		name, number, _ := strings.Cut(word, "=")
		switch name {
		case "page":
			_, err = fmt.Sscan(number, &c.pageSize)
		case "log":
			_, err = fmt.Sscan(number, &c.logLimit)
		case "memory":
			_, err = fmt.Sscan(number, &c.memoryLimit)
		case "relaxed":
			c.relaxed = true
		case "no-file":
			c.memory = true
		default:
			err = fmt.Errorf("no such option: %q", word)
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// A script is what a failure prints and testdata holds: options and ops, one a line.
type script struct {
	cfg config
	ops []op
}

func (s script) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, s.cfg)
	for _, o := range s.ops {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// parseScript reads what String wrote; empty lines and comments are skipped.
func parseScript(text string) (s script, err error) {
	first := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if first {
			if s.cfg, err = parseConfig(line); err != nil {
				return s, err
			}
			first = false
			continue
		}
		o, err := parseOp(line)
		if err != nil {
			return s, err
		}
		s.ops = append(s.ops, o)
	}
	return s, nil
}
