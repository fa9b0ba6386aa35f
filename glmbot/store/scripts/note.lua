-- KEYS: a book's notes, their names   ARGV: a name, its version, the next one, whose it is, its text, how many at most
-- Returns 1, 0 where the stored one is of another version, and -1 where the book is full. No text takes it out.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if (held and string.match(held, '^%d+') or '0') ~= ARGV[2] then return 0 end
if ARGV[5] == '' then
    redis.call('HDEL', KEYS[1], ARGV[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
    return 1
end
if not held and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3] .. ' ' .. ARGV[4] .. '\n' .. ARGV[5])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return 1
