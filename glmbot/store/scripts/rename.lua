-- KEYS: tree, people, turns of the person under the old number, under the new one   ARGV: both numbers, then turn ids
-- Returns how many turns there were.
local renamed = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local turn = redis.call('HGET', KEYS[1], id)
  local parent, user, at, rest = string.match(turn or '', '^(%d+) (%S+) (%S+)(\n.*)$')
  if user == ARGV[1] then
    redis.call('HSET', KEYS[1], id, parent .. ' ' .. ARGV[2] .. ' ' .. at .. rest)
    redis.call('ZADD', KEYS[4], at, id)
    redis.call('SADD', KEYS[2], ARGV[2])
    renamed = renamed + 1
  end
  redis.call('ZREM', KEYS[3], id)
end
return renamed
