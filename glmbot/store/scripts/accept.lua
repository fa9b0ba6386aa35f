-- KEYS: inbox, seen, queue   ARGV: update id, message, now, oldest update to remember, how long ids are kept in s
-- Returns 1 for a new message, 2 for one that came before and is still to be answered, 0 for one that was answered.
local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[4], 'LIMIT', 0, 50)
if #old > 0 then redis.call('ZREM', KEYS[2], unpack(old)) end
if redis.call('ZADD', KEYS[2], 'NX', ARGV[3], ARGV[1]) == 0 then
  return 2 * redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[1])
end
redis.call('EXPIRE', KEYS[2], ARGV[5])
local arrival = redis.call('HINCRBY', KEYS[1], 'arrivals', 1)
redis.call('HSET', KEYS[1], 'message ' .. ARGV[1], arrival .. ' ' .. ARGV[3] .. '\n' .. ARGV[2])
redis.call('ZADD', KEYS[3], arrival, ARGV[1])
-- What is left of a conversation that was moved has an end.
redis.call('PERSIST', KEYS[1])
return 1
