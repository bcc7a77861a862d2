package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/foliodb/folio"
)

// writeEnv, when set, makes the test binary a process that writes the store it names until its standard input ends; toolEnv
// makes it the tool.
const (
	writeEnv = "FOLIO_CLI_WRITE"
	toolEnv  = "FOLIO_CLI_TOOL"
)

const liveItems = 300

// keepWriting puts the same number to all keys in each commit, so that whoever sees two numbers has seen half a commit. It reads
// an old state all the while.
func keepWriting(path string) error {
	db, err := folio.Open(path, &folio.Options{PageSize: 4096, LogLimit: 256 << 10})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		close(stop)
	}()
	var old *folio.Tx
	for n := 0; ; n++ {
		err := db.Update(func(tx *folio.Tx) error {
			for i := range liveItems {
				if err := tx.Root().Put(fmt.Appendf(nil, "%04d", i), fmt.Appendf(nil, "%0100d", n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err == nil && n == 0 {
			old, err = db.Begin(false)
			fmt.Println("ready")
		}
		if err != nil {
			return err
		}
		select {
		case <-stop:
			return errors.Join(old.Rollback(), db.Close())
		default:
		}
	}
}

// tool runs the tool as a process of its own, and wants it to do well.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), toolEnv+"=1")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Errorf("%v: %v: %s%s", args, err, out, errs.String())
	}
	return string(out)
}

// TestLive looks into a store that another process is writing all the while, with each command that looks, each a process of its
// own. What it shows is one state, and not an older one than was shown before.
func TestLive(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("readers beside a writer need memory that processes share")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "app.db")
	writer := exec.Command(self)
	writer.Env = append(os.Environ(), writeEnv+"="+path)
	writer.Stderr = os.Stderr
	in, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Process.Kill() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("writer: %q %v", line, err)
	}
	last, lastTx := "", uint64(0)
	for range 5 {
		lines := strings.Split(strings.TrimSpace(tool(t, "scan", path)), "\n")
		_, number, _ := strings.Cut(lines[0], "\t")
		for _, l := range lines {
			if _, n, _ := strings.Cut(l, "\t"); n != number {
				t.Fatalf("scan shows half a commit: %s, %s", number, n)
			}
		}
		if len(lines) != liveItems || number < last {
			t.Errorf("scan: %d items, number %s after %s", len(lines), number, last)
		}
		if got := strings.TrimSpace(tool(t, "get", path, "0123")); got < number {
			t.Errorf("get shows %s after scan showed %s", got, number)
		}
		last = number
		if s := tool(t, "check", path); !strings.Contains(s, "is sound") {
			t.Errorf("check: %s", s)
		}
		var stats folio.Stats
		if err := json.Unmarshal([]byte(tool(t, "stats", path, "--json")), &stats); err != nil || uint64(stats.LastTx) < lastTx {
			t.Errorf("stats: %v, transaction %d after %d", err, stats.LastTx, lastTx)
		}
		lastTx = uint64(stats.LastTx)
		tool(t, "buckets", path)
	}
	// What the writer reads itself it tells others now and then.
	for i := 0; ; i++ {
		list := tool(t, "readers", path)
		if strings.Contains(list, fmt.Sprint(writer.Process.Pid)) && strings.HasPrefix(list, "process") {
			if s := tool(t, "stats", path); !strings.Contains(s, fmt.Sprintf("process %d reads transaction", writer.Process.Pid)) {
				t.Errorf("stats do not tell who reads the oldest state: %s", s)
			}
			break
		}
		if i == 200 {
			t.Fatalf("readers, of which the writer is one: %s", list)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := errors.Join(in.Close(), writer.Wait()); err != nil {
		t.Fatal(err)
	}
	if s := tool(t, "check", path); !strings.Contains(s, "is sound") {
		t.Errorf("check of the closed store: %s", s)
	}
}
