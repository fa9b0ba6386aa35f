-- KEYS: tree, meta, anchors, refs, children, people
-- ARGV: what the key of a person's turns begins with, seconds that the count of resets is kept without a turn
-- Returns how many turns there were. UNLINK frees them in another thread.
local turns = redis.call('HLEN', KEYS[1])
-- A damaged count begins anew, with a number that it never had.
if type(redis.pcall('HINCRBY', KEYS[2], 'epoch', 1)) ~= 'number' then
  redis.call('HSET', KEYS[2], 'epoch', redis.call('TIME')[1])
end
redis.call('HDEL', KEYS[2], 'head')
for _, person in ipairs(redis.call('SMEMBERS', KEYS[6])) do redis.call('UNLINK', ARGV[1] .. person) end
-- `finish` keeps it.
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('UNLINK', KEYS[1], KEYS[3], KEYS[4], KEYS[5], KEYS[6])
return turns
