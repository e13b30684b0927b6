# A Redis server, alone recorded, and its clients.  Threads of its own parse requests, and its main thread frees them.
redis-server --port 0 --unixsocket here --save '' --io-threads 4 --io-threads-do-reads yes >/dev/null &
server=$!
unset LD_PRELOAD
until redis-cli -s here ping >/dev/null 2>&1; do
    kill -0 $server || exit 1
done
redis-benchmark -s here -q -c 40 -P 8 -n 4000 -r 2000 -d 100 -t set,get,lpush,lpop,sadd,hset
redis-cli -s here shutdown nosave
wait $server
