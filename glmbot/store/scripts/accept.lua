-- KEYS: inbox, seen, turns   ARGV: update id, message, now, oldest update to remember, oldest turn to keep
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4])
while true do
  local first = redis.call('LINDEX', KEYS[3], 0)
  if not first then break end
  local at = tonumber(string.match(first, '^%d+ %S+ (%S+)\n'))
  if at >= tonumber(ARGV[5]) then break end
  redis.call('LPOP', KEYS[3])
end
if redis.call('ZADD', KEYS[2], 'NX', ARGV[3], ARGV[1]) == 0 then return 0 end
local arrival = redis.call('HINCRBY', KEYS[1], 'arrivals', 1)
redis.call('HSET', KEYS[1], 'message ' .. ARGV[1], arrival .. ' ' .. ARGV[3] .. '\n' .. ARGV[2])
return 1
