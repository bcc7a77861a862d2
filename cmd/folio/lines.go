package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/foliodb/folio/page"
)

// A lineFormat is how a line stands for a record.
type lineFormat struct {
	json     bool
	raw      bool
	keyField string
}

// hasJSONName reports whether the name of a file says that it holds JSON lines.
func hasJSONName(name string) bool {
	return slices.Contains([]string{".json", ".jsonl", ".ndjson"}, strings.ToLower(filepath.Ext(name)))
}

// lineSource reads records from lines.
type lineSource struct {
	lineFormat
	in    io.Reader
	file  *os.File // nil: standard input
	bytes int64
}

func (l *load) openLines() (source, error) {
	if l.file == "" || l.file == "-" {
		return &lineSource{lineFormat: l.lines, in: l.in, bytes: -1}, nil
	}
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	s := &lineSource{lineFormat: l.lines, in: f, file: f, bytes: -1}
	switch info, err := f.Stat(); {
	case err != nil:
	case info.IsDir(): // before a store is made
		f.Close()
		return nil, usagef("%s is a folder; --dir loads the files in it", l.file)
	case info.Mode().IsRegular():
		s.bytes = info.Size()
	}
	return s, nil
}

func (s *lineSource) size() int64  { return s.bytes }
func (s *lineSource) noun() string { return "record" }

func (s *lineSource) close() {
	if s.file != nil {
		s.file.Close()
	}
}

func (s *lineSource) read(to *batcher, bar *progress) error {
	in := bufio.NewReaderSize(s.in, 1<<20)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if len(line) > 0 {
			if err := s.record(to, line); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			bar.add(len(line))
		}
		if err != nil {
			return nil
		}
	}
}

// record puts the record that a line stands for.
func (s *lineSource) record(to *batcher, line []byte) error {
	line = bytes.TrimSuffix(line, []byte("\n"))
	if !s.raw {
		line = bytes.TrimSuffix(line, []byte("\r"))
	}
	switch {
	case len(line) == 0:
		return nil
	case s.keyField != "":
		return s.document(to, line)
	case s.json:
		return s.object(to, line)
	}
	text, value, tab := strings.Cut(string(line), "\t")
	name, slash := strings.CutSuffix(text, "/")
	if !tab && !slash {
		return usagef("no tab between a key and a value")
	}
	if !tab {
		text = name
	}
	key, err := s.unescape(text)
	if err != nil {
		return err
	}
	if !tab {
		return to.makeBucket(key)
	}
	v, err := s.unescape(value)
	if err != nil {
		return err
	}
	return to.put(key, v)
}

func (s *lineSource) unescape(text string) ([]byte, error) {
	if s.raw {
		return []byte(text), nil
	}
	return unescape(text)
}

// object puts what "folio scan --json" prints, or an object of the same form.
func (s *lineSource) object(to *batcher, line []byte) error {
	var it struct {
		Key    json.RawMessage `json:"key"`
		Value  json.RawMessage `json:"value"`
		Bucket bool            `json:"bucket"`
	}
	if err := json.Unmarshal(line, &it); err != nil {
		return jsonError(err)
	}
	if it.Key == nil || it.Value == nil && !it.Bucket {
		return usagef(`the object has no "key" or no "value"; --key names the field of other objects`)
	}
	key, err := s.jsonText(it.Key)
	if err != nil {
		return err
	}
	if it.Bucket && it.Value != nil && string(it.Value) != "null" {
		return usagef(`the object has a "value", and says that it is a bucket`)
	}
	if it.Bucket {
		return to.makeBucket(key)
	}
	value, err := s.jsonText(it.Value)
	if err != nil {
		return err
	}
	return to.put(key, value)
}

// jsonError says why a line is no object; the types that it was read into are of no use
// to whoever wrote it.
func jsonError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return usagef("not JSON: byte %d: %w", syntax.Offset, err)
	}
	return usagef("not a JSON object of the right form")
}

// jsonText gives the bytes that a JSON string stands for, and the text of anything else.
func (s *lineSource) jsonText(raw json.RawMessage) ([]byte, error) {
	var text string
	if raw[0] != '"' {
		return raw, nil
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, usagef("not a JSON string: %w", err)
	}
	if !isText(raw) {
		return nil, usagef("%s is no text: bytes that are not UTF-8, or half of a surrogate pair", page.Escape(raw))
	}
	return s.unescape(text)
}

// isText reports whether a JSON string is UTF-8 and has no half of a surrogate pair. Both come as U+FFFD: two keys would be one.
func isText(raw []byte) bool {
	high := false // the first half came just before
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' || raw[i+1] != 'u' {
			if high {
				return false
			}
			if raw[i] == '\\' {
				i++
			}
			continue
		}
		n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
		low := n >= 0xdc00 && n < 0xe000
		if err != nil || low != high {
			return false
		}
		high = n >= 0xd800 && n < 0xdc00
		i += 5
	}
	return utf8.Valid(raw)
}

// document puts a whole JSON object under one of its fields.
func (s *lineSource) document(to *batcher, line []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return jsonError(err)
	}
	field, ok := fields[s.keyField]
	if !ok {
		return usagef("the object has no field %q", s.keyField)
	}
	raw := lineSource{lineFormat: lineFormat{raw: true}}
	key, err := raw.jsonText(field)
	if err != nil {
		return err
	}
	return to.put(key, bytes.TrimSpace(line))
}
