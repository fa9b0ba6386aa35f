-- KEYS: turns, meta
local turns = redis.call('LLEN', KEYS[1])
redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('DEL', KEYS[1])
return turns
