-- KEYS: inbox, claim, queue   ARGV: this process, update id, time and reason
-- Returns -1 when another process has the conversation.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
redis.call('ZREM', KEYS[3], ARGV[2])
local message = redis.call('HGET', KEYS[1], 'message ' .. ARGV[2])
if not message then return 0 end
redis.call('HSET', KEYS[1], 'dead ' .. ARGV[2], ARGV[3] .. '\n' .. message)
redis.call('HDEL', KEYS[1], 'message ' .. ARGV[2])
return 1
