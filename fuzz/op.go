package fuzz

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An op is one step of a script: a kind, and the operands that the kind uses.
// Ops hold no randomness and depend on nothing but the ops before them, so a
// list of them can be printed, cut down and run again.
type op struct {
	kind kind
	tx   int      // 0: the write transaction, 1 to maxViews: a view
	b    ref      // the bucket it is about
	to   []string // the bucket that another one is moved to
	k, l []byte   // keys, bounds; nil is no bound
	v    value
	n    int // slot, count, index: see the kind
}

// A ref names a bucket by a path from the root, or, with slot > 0, by a handle
// that the transaction has held since an earlier op.
type ref struct {
	slot int
	path []string
}

type kind int

const (
	kBegin kind = iota
	kCommit
	kRollback
	kView
	kEnd
	kVerify
	kUpdate
	kFailedUpdate
	kPanickingUpdate
	kReopen
	kReadOnly
	kCrash
	kCheckpoint
	kSync
	kCheck
	kTxCheck
	kCompact
	kBackup
	kCopyFile
	kStats
	kRelaxed
	kOnCommit

	kGet
	kPut
	kDelete
	kDeleteRange
	kFill
	kCreateBucket
	kEnsureBucket
	kDeleteBucket
	kMoveBucket
	kHold
	kSequence
	kSetSequence
	kNextSequence
	kLen
	kCount
	kRank
	kAt
	kAll
	kBackward
	kRange
	kPrefix
	kForEach
	kForEachBucket
	kBucketStats

	kCursor
	kFirst
	kLast
	kSeek
	kNext
	kPrev
	kCursorDelete
	kIter
	kPull

	kindCount
)

// kinds gives each kind its word, and the operands in the order of its text: t
// transaction, b bucket, p destination path, k and l keys, v value, n number.
var kinds = [kindCount]struct{ word, operands string }{
	kBegin:           {"begin", ""},
	kCommit:          {"commit", ""},
	kRollback:        {"rollback", ""},
	kView:            {"view", "t"},
	kEnd:             {"end", "t"},
	kVerify:          {"verify", "t"},
	kUpdate:          {"update", "bkvn"},      // n puts in an Update or, n odd, a Batch
	kFailedUpdate:    {"failed-update", "kv"}, // an Update whose function returns an error
	kPanickingUpdate: {"panicking-update", "kv"},
	kReopen:          {"reopen", "n"}, // n draws new options
	kReadOnly:        {"read-only", ""},
	kCrash:           {"crash", ""}, // copies the files as they are, and opens the copy
	kCheckpoint:      {"checkpoint", ""},
	kSync:            {"sync", ""},
	kCheck:           {"check", ""},
	kTxCheck:         {"tx-check", "t"},
	kCompact:         {"compact", ""},
	kBackup:          {"backup", ""},
	kCopyFile:        {"copy-file", "t"},
	kStats:           {"stats", ""},
	kRelaxed:         {"relaxed", "n"}, // n even: Sync, odd: Relaxed
	kOnCommit:        {"on-commit", ""},

	kGet:          {"get", "tbk"},
	kPut:          {"put", "tbkv"},
	kDelete:       {"delete", "tbk"},
	kDeleteRange:  {"delete-range", "tbkl"},
	kFill:         {"fill", "tbkvn"}, // n keys behind k: see fillKey
	kCreateBucket: {"create-bucket", "tbk"},
	kEnsureBucket: {"ensure-bucket", "tbk"},
	kDeleteBucket: {"delete-bucket", "tbk"},
	kMoveBucket:   {"move-bucket", "tbkp"},
	kHold:         {"hold", "tbn"}, // keeps the handle in slot n
	kSequence:     {"sequence", "tb"},
	kSetSequence:  {"set-sequence", "tbn"},
	kNextSequence: {"next-sequence", "tb"},
	kLen:          {"len", "tb"},
	kCount:        {"count", "tbkl"},
	kRank:         {"rank", "tbk"},
	kAt:           {"at", "tbn"},
	kAll:          {"all", "tb"},
	kBackward:     {"backward", "tb"},
	kRange:        {"range", "tbkl"},
	kPrefix:       {"prefix", "tbk"},
	kForEach:      {"for-each", "tb"},
	kForEachBucket: {
		"for-each-bucket", "tb"},
	kBucketStats: {"bucket-stats", "tb"},

	kCursor:       {"cursor", "tbn"}, // a cursor in slot n; the others use it
	kFirst:        {"first", "tn"},
	kLast:         {"last", "tn"},
	kSeek:         {"seek", "tkn"},
	kNext:         {"next", "tn"},
	kPrev:         {"prev", "tn"},
	kCursorDelete: {"cursor-delete", "tn"},
	kIter:         {"iter", "tbkln"}, // an iterator in slot n: Range(k, l), or Backward in slot -n
	kPull:         {"pull", "tn"},    // its next item
}

// String gives the op as a line of a script.
func (o op) String() string {
	var s strings.Builder
	s.WriteString(kinds[o.kind].word)
	for _, operand := range kinds[o.kind].operands {
		s.WriteByte(' ')
		switch operand {
		case 't':
			s.WriteString(txName(o.tx))
		case 'b':
			s.WriteString(o.b.String())
		case 'p':
			s.WriteString(quotePath(o.to))
		case 'k':
			s.WriteString(quote(o.k))
		case 'l':
			s.WriteString(quote(o.l))
		case 'v':
			fmt.Fprintf(&s, "%d.%d", o.v.n, o.v.seed)
		case 'n':
			s.WriteString(strconv.Itoa(o.n))
		}
	}
	return s.String()
}

