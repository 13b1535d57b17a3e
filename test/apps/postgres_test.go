package apps

import (
	"path/filepath"
	"testing"
)

// TestPostgres: a cluster of its own, a backend process for each connection;
// pgbench's transactions, whose sums must agree afterwards, and a table that
// goes out and comes back by COPY.
func TestPostgres(t *testing.T) {
	s := newScene(t, "postgres", "pgbench", "initdb", "psql")
	s.env = append(s.env, "PG="+filepath.Dir(program(t, "postgres")), "PGUSER=scene", "PGHOST=127.0.0.1", "PGPORT=5433", "PGDATABASE=postgres")
	s.bash(`
PATH=$PG:$PATH
initdb -D "$D/db" -A trust -U scene --no-sync --locale=C -E UTF8 >initdb.log 2>&1 || fail "initdb: $(tail -3 initdb.log)"
start postgres postgres -D "$D/db" -c listen_addresses=127.0.0.1,::1 -c port=5433 -c unix_socket_directories= -c fsync=off -c max_connections=30 -c tcp_keepalives_idle=30 -c tcp_user_timeout=20000
postgres=$!
listening 5433
until_true 100 psql -c 'select 1'
q() { psql -X -A -t -c "$1"; }
pgbench -i -s 1 -q >pginit.log 2>&1 || fail "pgbench -i: $(tail -3 pginit.log)"
equal accounts "$(q 'select count(*) from pgbench_accounts')" 100000
pgbench -c 8 -j 2 -t 50 -n >pgbench.log 2>&1 || fail "pgbench: $(tail -3 pgbench.log)"
grep -q 'number of transactions actually processed: 400/400' pgbench.log || fail "$(cat pgbench.log)"
equal history "$(q 'select count(*) from pgbench_history')" 400
equal sums "$(q 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), (select sum(bbalance) from pgbench_branches) = (select sum(tbalance) from pgbench_tellers)')" "t|t"
pgbench -c 5 -C -t 5 -n -S >pgbenchC.log 2>&1 || fail "pgbench -C: $(tail -3 pgbenchC.log)"
# 6 MB out and in again, over IPv6.
psql -X -h ::1 -c "copy (select i, md5(i::text) from generate_series(1, 150000) i) to stdout" >rows.out || fail "copy out"
q 'create table back (i int, m text)' >/dev/null
psql -X -h ::1 -c 'copy back from stdin' <rows.out >/dev/null || fail "copy in"
equal "rows back" "$(q 'select count(*), sum(i), bool_and(m = md5(i::text)) from back')" "150000|11250075000|t"
# Cancel goes over a connection of its own; a notification arrives unasked.
psql -X -c 'select pg_sleep(30)' >cancel.out 2>&1 & sleeper=$!
sleeping() { [ "$(q "select count(*) from pg_stat_activity where query = 'select pg_sleep(30)' and client_addr = '127.0.0.1'")" = 1 ]; }
until_true 50 sleeping
kill -INT $sleeper 2>/dev/null
q "select pg_cancel_backend(pid) from pg_stat_activity where query = 'select pg_sleep(30)'" >/dev/null
wait $sleeper
grep -q 'canceling statement' cancel.out || fail "not cancelled: $(cat cancel.out)"
kill -INT $postgres
wait $postgres || fail "postgres ended with $?"
`)
}
