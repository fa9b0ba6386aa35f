-- KEYS: turns, meta, anchors
local turns = redis.call('HLEN', KEYS[1])
redis.call('HINCRBY', KEYS[2], 'epoch', 1)
redis.call('HDEL', KEYS[2], 'head')
redis.call('DEL', KEYS[1], KEYS[3])
return turns
