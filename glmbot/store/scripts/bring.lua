-- KEYS: inbox, seen, queue, meta
-- ARGV: the state of the conversation when the message was read, update id, its time, then kind and value of each field
-- Returns 0, and writes nothing, when something was removed since: it may be this one.
local meta = redis.call('HMGET', KEYS[4], 'epoch', 'removed')
if (meta[1] or '0') .. ' ' .. (meta[2] or '0') ~= ARGV[1] then return 0 end
-- One that has been seen here was written by an interrupted move, and may be answered by now.
if redis.call('ZADD', KEYS[2], 'NX', ARGV[3], ARGV[2]) == 0 then return 1 end
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i] .. ' ' .. ARGV[2], ARGV[i + 1])
  if ARGV[i] == 'message' then
    redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[1], 'arrivals', 1), ARGV[2])
  end
end
redis.call('PERSIST', KEYS[1])
return 1
