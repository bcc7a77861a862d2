package main

import (
	"fmt"
	"slices"
	"strings"
)

// An engine is a store to be measured. There is one file for each; what its settings are, and why, is told there.
type engine struct {
	name string
	// open opens or makes the store in a folder of its own.
	open func(dir string, how setting) (store, error)
	// only names the workloads that the engine can run; nil: all of them.
	only []string
	// keeps is false of a program that stores nothing, or only what a load brings, so that there is nothing to verify.
	keeps bool
	// loads is true of a program that keeps nothing, but wants the records to be there.
	loads bool
}

// A setting is what an engine may be told of the workload.
type setting struct {
	relaxed bool // it is enough that the operating system has what Update wrote; else it is durable when Update returns
	load    bool // many records come at once
}

// A store is what the workloads need of an engine, and no more, so that little lies between them. All methods may be
// called from several goroutines.
type store interface {
	// View runs fn in a read transaction.
	View(fn func(reader) error) error
	// Update runs fn in a write transaction and commits it.
	Update(fn func(writer) error) error
	Close() error
}

// A reader is a read transaction. The slices that it gives are valid until the next call.
type reader interface {
	// Get returns nil for a key that is not there.
	Get(key []byte) ([]byte, error)
	// Scan gives fn the records from the first whose key is not below from, in ascending order, until fn returns false.
	Scan(from []byte, fn func(key, value []byte) bool) error
	// ScanBack gives fn all records in descending order, until fn returns false.
	ScanBack(fn func(key, value []byte) bool) error
}

// A writer is a write transaction. It does not keep the slices that it is given after the commit.
type writer interface {
	Put(key, value []byte) error
	Delete(key []byte) error
}

// names are all engines, in the order of the table. Those that need cgo or another system are not in every build.
var names = []string{"folio", "bbolt", "lmdb", "mdbx", "pebble", "badger", "sqlite", "static", "raw", "static+raw"}

// engines are those in this build. Each file adds its own.
var engines = map[string]*engine{}

func register(e *engine) { engines[e.name] = e }

// missing returns the engines that are not in this build.
func missing() []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return engines[name] != nil })
}

// choose returns the engines of a list with commas; "all" are all of this build.
func choose(list string) ([]*engine, error) {
	wanted := strings.Split(list, ",")
	if list == "all" {
		wanted = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return engines[name] == nil })
	}
	var chosen []*engine
	for _, name := range wanted {
		e := engines[name]
		switch {
		case e != nil:
			chosen = append(chosen, e)
		case slices.Contains(names, name):
			return nil, fmt.Errorf("%s is not in this build: it needs cgo, and so a C compiler, or another system", name)
		default:
			return nil, fmt.Errorf("no engine is called %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return chosen, nil
}

// runs tells whether the engine can run a workload.
func (e *engine) runs(w *workload) bool { return e.only == nil || slices.Contains(e.only, w.name) }
