package folio

import (
	"errors"
	"testing"
)

// A transaction that had passed the look at whether the store is being closed, and was held up, looked at the table when Close had
// unmapped it.
func TestBeginBesideClose(t *testing.T) {
	w := mustOpen(t, nil)
	mustPut(t, w, "k", "v")
	r := openAgain(t, w.Path(), Options{ReadOnly: true})
	has(t, r, "k", "v")
	must(t, r.Close())
	if _, _, err := r.pinShared(); !errors.Is(err, ErrDatabaseNotOpen) { // what is left of Begin
		t.Error(err)
	}
}
