-- KEYS: the person's files   ARGV: "digest conversation", the reference's token
-- Nothing is done when it was put anew since.
if string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', ' (.+)$') == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
