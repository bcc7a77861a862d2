//go:build cgo

package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"

	_ "github.com/mattn/go-sqlite3" // the driver
)

// SQLite: write-ahead log, as its docs advise where reads and writes meet; synchronous=FULL makes a commit durable in
// that mode, NORMAL is the relaxed one. The table has no rowid, so that the key's index is the table. Each connection
// has a page cache of 64 MiB. Writers take their turns in Go, on one connection: SQLite lets a single one write, and its
// own way of waiting is to sleep and try again. Statements are prepared once.
func init() { register(&engine{name: "sqlite", open: openSQLite, keeps: true}) }

type sqliteStore struct {
	readers, writer *sql.DB
	get, scan, back *sql.Stmt // prepared for readers
	put, del        *sql.Stmt // prepared for writer
}

func openSQLite(dir string, how setting) (store, error) {
	name := "file:" + filepath.Join(dir, "sqlite.db") + "?_journal_mode=WAL&_busy_timeout=10000&_cache_size=-65536"
	if how.relaxed {
		name += "&_synchronous=NORMAL"
	} else {
		name += "&_synchronous=FULL"
	}
	writer, err := sql.Open("sqlite3", name+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	readers, err := sql.Open("sqlite3", name+"&_txlock=deferred")
	if err != nil {
		_ = writer.Close()
		return nil, err
	}
	writer.SetMaxOpenConns(1)
	readers.SetMaxIdleConns(64) // by default two are kept, and others opened again for each read
	s := &sqliteStore{readers: readers, writer: writer}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *sqliteStore) prepare() error {
	if _, err := s.writer.Exec("CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"); err != nil {
		return err
	}
	for _, p := range []struct {
		stmt **sql.Stmt
		db   *sql.DB
		text string
	}{
		{&s.get, s.readers, "SELECT v FROM kv WHERE k = ?"},
		{&s.scan, s.readers, "SELECT k, v FROM kv WHERE k >= ? ORDER BY k"},
		{&s.back, s.readers, "SELECT k, v FROM kv ORDER BY k DESC"},
		{&s.put, s.writer, "INSERT INTO kv (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"},
		{&s.del, s.writer, "DELETE FROM kv WHERE k = ?"},
	} {
		var err error
		if *p.stmt, err = p.db.Prepare(p.text); err != nil {
			return err
		}
	}
	return nil
}

func (s *sqliteStore) Close() error { return errors.Join(s.readers.Close(), s.writer.Close()) }

func (s *sqliteStore) View(fn func(reader) error) error {
	tx, err := s.readers.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	err = fn(&sqliteReader{tx.Stmt(s.get), tx, s})
	return errors.Join(err, tx.Rollback())
}

func (s *sqliteStore) Update(fn func(writer) error) error {
	tx, err := s.writer.Begin()
	if err != nil {
		return err
	}
	if err := fn(sqliteWriter{tx.Stmt(s.put), tx.Stmt(s.del)}); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

type sqliteReader struct {
	get *sql.Stmt
	tx  *sql.Tx
	s   *sqliteStore
}

func (r *sqliteReader) Get(key []byte) ([]byte, error) {
	var value []byte
	err := r.get.QueryRow(key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

func (r *sqliteReader) Scan(from []byte, fn func(key, value []byte) bool) error {
	if from == nil {
		from = []byte{} // nil would be NULL, which is above nothing
	}
	return iterateSQL(r.tx.Stmt(r.s.scan), fn, from)
}

func (r *sqliteReader) ScanBack(fn func(key, value []byte) bool) error {
	return iterateSQL(r.tx.Stmt(r.s.back), fn)
}

func iterateSQL(stmt *sql.Stmt, fn func(key, value []byte) bool, args ...any) error {
	rows, err := stmt.Query(args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var key, value sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		if !fn(key, value) {
			return nil
		}
	}
	return rows.Err()
}

type sqliteWriter struct{ put, del *sql.Stmt }

func (w sqliteWriter) Put(key, value []byte) error {
	_, err := w.put.Exec(key, value)
	return err
}

func (w sqliteWriter) Delete(key []byte) error {
	_, err := w.del.Exec(key)
	return err
}
