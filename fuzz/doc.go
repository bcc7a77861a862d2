// Package fuzz tests the whole store through its public API and nothing else:
//
//   - TestModel runs random operations on a store and on a model of it, and
//     compares every answer (model.go, op.go, world.go);
//   - FuzzStore lets the native fuzzer choose the same operations;
//   - FuzzOpen damages the files of a store and opens what is left;
//   - TestFixedDamage changes field by field, and puts the checksums right;
//   - TestFullDisk fills small disks, TestCut cuts the file of a store in use;
//   - TestKill kills a writing process at random moments;
//   - TestConcurrent has many goroutines write, read and copy at once.
//
// A failure prints the seed, the step and the command that replays it, and a
// shrunk script that can be pasted into testdata as the regression test.
//
// The package owns no format and tests no layer by itself: those tests lie
// beside the layers.
package fuzz
