-- Reads, sets or resets a quota as Tyk keeps it: what was used, and the renewal as the key's life.
-- KEYS: the quota's. ARGV: `read`, `set` or `reset`; for `set` what was used and ms to renewal where none is known.
local key = KEYS[1]
if ARGV[1] == 'reset' then
  redis.call('DEL', key)
elseif ARGV[1] == 'set' then
  local renewal = tonumber(ARGV[3])
  if redis.call('PTTL', key) > 0 then
    redis.call('SET', key, ARGV[2], 'KEEPTTL')
  elseif renewal > 0 then
    redis.call('SET', key, ARGV[2], 'PX', ARGV[3])
  else
    redis.call('SET', key, ARGV[2])
  end
end
return {tonumber(redis.call('GET', key) or '-1') or -1, redis.call('PTTL', key)}
