package fuzz

import (
	"path/filepath"
	"testing"
)

// TestDamage opens stores damaged in ways that FuzzOpen, or TestFixedDamage, found to be answered wrongly
// once, told as what they are: offsets are those of FORMAT.md.
func TestDamage(t *testing.T) {
	const (
		slot1          = imagePageSize
		metaCheckpoint = 40
		metaTx         = 48
		metaFree       = 88 // the free set's run and length
		metaFreeEnd    = 116
		logVersion     = 8
	)
	images := map[string]*image{}
	for _, im := range buildImages(t) {
		images[im.name] = im
	}
	for _, c := range []struct {
		name, image string
		fixed       bool // put the checksums right
		damage      func(im *image)
	}{
		{"an empty file beside a log", "killed", false, func(im *image) { im.data = nil }},
		{"a file of zeros beside a log", "killed", false, func(im *image) { im.data = make([]byte, 316) }},
		{"damage in the log, and part of a page at the file's end", "killed", false, func(im *image) {
			im.data = append(im.data, make([]byte, 142)...)
			clear(im.log[logFirst+2*logBlock:][:logBlock])
		}},
		{"a log of another version", "killed", true, func(im *image) { im.log[logVersion] = 9 }},
		{"checkpoint number 0 in the one sound slot", "closed", true, func(im *image) {
			clear(im.data[:8])
			clear(im.data[slot1+metaCheckpoint:][:8])
		}},
		{"slots of one number with different free sets", "closed", true, func(im *image) {
			clear(im.data[metaFree:metaFreeEnd])
		}},
		// The next commit ended in a panic, and behind the last checkpoint number of all came 0, which no slot may have.
		{"transaction numbers at their end", "closed", true, func(im *image) {
			le.PutUint64(im.data[metaTx:], 1<<63-1)
			le.PutUint64(im.data[slot1+metaTx:], 1<<63-1)
		}},
		{"checkpoint numbers at their end", "closed", true, func(im *image) {
			le.PutUint64(im.data[metaCheckpoint:], 1<<64-1)
			le.PutUint64(im.data[slot1+metaCheckpoint:], 1<<64-1)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			im := images[c.image].clone()
			c.damage(im)
			if c.fixed {
				im.fix(images[c.image])
			}
			if err := openDamaged(filepath.Join(scratch(t), "app.db"), im, !c.fixed); err != nil {
				t.Error(err)
			}
		})
	}
}
