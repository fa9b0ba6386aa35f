-- KEYS: tree, meta, anchors, refs, children, people
-- ARGV: the state of the conversation when the turns were read, the last id that was expected, what the key of a
-- person's turns begins with, then of each turn: id, parent, user, time, turn, ref of its question, how many refs its
-- answer stands in, and these
-- Returns 0, and writes nothing, when something was removed since: it may be one of these.
local meta = redis.call('HMGET', KEYS[2], 'epoch', 'removed')
if (meta[1] or '0') .. ' ' .. (meta[2] or '0') ~= ARGV[1] then return 0 end
redis.call('PERSIST', KEYS[2])
local i = 4
while i <= #ARGV do
  local id, parent, user, at, body, ref = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  redis.call('HSET', KEYS[1], id, parent .. ' ' .. user .. ' ' .. at .. '\n' .. body)
  redis.call('ZADD', KEYS[5], parent, id)
  redis.call('SADD', KEYS[6], user)
  redis.call('ZADD', ARGV[3] .. user, at, id)
  if ref ~= '' then
    redis.call('HSET', KEYS[3], ref, id .. ' 0')
    redis.call('ZADD', KEYS[4], id, ref)
  end
  for place = 1, ARGV[i + 6] do
    redis.call('HSET', KEYS[3], ARGV[i + 6 + place], id .. ' ' .. place)
    redis.call('ZADD', KEYS[4], id, ARGV[i + 6 + place])
  end
  -- An answer that came late: it is the newest where nobody has gone on meanwhile.
  if tonumber(id) > tonumber(ARGV[2]) and parent ~= '0' and redis.call('HGET', KEYS[2], 'head') == parent then
    redis.call('HSET', KEYS[2], 'head', id)
  end
  i = i + 7 + ARGV[i + 6]
end
return 1
