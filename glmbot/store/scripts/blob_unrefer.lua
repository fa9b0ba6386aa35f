-- KEYS: blobs, blob_people   ARGV: digest, person, the reference's token
-- Returns 2 when the conversation has no file any more, else 1. Nothing is done when it was put anew since.
local field = ARGV[1] .. ' ' .. ARGV[2]
local meant = redis.call('HGET', KEYS[1], field)
if not meant or string.match(meant, '^(%S+)') == ARGV[3] then
  redis.call('HDEL', KEYS[1], field)
  local left = {}
  for person in string.gmatch(redis.call('HGET', KEYS[2], ARGV[1]) or '', '%S+') do
    if person ~= ARGV[2] then left[#left + 1] = person end
  end
  if #left > 0 then
    redis.call('HSET', KEYS[2], ARGV[1], table.concat(left, ' '))
  else
    redis.call('HDEL', KEYS[2], ARGV[1])
  end
end
return redis.call('EXISTS', KEYS[1]) == 1 and 1 or 2
