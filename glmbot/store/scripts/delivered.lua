-- KEYS: inbox   ARGV: update id
redis.call('HDEL', KEYS[1], 'message ' .. ARGV[1], 'answer ' .. ARGV[1])
local prefix = 'mark ' .. ARGV[1] .. ' '
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', KEYS[1], field) end
end
return 1
