# A durable commit is one write and one sync of the log, and nothing else.
open
----
tx 0

update
put a 1
----
ok

update
put b 2
----
ok

io
----
write app.db-wal 512@4608
sync app.db-wal

# So is a transaction of many changes.
update
put c 3
del a
create d
put d/e 4
----
ok

io
----
write app.db-wal 512@5120
sync app.db-wal

# Nothing was published: the changed pages wait on the heap for somebody to look.
stats last published checkpoint
----
last 3, published 0, checkpoint 0

view
scan
----
b = "2"
c = "3"
d = -

# A look writes them, and syncs nothing.
io
----
write app.db 4096@12288

# While readers come and go, the commit publishes itself, after it was acknowledged.
update
put f 5
----
ok

io
----
write app.db-wal 512@5632
write app.db 4096@8192
sync app.db-wal

# A transaction that changes nothing writes nothing.
update
del nothing
----
ok

io
----
ok
