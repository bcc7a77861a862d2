package main

import (
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"
	"time"
)

// memoryWatch looks at the process's memory every few milliseconds and remembers the most that it saw.
type memoryWatch struct {
	quit, done chan struct{}
	heap, anon uint64
}

func watchMemory() *memoryWatch {
	w := &memoryWatch{quit: make(chan struct{}), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *memoryWatch) run() {
	defer close(w.done)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		w.look()
		select {
		case <-tick.C:
		case <-w.quit:
			w.look()
			return
		}
	}
}

// stop ends the watch. The numbers are bytes.
func (w *memoryWatch) stop() (heap, anon uint64) {
	close(w.quit)
	<-w.done
	return w.heap, w.anon
}

func (w *memoryWatch) look() {
	// Together these are what runtime.MemStats calls HeapInuse; reading them does not stop the program.
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(samples)
	w.heap = max(w.heap, samples[0].Value.Uint64()+samples[1].Value.Uint64())
	w.anon = max(w.anon, anonymous())
}

// anonymous returns the resident memory that no file backs. It includes what C code allocated, and leaves out mapped
// files, which the system can take back. It is 0 where there is no such number.
func anonymous() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(status, []byte("RssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte(" kB"))
	kib, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	return kib << 10
}
