-- KEYS: refs, pieces   ARGV: the reference, or '' for none, and its token
-- Returns 1 when nobody refers to it any more, and the content is gone. UNLINK frees it in another thread.
if string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', ' (.+)$') == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('UNLINK', KEYS[2])
return 1
