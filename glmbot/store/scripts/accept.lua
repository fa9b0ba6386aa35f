-- KEYS: inbox, seen, turns, anchors   ARGV: update id, message, now, oldest update to remember, oldest turn to keep
-- Returns 1 for a new message, 2 for one that came before and is still to be answered, 0 for one that was answered.
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4])
if tonumber(ARGV[5]) >= 0 then
  local gone = {}
  local turns = redis.call('HGETALL', KEYS[3])
  for i = 1, #turns, 2 do
    if tonumber(string.match(turns[i + 1], '^%d+ %S+ (%S+)\n')) < tonumber(ARGV[5]) then
      gone[turns[i]] = true
      redis.call('HDEL', KEYS[3], turns[i])
    end
  end
  if next(gone) then
    local anchors = redis.call('HGETALL', KEYS[4])
    for i = 1, #anchors, 2 do
      if gone[string.match(anchors[i + 1], '^%d+')] then redis.call('HDEL', KEYS[4], anchors[i]) end
    end
  end
end
if redis.call('ZADD', KEYS[2], 'NX', ARGV[3], ARGV[1]) == 0 then
  return 2 * redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[1])
end
local arrival = redis.call('HINCRBY', KEYS[1], 'arrivals', 1)
redis.call('HSET', KEYS[1], 'message ' .. ARGV[1], arrival .. ' ' .. ARGV[3] .. '\n' .. ARGV[2])
return 1
