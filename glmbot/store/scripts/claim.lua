-- KEYS: inbox, claim, queue   ARGV: this process, how long in ms, a process whose claim may be taken or '', how many
-- Takes or keeps the claim while there is something to answer, and gives it up when there is not.
-- Returns who has it now; when that is this process, then also update id, message and marks of each.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return {holder} end
local found = {ARGV[1]}
for _, update in ipairs(redis.call('ZRANGE', KEYS[3], 0, ARGV[4] - 1)) do
  local message = redis.call('HGET', KEYS[1], 'message ' .. update)
  if message then
    found[#found + 1] = update
    found[#found + 1] = message
    found[#found + 1] = redis.call('HGET', KEYS[1], 'marks ' .. update) or '{}'
  else
    redis.call('ZREM', KEYS[3], update)
  end
end
if #found > 1 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[2])
end
return found
