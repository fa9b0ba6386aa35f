-- KEYS: inbox   ARGV: update id
local dead = redis.call('HGET', KEYS[1], 'dead ' .. ARGV[1])
if not dead then return 0 end
redis.call('HSET', KEYS[1], 'message ' .. ARGV[1], string.match(dead, '^[^\n]*\n(.*)$'))
redis.call('HDEL', KEYS[1], 'dead ' .. ARGV[1], 'mark ' .. ARGV[1] .. ' tries')
return 1
