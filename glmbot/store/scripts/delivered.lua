-- KEYS: inbox, claim, tree, anchors, refs, queue, meta
-- ARGV: this process, update id, seconds that what is left is kept, then the refs that the answer stands in
-- Returns -1 when another process has the conversation; where the turn went, and its id, when it was moved away.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
local moved = 1
local turn = redis.call('HGET', KEYS[1], 'turn ' .. ARGV[2])
if turn then
  if redis.call('HEXISTS', KEYS[3], turn) == 1 then
    for i = 4, #ARGV do
      redis.call('HSET', KEYS[4], ARGV[i], turn .. ' ' .. (i - 3))
      redis.call('ZADD', KEYS[5], turn, ARGV[i])
    end
  else
    local to = redis.call('HGET', KEYS[7], 'moved')
    if to then moved = to .. ' ' .. turn end
  end
end
for _, kind in ipairs({'message ', 'dead ', 'answer ', 'turn ', 'marks '}) do
  redis.call('HDEL', KEYS[1], kind .. ARGV[2])
end
redis.call('ZREM', KEYS[6], ARGV[2])
-- The count of arrivals is all that is left, and `accept` keeps it.
if redis.call('HLEN', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return moved
