package wal

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// linkHead fills a link's payload, which names where the next record lies and its
// epoch, and returns the head that goes with it.
func linkHead(payload []byte, target int64, epoch uint64) head {
	binary.LittleEndian.PutUint64(payload, uint64(target))
	binary.LittleEndian.PutUint64(payload[8:], epoch)
	return head{kind: kindLink, length: linkPayload, payload: xxhash.Sum64(payload)}
}

// parseLink reads a link's payload; ok reports whether the target can be a
// record's place in a file of size bytes.
func parseLink(payload []byte, size int64) (target int64, epoch uint64, ok bool) {
	if len(payload) != linkPayload {
		return 0, 0, false
	}
	t := binary.LittleEndian.Uint64(payload)
	ok = t >= recordsAt && t%block == 0 && t <= uint64(size)
	return int64(t), binary.LittleEndian.Uint64(payload[8:]), ok
}
