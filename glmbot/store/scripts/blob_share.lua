-- KEYS: refs   ARGV: a reference, its token, another reference, now, a token that is new
-- Returns the token of the other reference, which is to the same content; '' when the first is there no longer.
if string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', ' (.+)$') ~= ARGV[2] then return '' end
local token = string.match(redis.call('HGET', KEYS[1], ARGV[3]) or '', ' (.+)$') or ARGV[5]
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4] .. ' ' .. token)
return token
