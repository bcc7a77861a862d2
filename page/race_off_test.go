//go:build !race

package page

// raceEnabled says that the race detector is on.
const raceEnabled = false
