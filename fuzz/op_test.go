package fuzz

import (
	"bytes"
	"strings"
	"testing"
)

// TestScriptText holds printing and parsing of scripts together: a failure is of no
// use if its script reads back as another one.
func TestScriptText(t *testing.T) {
	text := `options page=4096 log=262144 memory=0 relaxed no-file
begin
put w /a/"b c" "\x00x"+"L"*4096+9 300.17
move-bucket w / a /"/"
delete-range r2 @3 - ""
iter w / a - -2
commit
`
	s, err := parseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	if s.String() != text {
		t.Errorf("printed again:\n%s", s)
	}
	if put := s.ops[1]; len(put.k) != 4099 || put.b.path[1] != "b c" || put.v != (value{300, 17}) {
		t.Errorf("put read as %+v", put)
	}
	if r := s.ops[3]; r.k != nil || r.l == nil {
		t.Error("no bound and the empty bound read alike")
	}
	for _, bad := range []string{"", "jump w", "get w /", "get q / a", `get w / "a`, `get w / "\q"`, "at w / x", "get w a b"} {
		if o, err := parseOp(bad); err == nil {
			t.Errorf("%q read as %v", bad, o)
		}
	}
}

// TestGenerated checks what the generator makes: each kind of op, each of which
// reads back as printed, in every run of a fair length.
func TestGenerated(t *testing.T) {
	var made [kindCount]int
	dir := scratch(t)
	for seed := uint64(1); seed <= 8; seed++ {
		s := newSeeded(seed)
		cfg := drawConfig(s)
		cfg.memory = true
		w, err := newWorld(dir, cfg)
		if err != nil {
			t.Fatal(err)
		}
		g := newGenerator(s, cfg)
		g.heavy = 10
		for range 2000 {
			o := g.op(w)
			made[o.kind]++
			if again, err := parseOp(o.String()); err != nil || again.String() != o.String() {
				t.Fatalf("%v reads back as %v, %v", o, again, err)
			}
			if err := w.apply(o); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if err := w.finish(); err != nil {
			t.Fatal(err)
		}
	}
	for k, n := range made {
		if n == 0 {
			t.Errorf("%s was never chosen", kinds[k].word)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte(strings.Repeat("x", 40) + "\"+*-/"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := unquote(quote(b))
		if err != nil || !bytes.Equal(got, b) || (got == nil) != (b == nil) {
			t.Errorf("%q became %s, read as %q, %v", b, quote(b), got, err)
		}
	})
}
