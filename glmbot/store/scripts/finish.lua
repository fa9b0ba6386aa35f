-- KEYS: inbox, claim, tree, meta, anchors, refs, children, people, turns of the person
-- ARGV: this process, update id, answer, epoch, parent or '' for the head, seconds that turns are kept (0: for ever),
-- then, when a turn is to be appended: user, time, turn, ref of its question, then ref and place of its later pieces
-- Returns 1 when the turn was appended, -1 when another process has the conversation.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
if redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[2]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'answer ' .. ARGV[2], ARGV[3]) == 0 then return 0 end
if #ARGV < 10 then return 0 end
if tonumber(redis.call('HGET', KEYS[4], 'epoch') or '0') ~= tonumber(ARGV[4]) then return 0 end
local parent = ARGV[5]
if parent == '' then parent = redis.call('HGET', KEYS[4], 'head') or '0' end
local id = redis.call('HINCRBY', KEYS[4], 'last_id', 1)
redis.call('HSET', KEYS[3], id, parent .. ' ' .. ARGV[7] .. ' ' .. ARGV[8] .. '\n' .. ARGV[9])
redis.call('ZADD', KEYS[7], parent, id)
redis.call('SADD', KEYS[8], ARGV[7])
redis.call('ZADD', KEYS[9], ARGV[8], id)
redis.call('HSET', KEYS[4], 'head', id)
redis.call('HSET', KEYS[1], 'turn ' .. ARGV[2], id)
if ARGV[10] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[10], id .. ' 0')
  redis.call('ZADD', KEYS[6], id, ARGV[10])
end
for i = 11, #ARGV, 2 do
  redis.call('HSET', KEYS[5], ARGV[i], id .. ' ' .. ARGV[i + 1])
  redis.call('ZADD', KEYS[6], id, ARGV[i])
end
for _, key in ipairs({KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]}) do
  if ARGV[6] == '0' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ARGV[6]) end
end
return 1
