package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// folderSource reads every regular file below a folder; the key is its path from
// there, with slashes.
type folderSource struct {
	dir     string
	own     []string    // base names of the store's own files, which are left out
	home    fs.FileInfo // folder that they lie in; nil if it is not there yet
	bytes   int64       // of all files; -1: not counted
	skipped *int
}

func (l *load) openFolder() (source, error) {
	info, err := os.Stat(l.dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, usagef("--dir %s is not a folder", l.dir)
	}
	base := filepath.Base(l.store)
	s := &folderSource{dir: l.dir, own: []string{base, base + "-wal", base + "-lock"}, bytes: -1, skipped: &l.skipped}
	s.home, _ = os.Stat(filepath.Dir(l.store)) // if it is not there, Open will say so
	if l.onTerminal() && !l.quiet {
		s.bytes = 0
		err = s.walk(func(_ string, info fs.FileInfo) error {
			s.bytes += info.Size()
			return nil
		})
		l.skipped = 0 // the second walk counts them again
	}
	return s, err
}

func (s *folderSource) size() int64  { return s.bytes }
func (s *folderSource) noun() string { return "file" }
func (s *folderSource) close()       {}

func (s *folderSource) read(to *batcher, bar *progress) error {
	return s.walk(func(path string, _ fs.FileInfo) error {
		value, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.dir, path)
		if err != nil {
			return err
		}
		if err := to.put([]byte(filepath.ToSlash(rel)), value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		bar.add(len(value))
		return nil
	})
}

// walk calls fn for each file in the order of paths. Links are not followed; they and
// other special files are counted.
func (s *folderSource) walk(fn func(path string, info fs.FileInfo) error) error {
	// With a separator at its end a link to a folder is walked as the folder.
	root := strings.TrimRight(s.dir, string(filepath.Separator)) + string(filepath.Separator)
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case s.isOwn(path):
			return nil
		case !info.Mode().IsRegular():
			*s.skipped++
			return nil
		}
		return fn(path, info)
	})
}

// isOwn reports whether a file is the store itself or lies beside it as a part of it.
func (s *folderSource) isOwn(path string) bool {
	if s.home == nil || !slices.Contains(s.own, filepath.Base(path)) {
		return false
	}
	parent, err := os.Stat(filepath.Dir(path))
	return err == nil && os.SameFile(parent, s.home)
}
