-- KEYS: the lease   ARGV: this process, how long in ms, a process whose lease may be taken or ''
-- Returns who has it now.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return holder end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
