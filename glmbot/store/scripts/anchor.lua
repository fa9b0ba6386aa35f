-- KEYS: tree, anchors, refs   ARGV: turn, then the refs that its answer stands in
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[1] .. ' ' .. (i - 1))
  redis.call('ZADD', KEYS[3], ARGV[1], ARGV[i])
end
return 1
