-- KEYS: inbox, turns, meta   ARGV: update id, answer, epoch, id of the first turn to replace or '',
-- then, when a turn is to be appended: user, time, turn
if redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[1]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'answer ' .. ARGV[1], ARGV[2]) == 0 then return 0 end
if #ARGV < 7 then return 0 end
if tonumber(redis.call('HGET', KEYS[3], 'epoch') or '0') ~= tonumber(ARGV[3]) then return 0 end
if ARGV[4] ~= '' then
  while true do
    local last = redis.call('LINDEX', KEYS[2], -1)
    if not last or tonumber(string.match(last, '^%d+')) < tonumber(ARGV[4]) then break end
    redis.call('RPOP', KEYS[2])
  end
end
local id = redis.call('HINCRBY', KEYS[3], 'last_id', 1)
redis.call('RPUSH', KEYS[2], id .. ' ' .. ARGV[5] .. ' ' .. ARGV[6] .. '\n' .. ARGV[7])
return 1
