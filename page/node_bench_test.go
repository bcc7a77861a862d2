package page

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// benchLeaves returns leaves of about n entries with random 8-byte keys below a common prefix, and all keys.
func benchLeaves(n, pages int, prefix string) (leaves []Leaf, keys [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	val := make([]byte, (4064*9/10)/n-leafSize-len(prefix)-8)
	for range pages {
		l := InitLeaf(make([]byte, 4096), 2, 1)
		for range n {
			k := binary.BigEndian.AppendUint64([]byte(prefix), r.Uint64())
			i, _ := l.Search(k)
			l.Insert(i, Entry{Key: k, KeyLen: len(k), Value: val, ValLen: len(val)})
			keys = append(keys, k)
		}
		fresh := make([]byte, 4096)
		l.CompactInto(fresh)
		leaves = append(leaves, fresh)
	}
	return leaves, keys
}

var benchSink int

// Each operation waits for the one before, as the steps of a descent do.

func BenchmarkLeaf(b *testing.B) {
	const pages = 64
	for _, n := range []int{20, 150} {
		leaves, keys := benchLeaves(n, pages, "")
		order := rand.New(rand.NewPCG(3, 4)).Perm(pages * n)
		b.Run(fmt.Sprintf("Find/%d", n), func(b *testing.B) {
			s := 0
			for i := 0; b.Loop(); i++ {
				k := order[(i+s>>20)%len(order)]
				s = leaves[k/n].Find(keys[k])
			}
			benchSink += s
		})
		b.Run(fmt.Sprintf("Search/%d", n), func(b *testing.B) {
			s := 0
			for i := 0; b.Loop(); i++ {
				k := order[(i+s>>20)%len(order)]
				s, _ = leaves[k/n].Search(keys[k])
			}
			benchSink += s
		})
		b.Run(fmt.Sprintf("Item/%d", n), func(b *testing.B) {
			s := 0
			for i := 0; b.Loop(); i++ {
				k, v, _, _ := leaves[i/n%pages].Item(i % n)
				s += len(k) + len(v)
			}
			benchSink += s
		})
		b.Run(fmt.Sprintf("InsertRemove/%d", n), func(b *testing.B) {
			e := Entry{Key: make([]byte, 8), KeyLen: 8, Value: make([]byte, 8), ValLen: 8}
			page := make([]byte, 4096)
			for i := 0; b.Loop(); i++ {
				l := leaves[i%pages]
				if l.Free() < EntrySize(4096, 8, 8) {
					l.CompactInto(page)
					page, leaves[i%pages] = l, page
					l = leaves[i%pages]
				}
				k := keys[order[i%len(order)]]
				j, _ := l.Search(k)
				e.Key = k
				l.Insert(j, e)
				l.Remove(j)
			}
		})
		b.Run(fmt.Sprintf("Compact/%d", n), func(b *testing.B) {
			page := make([]byte, 4096)
			for i := 0; b.Loop(); i++ {
				leaves[i%pages].CompactInto(page)
			}
		})
		b.Run(fmt.Sprintf("Validate/%d", n), func(b *testing.B) {
			for i := range leaves {
				Seal(leaves[i])
			}
			for i := 0; b.Loop(); i++ {
				if err := Validate(leaves[i%pages], 2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchBranches returns full branches of about n children.
func benchBranches(n, pages int, prefix string) (branches []Branch, keys [][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for range pages {
		b := InitBranch(make([]byte, 4096), 2, 1, 1)
		b.Insert(0, Sep{}, 5, 1, false)
		for range n - 1 {
			k := binary.BigEndian.AppendUint64([]byte(prefix), r.Uint64())
			sep := k[:len(prefix)+3+r.IntN(2)]
			b.Insert(b.Search(sep)+1, Sep{Key: sep, Len: len(sep)}, 5, 100, false)
			keys = append(keys, k)
		}
		branches = append(branches, b)
	}
	return branches, keys
}

func BenchmarkBranch(b *testing.B) {
	const pages = 64
	for _, n := range []int{150, 250} {
		for _, prefix := range []string{"", "user:"} {
			branches, keys := benchBranches(n, pages, prefix)
			order := rand.New(rand.NewPCG(3, 4)).Perm(len(keys))
			name := fmt.Sprintf("%d/prefix=%d", n, len(prefix))
			b.Run("Search/"+name, func(b *testing.B) {
				s := 0
				for i := 0; b.Loop(); i++ {
					k := order[(i+s>>20)%len(order)]
					s = branches[k%pages].Search(keys[k])
				}
				benchSink += s
			})
			b.Run("InsertRemove/"+name, func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					br, k := branches[i%pages], keys[order[i%len(order)]]
					j := br.Search(k)
					if !br.Insert(j+1, Sep{Key: k, Len: len(k)}, 9, 1, false) {
						b.Fatal("full")
					}
					br.Remove(j + 1)
				}
			})
			b.Run("Compact/"+name, func(b *testing.B) {
				page := make([]byte, 4096)
				for i := 0; b.Loop(); i++ {
					branches[i%pages].CompactInto(page)
				}
			})
			b.Run("Validate/"+name, func(b *testing.B) {
				for i := range branches {
					Seal(branches[i])
				}
				for i := 0; b.Loop(); i++ {
					if err := Validate(branches[i%pages], 2); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	page := make([]byte, 4096)
	for b.Loop() {
		Seal(page)
	}
}
