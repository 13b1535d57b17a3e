package apps

import "testing"

// TestRedis: redis-benchmark with and without pipelining, then the counts that
// it must have left; a bulk load, publish and subscribe, a replica.
func TestRedis(t *testing.T) {
	s := newScene(t, "redis-server", "redis-benchmark", "redis-cli")
	s.data("value", 3<<20)
	s.mkdir("one")
	s.mkdir("two")
	s.bash(`
start redis redis-server --port 6379 --bind 127.0.0.1 ::1 --save '' --dir "$D/one" --tcp-keepalive 10 --daemonize no
redis=$!
listening 6379
r() { redis-cli -p 6379 "$@"; }
redis-benchmark -p 6379 -c 20 -n 4000 -t set,get,incr,lpush -q >bench1.log || fail "redis-benchmark"
redis-benchmark -p 6379 -c 10 -n 20000 -P 16 -t incr -q >bench2.log || fail "redis-benchmark -P"
equal incr "$(r get counter:__rand_int__)" 24000
equal lpush "$(r llen mylist)" 4000
grep -q 'requests per second' bench1.log || fail "no rates: $(cat bench1.log)"
r -x set blob <value >/dev/null
equal "strlen of the blob" "$(r strlen blob)" $(stat -c %s value)
r get blob | head -c $(stat -c %s value) >blob.back
same blob blob.back value
r flushall >/dev/null
for i in $(seq 5000); do printf '*3\r\n$3\r\nSET\r\n$%d\r\nk%d\r\n$%d\r\nv%d\r\n' $((1 + ${#i})) $i $((1 + ${#i})) $i; done >load
equal "bulk load" "$(r --pipe <load | tail -1)" "errors: 0, replies: 5000"
equal dbsize "$(r dbsize)" 5000
equal k4321 "$(redis-cli -h ::1 get k4321)" v4321
# Publish and subscribe: the messages arrive, in order.
redis-cli -p 6379 subscribe news >sub.out & sub=$!
subscribed() { [ "$(r pubsub numsub news | tail -1)" = 1 ]; }
until_true 50 subscribed
for i in $(seq 200); do echo "publish news item$i"; done | r >/dev/null
arrived() { [ "$(grep -c '^item' sub.out)" = 200 ]; }
until_true 50 arrived
stop $sub
equal "messages in order" "$(grep '^item' sub.out | sed s/item// | sha256sum)" "$(seq 200 | sha256sum)"
# A replica copies everything.
start replica redis-server --port 6380 --bind 127.0.0.1 --save '' --dir "$D/two" --replicaof 127.0.0.1 6379 --repl-diskless-sync-delay 0
replica=$!
listening 6380
digest() { redis-cli -p $1 eval "local s = '' for i = 1, 5000 do s = redis.sha1hex(s .. redis.call('get', 'k' .. i)) end return s" 0; }
copied() { [ "$(redis-cli -p 6380 dbsize)" = 5000 ]; }
until_true 150 copied
r set after replication >/dev/null
followed() { [ "$(redis-cli -p 6380 get after)" = replication ]; }
until_true 50 followed
equal "replica's digest" "$(digest 6380)" "$(digest 6379)"
redis-cli -p 6380 shutdown nosave
r shutdown nosave
wait $redis || fail "redis ended with $?"
wait $replica || fail "replica ended with $?"
`)
}
