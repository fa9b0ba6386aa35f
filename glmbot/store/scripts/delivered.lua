-- KEYS: inbox, turns, anchors   ARGV: update id, then the refs that the answer stands in
local turn = redis.call('HGET', KEYS[1], 'turn ' .. ARGV[1])
if turn and redis.call('HEXISTS', KEYS[2], turn) == 1 then
  for i = 2, #ARGV do redis.call('HSET', KEYS[3], ARGV[i], turn .. ' ' .. (i - 1)) end
end
redis.call('HDEL', KEYS[1], 'message ' .. ARGV[1], 'answer ' .. ARGV[1], 'turn ' .. ARGV[1])
local prefix = 'mark ' .. ARGV[1] .. ' '
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', KEYS[1], field) end
end
return 1
