-- KEYS: a claim or a lease   ARGV: this process
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
