-- Takes a session out of the list that it is in (`enter.lua`), if it is in one. There are as many lists as APIs with a plugin
-- that makes sessions.
-- KEYS: the set of all lists; they have its hash tag. ARGV: the session.
local left = 0
for _, list in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  left = left + redis.call('ZREM', list, ARGV[1])
  if redis.call('EXISTS', list) == 0 then redis.call('SREM', KEYS[1], list) end
end
return left
