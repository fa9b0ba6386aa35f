-- KEYS: inbox, claim, queue   ARGV: this process, update id, what its message is now, then update ids of the others
-- Returns -1 when another process has the conversation.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
local message = redis.call('HGET', KEYS[1], 'message ' .. ARGV[2])
if not message then return 0 end
redis.call('HSET', KEYS[1], 'message ' .. ARGV[2], string.match(message, '^[^\n]*\n') .. ARGV[3])
redis.call('HDEL', KEYS[1], 'answer ' .. ARGV[2], 'turn ' .. ARGV[2])
for i = 4, #ARGV do
  for _, kind in ipairs({'message ', 'dead ', 'answer ', 'turn ', 'marks '}) do
    redis.call('HDEL', KEYS[1], kind .. ARGV[i])
  end
  redis.call('ZREM', KEYS[3], ARGV[i])
end
return 1
