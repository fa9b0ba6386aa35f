-- KEYS: inbox, queue   ARGV: update id
local dead = redis.call('HGET', KEYS[1], 'dead ' .. ARGV[1])
if not dead then return 0 end
local message = string.match(dead, '^[^\n]*\n(.*)$')
redis.call('HSET', KEYS[1], 'message ' .. ARGV[1], message)
redis.call('ZADD', KEYS[2], string.match(message, '^%d+'), ARGV[1])
local known, marks = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'marks ' .. ARGV[1]) or '{}')
if known and type(marks) == 'table' then
  marks['tries'] = nil
  redis.call('HSET', KEYS[1], 'marks ' .. ARGV[1], cjson.encode(marks))
end
redis.call('HDEL', KEYS[1], 'dead ' .. ARGV[1])
return 1
