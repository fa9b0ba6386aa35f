-- KEYS: sizes, total   ARGV: digest, its entry when its content went
-- Nothing is done when it was listed anew since.
-- 0 for what is none, or damaged: it keeps nobody from putting files.
local function number(text)
  local found = tonumber(text or '0') or 0
  return found >= 0 and found < 2 ^ 53 and found or 0
end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
local total = number(redis.call('GET', KEYS[2]))
local size = number(string.match(ARGV[2], '^%d+'))
if total > size then redis.call('SET', KEYS[2], string.format('%.0f', total - size)) else redis.call('DEL', KEYS[2]) end
return 1
