-- KEYS: what was written, pieces, refs   ARGV: how many pieces, the reference, now, a token that is new
-- Returns the token of the reference, after '=' when it was there before; '' when not all that was written is there
-- any more. Another content of this digest is replaced.
if redis.call('LLEN', KEYS[1]) ~= tonumber(ARGV[1]) then return '' end
if ARGV[1] == '0' then
  redis.call('UNLINK', KEYS[2])
else
  redis.call('PERSIST', KEYS[1])
  redis.call('RENAME', KEYS[1], KEYS[2])
end
local before = string.match(redis.call('HGET', KEYS[3], ARGV[2]) or '', ' (.+)$')
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3] .. ' ' .. (before or ARGV[4]))
return before and '=' .. before or ARGV[4]
