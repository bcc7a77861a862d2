package page

import (
	"bytes"
	"testing"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":               ``,
		"user/1 ~":       `user/1 ~`,
		`a\b`:            `a\\b`,
		"\x00\n\x7f\xff": `\x00\x0a\x7f\xff`,
		"é":              `\xc3\xa9`,
		`"'`:             `"'`,
	} {
		if got := Escape([]byte(text)); got != want {
			t.Errorf("Escape(%q) = %s, want %s", text, got, want)
		}
	}
	for text, want := range map[string]string{`\xAf`: "\xaf", "é": "é", `a\\x41`: `a\x41`} {
		if got, err := Unescape(text); err != nil || string(got) != want {
			t.Errorf("Unescape(%s) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{`\`, `\x`, `\x1`, `\xg0`, `\x0g`, `\n`, `\\\`, `\X41`} {
		if got, err := Unescape(bad); err == nil {
			t.Errorf("Unescape(%s) = %q", bad, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte("a\\x00\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Escape(b)
		for _, c := range []byte(s) {
			if c < ' ' || c > '~' {
				t.Fatalf("Escape(%q) = %q", b, s)
			}
		}
		back, err := Unescape(s)
		if err != nil || !bytes.Equal(back, b) {
			t.Fatalf("%q escapes to %s, which is %q, %v", b, s, back, err)
		}
		if back, err := Unescape(string(b)); err == nil && len(back) > len(b) {
			t.Fatalf("%q stands for %q", b, back)
		}
	})
}
