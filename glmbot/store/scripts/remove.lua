-- KEYS: tree, meta, anchors, refs, children, people, turns of the person   ARGV: the person, then ids of their turns
-- What followed a turn that goes follows its parent. Returns how many went.
local removed = 0
-- Who has read turns that they are about to write must not bring these back.
local counted = redis.pcall('HINCRBY', KEYS[2], 'removed', 1)
-- A damaged count begins anew, with a number that it never had.
if type(counted) ~= 'number' then
  local now = redis.call('TIME')
  redis.call('HSET', KEYS[2], 'removed', now[1] .. string.format('%06d', now[2]))
end
for i = 2, #ARGV do
  local id = ARGV[i]
  local turn = redis.call('HGET', KEYS[1], id)
  if turn then
    local parent = string.match(turn, '^%d+') or '0'
    redis.call('HDEL', KEYS[1], id)
    removed = removed + 1
    for _, child in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], id, id)) do
      local rest = string.match(redis.call('HGET', KEYS[1], child) or '', '^%d+(.*)$')
      if rest then redis.call('HSET', KEYS[1], child, parent .. rest) end
      redis.call('ZADD', KEYS[5], parent, child)
    end
    if redis.call('HGET', KEYS[2], 'head') == id then redis.call('HSET', KEYS[2], 'head', parent) end
  end
  redis.call('ZREM', KEYS[5], id)
  redis.call('ZREM', KEYS[7], id)
  local refs = redis.call('ZRANGEBYSCORE', KEYS[4], id, id)
  if #refs > 0 then
    redis.call('HDEL', KEYS[3], unpack(refs))
    redis.call('ZREM', KEYS[4], unpack(refs))
  end
end
if redis.call('EXISTS', KEYS[7]) == 0 then redis.call('SREM', KEYS[6], ARGV[1]) end
return removed
