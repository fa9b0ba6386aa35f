-- KEYS: sizes, total   ARGV: digest, its bytes, bytes that all may have, a mark that is new, 'look' to change nothing
-- An entry is "bytes mark". Returns 0 when there is no room.
-- 0 for what is none, or damaged: it keeps nobody from putting files.
local function number(text)
  local found = tonumber(text or '0') or 0
  return found >= 0 and found < 2 ^ 53 and found or 0
end
local before = number(string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^%d+'))
local total = number(redis.call('GET', KEYS[2]))
local grows = tonumber(ARGV[2]) - before
if grows > 0 and total + grows > tonumber(ARGV[3]) then return 0 end
if ARGV[5] == 'look' then return 1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
redis.call('SET', KEYS[2], string.format('%.0f', total + grows))
return 1
