-- KEYS: sizes, total   ARGV: digest, its bytes, bytes that all may have, a mark that is new, 'look' to change nothing
-- An entry is "bytes mark". Returns 0 when there is no room.
local before = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+') or '0')
local total = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local grows = tonumber(ARGV[2]) - before
if grows > 0 and total + grows > tonumber(ARGV[3]) then return 0 end
if ARGV[5] == 'look' then return 1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
redis.call('SET', KEYS[2], string.format('%.0f', total + grows))
return 1
