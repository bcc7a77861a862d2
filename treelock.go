package folio

// The tree lock is held by who changes pages: a transaction from when it goes over to the tree until its end, or somebody
// who applies the backlog. It guards the pager, the table of frames, the buffers, and head together with groups.mu.
//
// Who waits for it to have a state applied does not wait for the holder's end if that state has come to be applied: a
// transaction applies all there is before anything of its own, so nobody waits for a user's function.

// lockTree takes the tree lock. It reports false, and does not take it, as soon as done, called with groups.mu held, does.
func (db *DB) lockTree(done func() bool) bool {
	g := &db.groups
	for {
		g.mu.Lock()
		if done != nil && done() {
			g.mu.Unlock()
			return false
		}
		if !g.treeHeld {
			g.treeHeld = true
			g.mu.Unlock()
			return true
		}
		if g.treeFree == nil {
			g.treeFree = make(chan struct{})
		}
		free := g.treeFree
		g.mu.Unlock()
		<-free
	}
}

// tryLockTree takes the tree lock if nobody has it.
func (db *DB) tryLockTree() bool {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.treeHeld {
		return false
	}
	g.treeHeld = true
	return true
}

func (db *DB) unlockTree() {
	g := &db.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	g.treeHeld = false
	g.wakeTree()
}

// wakeTree has those who wait for the tree lock look again. mu is held.
func (g *groups) wakeTree() {
	if g.treeFree != nil {
		close(g.treeFree)
		g.treeFree = nil
	}
}
