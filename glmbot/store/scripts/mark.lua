-- KEYS: inbox, claim   ARGV: this process, update id, then name and value of each mark
-- Returns -1 when another process has the conversation.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return -1 end
if redis.call('HEXISTS', KEYS[1], 'message ' .. ARGV[2]) == 0 then return 0 end
local known, marks = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'marks ' .. ARGV[2]) or '{}')
if not known or type(marks) ~= 'table' then marks = {} end
for i = 3, #ARGV, 2 do marks[ARGV[i]] = ARGV[i + 1] end
redis.call('HSET', KEYS[1], 'marks ' .. ARGV[2], cjson.encode(marks))
return 1
