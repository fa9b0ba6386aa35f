-- KEYS: tree, meta, anchors, refs   ARGV: the turn that the next one follows, then refs, each with its turn
-- Returns 1, or 0 when there is no such turn.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], 'head', ARGV[1])
for i = 2, #ARGV, 2 do
  if redis.call('HEXISTS', KEYS[1], ARGV[i + 1]) == 1 then
    redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1] .. ' 0')
    redis.call('ZADD', KEYS[4], ARGV[i + 1], ARGV[i])
  end
end
-- Where turns have an end, what finds them has the same.
local ends = redis.call('TTL', KEYS[1])
if ends > 0 and #ARGV > 1 then
  redis.call('EXPIRE', KEYS[3], ends)
  redis.call('EXPIRE', KEYS[4], ends)
end
return 1
