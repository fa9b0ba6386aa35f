-- KEYS: inbox, turns, meta, anchors   ARGV: update id, answer, epoch, parent or '' for the head,
-- then, when a turn is to be appended: user, time, turn, ref of its question
if redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[1]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'answer ' .. ARGV[1], ARGV[2]) == 0 then return 0 end
if #ARGV < 8 then return 0 end
if tonumber(redis.call('HGET', KEYS[3], 'epoch') or '0') ~= tonumber(ARGV[3]) then return 0 end
local parent = ARGV[4]
if parent == '' then parent = redis.call('HGET', KEYS[3], 'head') or '0' end
local id = redis.call('HINCRBY', KEYS[3], 'last_id', 1)
redis.call('HSET', KEYS[2], id, parent .. ' ' .. ARGV[5] .. ' ' .. ARGV[6] .. '\n' .. ARGV[7])
redis.call('HSET', KEYS[3], 'head', id)
redis.call('HSET', KEYS[1], 'turn ' .. ARGV[1], id)
if ARGV[8] ~= '' then redis.call('HSET', KEYS[4], ARGV[8], id .. ' 0') end
return 1
