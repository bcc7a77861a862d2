//go:build !linux

package main

// settle does nothing: there is no call for it that all these systems have.
func settle() {}