// parseOp reads what String wrote.
func parseOp(line string) (op, error) {
	words, err := splitOutsideQuotes(line, ' ')
	if err != nil {
		return op{}, err
	}
	k := slices.IndexFunc(kinds[:], func(k struct{ word, operands string }) bool { return k.word == words[0] })
	if k < 0 {
		return op{}, fmt.Errorf("no such operation: %q", words[0])
	}
	o := op{kind: kind(k)}
	if len(words)-1 != len(kinds[k].operands) {
		return op{}, fmt.Errorf("%q: %d operands, want %d", line, len(words)-1, len(kinds[k].operands))
	}
	for i, operand := range kinds[k].operands {
		if err := o.parseOperand(operand, words[i+1]); err != nil {
			return op{}, fmt.Errorf("%q: %w", line, err)
		}
	}
	return o, nil
}

func (o *op) parseOperand(operand rune, word string) (err error) {
	switch operand {
	case 't':
		o.tx, err = parseTx(word)
	case 'b':
		o.b, err = parseRef(word)
	case 'p':
		o.to, err = parsePath(word)
	case 'k':
		o.k, err = unquote(word)
	case 'l':
		o.l, err = unquote(word)
	case 'v':
		_, err = fmt.Sscanf(word, "%d.%d", &o.v.n, &o.v.seed)
	case 'n':
		o.n, err = strconv.Atoi(word)
	}
	return err
}

func txName(tx int) string {
	if tx == 0 {
		return "w"
	}
	return "r" + strconv.Itoa(tx)
}

func parseTx(word string) (int, error) {
	if word == "w" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(word, "r"))
	if err != nil || n < 1 || n > maxViews {
		return 0, fmt.Errorf("no such transaction: %q", word)
	}
	return n, nil
}

func (r ref) String() string {
	if r.slot > 0 {
		return "@" + strconv.Itoa(r.slot)
	}
	return quotePath(r.path)
}

func parseRef(word string) (r ref, err error) {
	if strings.HasPrefix(word, "@") {
		r.slot, err = strconv.Atoi(word[1:])
		return r, err
	}
	r.path, err = parsePath(word)
	return r, err
}

func quotePath(path []string) string {
	if len(path) == 0 {
		return "/"
	}
	var s strings.Builder
	for _, name := range path {
		s.WriteString("/" + quote([]byte(name)))
	}
	return s.String()
}

func parsePath(word string) ([]string, error) {
	if word == "/" {
		return nil, nil
	}
	names, err := splitOutsideQuotes(word, '/')
	if err != nil || names[0] != "" {
		return nil, fmt.Errorf("not a path: %q", word)
	}
	var path []string
	for _, quoted := range names[1:] {
		name, err := unquote(quoted)
		if err != nil {
			return nil, err
		}
		path = append(path, string(name))
	}
	return path, nil
}

// longRun is from where on a repeated byte is written once with its count.
const longRun = 12

// quote writes key bytes as text: "-" for nil, plain words as they are, all
// else as Go strings, with long repetitions as "x"*1000, joined by "+".
func quote(b []byte) string {
	if b == nil {
		return "-"
	}
	var parts []string
	literal := 0
	for i := 0; i < len(b); {
		j := i + 1
		for j < len(b) && b[j] == b[i] {
			j++
		}
		if j-i >= longRun {
			if literal < i {
				parts = append(parts, quoteShort(b[literal:i]))
			}
			parts = append(parts, strconv.QuoteToASCII(string(b[i:i+1]))+"*"+strconv.Itoa(j-i))
			literal = j
		}
		i = j
	}
	if literal < len(b) || len(b) == 0 {
		parts = append(parts, quoteShort(b[literal:]))
	}
	return strings.Join(parts, "+")
}

func quoteShort(b []byte) string {
	plain := len(b) > 0
	for _, c := range b {
		plain = plain && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9')
	}
	if plain {
		return string(b)
	}
	return strconv.QuoteToASCII(string(b))
}

// unquote reads what quote wrote.
func unquote(word string) ([]byte, error) {
	if word == "-" {
		return nil, nil
	}
	parts, err := splitOutsideQuotes(word, '+')
	if err != nil {
		return nil, err
	}
	b := []byte{}
	for _, part := range parts {
		text, times := part, 1
		if i := strings.LastIndex(part, `"*`); i > 0 && !strings.HasSuffix(part, `"`) {
			text = part[:i+1]
			if times, err = strconv.Atoi(part[i+2:]); err != nil || times < 0 || times > 1<<20 {
				return nil, fmt.Errorf("bad repetition: %q", part)
			}
		}
		if strings.HasPrefix(text, `"`) {
			if text, err = strconv.Unquote(text); err != nil {
				return nil, fmt.Errorf("bad string %q: %w", part, err)
			}
		}
		b = append(b, strings.Repeat(text, times)...)
	}
	return b, nil
}

// splitOutsideQuotes splits s at every sep that is not inside a Go string.
func splitOutsideQuotes(s string, sep byte) ([]string, error) {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if quoted {
		return nil, fmt.Errorf("open quote: %q", s)
	}
	return append(parts, s[start:]), nil
}
