-- KEYS: one sorted set of questions by time for each owner   ARGV: question, now, seconds that count, limit of each owner (0: none)
-- Counts the question for every owner, unless one of them has used up its limit. Returns the seconds to wait, as text.
-- What stands further in the future than the span was asked before the clock was put back, and does not count.
local id, now, span = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local wait = 0
for i, key in ipairs(KEYS) do
  if redis.call('ZSCORE', key, id) then return '0' end
  for _, old in ipairs({{'-inf', string.format('%.17g', now - span)}, {string.format('(%.17g', now + span), '+inf'}}) do
    local gone = redis.call('ZRANGEBYSCORE', key, old[1], old[2], 'LIMIT', 0, 100)
    if #gone > 0 then redis.call('ZREM', key, unpack(gone)) end
  end
  local limit = tonumber(ARGV[3 + i])
  if limit > 0 then
    local first = redis.call('ZREVRANGEBYSCORE', key, string.format('%.17g', now + span),
      string.format('(%.17g', now - span), 'WITHSCORES', 'LIMIT', limit - 1, 1)
    if first[2] then wait = math.max(wait, math.min(span, tonumber(first[2]) + span - now)) end
  end
end
if wait > 0 then return string.format('%.17g', wait) end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, ARGV[2], id)
  redis.call('EXPIRE', key, math.ceil(span) + 1)
end
return '0'
