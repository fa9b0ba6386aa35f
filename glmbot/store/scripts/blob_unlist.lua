-- KEYS: sizes, total   ARGV: digest, its entry when its content went
-- Nothing is done when it was listed anew since.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local total = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local size = tonumber(string.match(ARGV[2], '^%d+') or '0')
if total > size then redis.call('SET', KEYS[2], string.format('%.0f', total - size)) else redis.call('DEL', KEYS[2]) end
return 1
