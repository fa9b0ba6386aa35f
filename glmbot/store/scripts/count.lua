-- KEYS: one sorted set of questions by time for each owner   ARGV: question, now, seconds that count, limit of each owner (0: none)
-- Counts the question for every owner, unless one of them has used up its limit. Returns the seconds to wait, as text.
local id, now, span = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local wait = 0
for i, key in ipairs(KEYS) do
  if redis.call('ZSCORE', key, id) then return '0' end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - span)
  local limit = tonumber(ARGV[3 + i])
  if limit > 0 and redis.call('ZCARD', key) >= limit then
    local first = redis.call('ZRANGE', key, -limit, -limit, 'WITHSCORES')
    wait = math.max(wait, tonumber(first[2]) + span - now)
  end
end
if wait > 0 then return string.format('%.17g', wait) end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, ARGV[2], id)
  redis.call('EXPIRE', key, math.ceil(span) + 1)
end
return '0'
