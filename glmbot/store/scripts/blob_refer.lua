-- KEYS: blobs, blob_people, meta   ARGV: digest, person, "token {what they call it}", and the state of the
-- conversation when that was read elsewhere, or ''
-- Returns 0, and writes nothing, when something was removed since: it may be this.
if ARGV[4] ~= '' then
  local meta = redis.call('HMGET', KEYS[3], 'epoch', 'removed')
  if (meta[1] or '0') .. ' ' .. (meta[2] or '0') ~= ARGV[4] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], ARGV[3])
local people = redis.call('HGET', KEYS[2], ARGV[1]) or ''
for person in string.gmatch(people, '%S+') do
  if person == ARGV[2] then return 1 end
end
redis.call('HSET', KEYS[2], ARGV[1], people == '' and ARGV[2] or people .. ' ' .. ARGV[2])
return 1
