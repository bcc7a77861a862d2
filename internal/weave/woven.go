package weave

// Woven says that the library has been rewritten to use this package. Rewrite replaces this file.
const Woven = false
