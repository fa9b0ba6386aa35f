-- KEYS: inbox   ARGV: user
-- Drops this user's messages that were not yet answered to the end, in a conversation of several people.
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local update = string.match(field, '^message (.+)$') or string.match(field, '^dead (.+)$')
  if update and cjson.decode(string.match(redis.call('HGET', KEYS[1], field), '\n({.+)$')).user == ARGV[1] then
    redis.call('HDEL', KEYS[1], field, 'answer ' .. update, 'turn ' .. update)
    for _, mark in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.sub(mark, 1, #update + 6) == 'mark ' .. update .. ' ' then
        redis.call('HDEL', KEYS[1], mark)
      end
    end
  end
end
return 1
