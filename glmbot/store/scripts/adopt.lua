-- KEYS: meta, tree, children   ARGV: where turns come from, their shift, ids to be kept free, their head, their epoch
-- Makes room in a conversation for the turns of another one, which it follows from now on. Returns -1, or the last id
-- where another one was given out here since the shift was taken.
local from = 'from ' .. ARGV[1]
if redis.call('HGET', KEYS[1], from) == ARGV[2] then return -1 end
local last = tonumber(redis.call('HGET', KEYS[1], 'last_id') or '0')
if last ~= tonumber(ARGV[2]) then return last end
redis.call('PERSIST', KEYS[1])
redis.call('HSET', KEYS[1], from, ARGV[2])
redis.call('HSET', KEYS[1], 'last_id', ARGV[2] + ARGV[3])
if tonumber(ARGV[5]) > tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0') then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[5])
end
if ARGV[4] == '0' then return -1 end
local head = string.format('%d', ARGV[4] + ARGV[2])
if (redis.call('HGET', KEYS[1], 'head') or '0') == '0' then
  redis.call('HSET', KEYS[1], 'head', head)
  return -1
end
for _, child in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], 0, 0)) do
  local rest = string.match(redis.call('HGET', KEYS[2], child) or '', '^%d+(.*)$')
  if rest then redis.call('HSET', KEYS[2], child, head .. rest) end
  redis.call('ZADD', KEYS[3], head, child)
end
return -1
