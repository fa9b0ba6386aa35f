-- KEYS: turns, meta, anchors   ARGV: a user whose turns go, or '' and the one turn that goes
-- What followed a turn that goes follows its parent. Returns how many went.
local removed = 0
local function remove(id)
  local turn = redis.call('HGET', KEYS[1], id)
  if not turn then return end
  local parent = string.match(turn, '^%d+')
  redis.call('HDEL', KEYS[1], id)
  removed = removed + 1
  local turns = redis.call('HGETALL', KEYS[1])
  for i = 1, #turns, 2 do
    local before, rest = string.match(turns[i + 1], '^(%d+)(.*)$')
    if before == id then redis.call('HSET', KEYS[1], turns[i], parent .. rest) end
  end
  if redis.call('HGET', KEYS[2], 'head') == id then redis.call('HSET', KEYS[2], 'head', parent) end
  local anchors = redis.call('HGETALL', KEYS[3])
  for i = 1, #anchors, 2 do
    if string.match(anchors[i + 1], '^%d+') == id then redis.call('HDEL', KEYS[3], anchors[i]) end
  end
end
if ARGV[1] == '' then
  remove(ARGV[2])
  return removed
end
local turns = redis.call('HGETALL', KEYS[1])
for i = 1, #turns, 2 do
  if string.match(turns[i + 1], '^%d+ (%S+) ') == ARGV[1] then remove(turns[i]) end
end
return removed
