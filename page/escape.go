package page

import "fmt"

// Escape returns b as text on one line: printable ASCII as it is, a backslash as \\, every other byte as \xNN in
// lower case. Unescape is its inverse.
func Escape(b []byte) string {
	return string(AppendEscaped(make([]byte, 0, len(b)+8), b))
}

// AppendEscaped appends the escaped form of b to dst.
func AppendEscaped(dst, b []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range b {
		switch {
		case c == '\\':
			dst = append(dst, '\\', '\\')
		case c >= ' ' && c <= '~':
			dst = append(dst, c)
		default:
			dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// Unescape returns the bytes that s stands for. Hexadecimal digits may be in either case, and bytes that Escape
// would have escaped may stand as they are. A backslash that begins neither \\ nor \xNN is an error.
func Unescape(s string) ([]byte, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		rest := s[i+1:]
		switch {
		case len(rest) >= 1 && rest[0] == '\\':
			b = append(b, '\\')
			i++
		case len(rest) >= 3 && rest[0] == 'x' && isHex(rest[1]) && isHex(rest[2]):
			b = append(b, hexValue(rest[1])<<4|hexValue(rest[2]))
			i += 3
		default:
			return nil, fmt.Errorf("page: byte %d of %q: backslash that is neither \\\\ nor \\xNN", i, s)
		}
	}
	return b, nil
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
