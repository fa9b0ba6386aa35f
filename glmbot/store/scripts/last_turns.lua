-- KEYS: turns, meta   ARGV: how many, the last one or '' for the head
-- Returns id and turn of each, newest first.
local id = ARGV[2]
if id == '' then id = redis.call('HGET', KEYS[2], 'head') or '0' end
local found = {}
while #found < 2 * tonumber(ARGV[1]) do
  local turn = redis.call('HGET', KEYS[1], id)
  if not turn then break end
  found[#found + 1] = id
  found[#found + 1] = turn
  id = string.match(turn, '^%d+') or '0'
end
return found
