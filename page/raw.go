package page

// Raw returns the bytes of a page that Page or Run has verified, whatever it holds. It verifies nothing
// itself but that the page is one of the view's; nil: it is not.
func (v *View) Raw(id ID) []byte {
	if id >= v.count {
		return nil
	}
	return v.at(id)[:v.size:v.size]
}
