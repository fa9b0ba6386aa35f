-- KEYS: inbox, claim, turns, anchors   ARGV: this process, update id, then the refs that the answer stands in
-- Returns -1 when another process has the conversation.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
local turn = redis.call('HGET', KEYS[1], 'turn ' .. ARGV[2])
if turn and redis.call('HEXISTS', KEYS[3], turn) == 1 then
  for i = 3, #ARGV do redis.call('HSET', KEYS[4], ARGV[i], turn .. ' ' .. (i - 2)) end
end
redis.call('HDEL', KEYS[1], 'message ' .. ARGV[2], 'dead ' .. ARGV[2], 'answer ' .. ARGV[2], 'turn ' .. ARGV[2])
local prefix = 'mark ' .. ARGV[2] .. ' '
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', KEYS[1], field) end
end
return 1
