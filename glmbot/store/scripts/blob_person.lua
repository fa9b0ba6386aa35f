-- KEYS: the person's files   ARGV: "digest conversation", its bytes, bytes they may have or '', how many or '',
-- the reference's token, or '' to change nothing
-- An entry is "bytes token". Returns 0 when there is no room. As many as are allowed are added up in a millisecond.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and ARGV[3] ~= '' then
  local used, count = tonumber(ARGV[2]), 1
  for _, entry in ipairs(redis.call('HVALS', KEYS[1])) do
    used, count = used + (tonumber(string.match(entry, '^%d+')) or 0), count + 1
  end
  if used > tonumber(ARGV[3]) or count > tonumber(ARGV[4]) then return 0 end
end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[5]) end
return 1
