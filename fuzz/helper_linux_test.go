package fuzz

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A helper is another process that has a store open and does one thing after another, each when it is told to.
type helper struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// helperRole is what a helper is started with, in the place of a role of TestProcesses.
const helperRole = "help"

// startHelper starts a helper, which is killed at the end of the test.
func startHelper(t *testing.T) *helper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	h := &helper{t: t, cmd: exec.Command(self)}
	h.cmd.Env = append(os.Environ(), roleEnv+"="+helperRole)
	h.cmd.Stderr = os.Stderr
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.out = bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		_ = h.cmd.Wait()
	})
	return h
}

func startHelpers(t *testing.T, n int) []*helper {
	t.Helper()
	var all []*helper
	for range n {
		all = append(all, startHelper(t))
	}
	return all
}

// tell has the helper begin to do something.
func (h *helper) tell(order ...any) {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, order...); err != nil {
		h.t.Fatal(err)
	}
}

// hear waits until it is done, and reads the figures that it answers with.
func (h *helper) hear(figures ...any) {
	h.t.Helper()
	if !h.out.Scan() {
		h.t.Fatalf("a helper has ended: %v", h.out.Err())
	}
	words := strings.Fields(h.out.Text())
	if len(words) == 0 || words[0] != "done" {
		h.t.Fatalf("a helper: %s", h.out.Text())
	}
	for i, f := range figures {
		if _, err := fmt.Sscan(words[1+i], f); err != nil {
			h.t.Fatalf("%s: %v", h.out.Text(), err)
		}
	}
}

// ask is tell and hear.
func (h *helper) ask(order string, figures ...any) {
	h.t.Helper()
	h.tell(order)
	h.hear(figures...)
}

// refused wants that it cannot be done, and a word of why.
func (h *helper) refused(why string) {
	h.t.Helper()
	if !h.out.Scan() || !strings.Contains(h.out.Text(), why) {
		h.t.Errorf("a helper answers %q; want %q", h.out.Text(), why)
	}
}

// toldAll has all helpers do the same at a time.
func toldAll(helpers []*helper, order ...any) {
	for _, h := range helpers {
		h.t.Helper()
		h.tell(order...)
	}
	for _, h := range helpers {
		h.hear()
	}
}

// help is what the helper does: a line of its input is an order and its argument, a line of its output says that it is done,
// with figures, or what went wrong.
func help(orders map[string]func(argument string) ([]any, error)) error {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		order, argument, _ := strings.Cut(in.Text(), " ")
		do := orders[order]
		if do == nil {
			return fmt.Errorf("unknown order %q", order)
		}
		figures, err := do(argument)
		if err != nil {
			fmt.Println("failed:", err)
			continue
		}
		fmt.Println(append([]any{"done"}, figures...)...)
	}
	return in.Err()
}
