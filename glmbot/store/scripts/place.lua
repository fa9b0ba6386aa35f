-- KEYS: places of a person   ARGV: conversation, time, seconds
-- Where somebody has only written, and nothing came of it, is forgotten with the ids of what they wrote; `note` keeps
-- it where there are turns.
local first = redis.call('EXISTS', KEYS[1]) == 0
redis.call('ZADD', KEYS[1], 'NX', ARGV[2], ARGV[1])
if first or redis.call('TTL', KEYS[1]) >= 0 then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
