-- KEYS: inbox, seen, turns, meta   ARGV: user, '1' when the conversation is this user's alone
-- Returns how many turns of the user were removed.
local removed = 0
for _, turn in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do
  if string.match(turn, '^%d+ (%S+) ') == ARGV[1] then
    redis.call('LREM', KEYS[3], 1, turn)
    removed = removed + 1
  end
end
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
else
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local update = string.match(field, '^message (.+)$')
    if update and cjson.decode(string.match(redis.call('HGET', KEYS[1], field), '\n(.+)$')).user == ARGV[1] then
      redis.call('HDEL', KEYS[1], field, 'answer ' .. update)
      for _, mark in ipairs(redis.call('HKEYS', KEYS[1])) do
        if string.sub(mark, 1, #update + 6) == 'mark ' .. update .. ' ' then
          redis.call('HDEL', KEYS[1], mark)
        end
      end
    end
  end
end
return removed
