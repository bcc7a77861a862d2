package vfs

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// String returns the state as one line, from which ParseState and the same log
// make it again:
//
//	at=57 keep drop=12.0-3,14 torn=15.2:100
//
// is the crash at event 57 that keeps everything but sectors 0 to 3 of
// operation 12 and all of operation 14, and tears sector 2 of operation 15
// behind its first 100 bytes. The second word is what happens to the units that
// are not listed. A unit is an operation with a sector (12.3), a range
// of sectors (12.0-3), "size" (12.size), "name" or "name2" (12.name); the
// operation alone stands for all its units. "mix" and "garbage" are written
// like "torn", with their number. What Cut and Kill return has no text of its own:
// it is that of the state they were asked of.
func (s *State) String() string {
	kept := 0
	for _, f := range s.fates {
		if f == Keep {
			kept++
		}
	}
	rest := Keep
	if 2*kept < len(s.fates) {
		rest = Drop
	}
	var b strings.Builder
	fmt.Fprintf(&b, "at=%d %s", s.plan.at, fateWords[rest])
	for kind := range fateWords {
		var items []string
		for i := 0; i < len(s.fates); {
			n := s.run(i)
			if k, arg := s.fates[i].split(); int(k) == kind && k != rest {
				item := s.unitText(i, n)
				if k > Keep {
					item += ":" + strconv.Itoa(arg)
				}
				items = append(items, item)
			}
			i += n
		}
		if len(items) > 0 {
			fmt.Fprintf(&b, " %s=%s", fateWords[kind], strings.Join(items, ","))
		}
	}
	return b.String()
}

var fateWords = [...]string{Drop: "drop", Keep: "keep", torn: "torn", mixed: "mix", garbage: "garbage"}

// run is the number of units from i on that are written as one: all of an
// operation, or neighbouring sectors.
func (s *State) run(i int) int {
	u := s.plan.units
	same := func(j int) bool { return j < len(u) && u[j].Op == u[i].Op && s.fates[j] == s.fates[i] }
	n := 1
	for same(i + n) {
		n++
	}
	whole := (i == 0 || u[i-1].Op != u[i].Op) && (i+n == len(u) || u[i+n].Op != u[i].Op)
	if whole {
		return n
	}
	n = 1
	for u[i].isData() && same(i+n) && u[i+n].Part == u[i].Part+n {
		n++
	}
	return n
}

// unitText writes n units from i on, as run found them.
func (s *State) unitText(i, n int) string {
	u := s.plan.units
	op := strconv.Itoa(u[i].Op)
	if (i == 0 || u[i-1].Op != u[i].Op) && (i+n == len(u) || u[i+n].Op != u[i].Op) {
		return op
	}
	if n > 1 {
		return fmt.Sprintf("%s.%d-%d", op, u[i].Part, u[i+n-1].Part)
	}
	return op + "." + partText(u[i].Part)
}

func partText(part int) string {
	switch part {
	case PartSize:
		return "size"
	case PartName:
		return "name"
	case PartName - 1:
		return "name2"
	}
	return strconv.Itoa(part)
}

// Describe returns the operations in doubt, a line each, and what became of
// them: for people, and long.
func (s *State) Describe() string {
	var b strings.Builder
	u := s.plan.units
	for i := 0; i < len(u); {
		n := 1
		for i+n < len(u) && u[i+n].Op == u[i].Op {
			n++
		}
		what := "from before the log"
		if u[i].Op >= 0 {
			what = s.plan.log[u[i].Op].String()
		}
		fmt.Fprintf(&b, "%d %s:", u[i].Op, what)
		for end := i + n; i < end; {
			k := s.run(i)
			word := fateWords[s.fates[i]&fateMask]
			if k == n {
				fmt.Fprintf(&b, " %s", word)
			} else {
				_, part, _ := strings.Cut(s.unitText(i, k), ".")
				fmt.Fprintf(&b, " %s %s", part, word)
			}
			i += k
		}
		b.WriteString("\n")
	}
	return b.String()
}

// errStateText is what ParseState says of text that no State printed.
var errStateText = errors.New("vfs: not the text of a state of this log")

// ParseState makes the state again that String printed, from the same log.
func ParseState(log []Op, text string) (*State, error) {
	return NewHistory(log).Parse(text)
}

// Parse makes the state again that String printed, from the same log.
func (h *History) Parse(text string) (*State, error) {
	words := strings.Fields(text)
	if len(words) < 2 {
		return nil, errStateText
	}
	at, err := strconv.Atoi(strings.TrimPrefix(words[0], "at="))
	rest := slices.Index(fateWords[:], words[1])
	if err != nil || at < 0 || rest < 0 || rest > int(Keep) {
		return nil, errStateText
	}
	p := h.plan(at)
	fates := make([]Fate, len(p.units))
	for i := range fates {
		fates[i] = Fate(rest)
	}
	for _, word := range words[2:] {
		kindWord, list, _ := strings.Cut(word, "=")
		kind := slices.Index(fateWords[:], kindWord)
		if kind < 0 {
			return nil, errStateText
		}
		for _, item := range strings.Split(list, ",") {
			if err := p.parseItem(Fate(kind), item, fates); err != nil {
				return nil, fmt.Errorf("%w: %s", err, item)
			}
		}
	}
	return p.state(fates), nil
}

// parseItem sets the fates of the units that item lists.
func (p *plan) parseItem(kind Fate, item string, fates []Fate) error {
	unit, number, numbered := strings.Cut(item, ":")
	if numbered != (kind > Keep) {
		return errStateText
	}
	if numbered {
		n, err := strconv.ParseUint(number, 10, 32-fateBits)
		if err != nil {
			return errStateText
		}
		kind |= Fate(n) << fateBits
	}
	opText, part, parted := strings.Cut(unit, ".")
	op, err := strconv.Atoi(opText)
	if err != nil {
		return errStateText
	}
	from, to, ranged := strings.Cut(part, "-")
	if !ranged {
		to = from
	}
	found, inside := false, false
	for i := range p.units {
		u := &p.units[i]
		if u.Op != op {
			continue
		}
		is := partText(u.Part)
		inside = inside || is == from
		if inside || !parted {
			fates[i], found = kind, true
		}
		inside = inside && is != to
	}
	if !found {
		return errStateText
	}
	return nil
}
