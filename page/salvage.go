package page

// StoreIDOf returns the store id in a meta slot that may be damaged otherwise; false: p does not even begin as a slot does. It
// proves nothing, but an id that something else has too is no accident.
func StoreIDOf(p []byte) (id [16]byte, ok bool) {
	if !IsMeta(p) || len(p) < MetaSize {
		return id, false
	}
	return [16]byte(p[metaStoreID:]), true
}
