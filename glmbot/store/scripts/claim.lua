-- KEYS: inbox, claim   ARGV: this process, how long in ms, a process whose claim may be taken or ''
-- Takes or keeps the claim while there is something to answer, and gives it up when there is not.
-- Returns who has it now; when that is this process, then also fields and values of the messages and their marks.
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then return {holder} end
local found = {ARGV[1]}
local any = false
local inbox = redis.call('HGETALL', KEYS[1])
for i = 1, #inbox, 2 do
  local kind = string.match(inbox[i], '^%a+')
  if kind == 'message' or kind == 'mark' then
    any = any or kind == 'message'
    found[#found + 1] = inbox[i]
    found[#found + 1] = inbox[i + 1]
  end
end
if any then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return found
end
redis.call('DEL', KEYS[2])
return {ARGV[1]}
