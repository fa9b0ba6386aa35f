-- KEYS: inbox   ARGV: update id, then name and value of each mark
if redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[1]) == 0 then return 0 end
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], 'mark ' .. ARGV[1] .. ' ' .. ARGV[i], ARGV[i + 1])
end
return 1
